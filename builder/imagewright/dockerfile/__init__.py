"""From a Dockerfile's text to instructions with their places. Pure."""

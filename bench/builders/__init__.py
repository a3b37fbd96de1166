"""The builders that are compared: each builds and pushes one image."""

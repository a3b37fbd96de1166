"""The engine: builds an image from a request, composing all other packages."""

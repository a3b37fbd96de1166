"""HTTP exchanges with registries, token servers and web servers."""

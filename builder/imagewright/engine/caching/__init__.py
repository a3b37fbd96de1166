"""The layer cache as a build uses it."""

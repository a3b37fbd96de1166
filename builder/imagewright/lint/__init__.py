"""Lint for Dockerfiles: BuildKit's build checks, under the same names."""

"""Base images: resolved, downloaded and unpacked."""

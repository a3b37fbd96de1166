"""Image data on the local disk: blobs, OCI image layouts, docker archives."""

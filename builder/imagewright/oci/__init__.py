"""The documents of the OCI image specification as values: descriptors, manifests, indexes, configurations, platforms.

Pure; no I/O. Docker's schema 2 documents have the same shape and other media types, so one class serves both.
"""

"""The documents of the OCI image specification as values: descriptors, manifests, indexes, configurations, platforms.

No I/O. Docker's schema 2 documents have the same shape and other media types, so that one class serves both.
"""

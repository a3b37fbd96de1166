"""COPY and ADD: selecting sources, copying them, extracting archives, hashing them for cache keys."""

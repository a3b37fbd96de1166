"""COPY and ADD: which files a request selects, how they are copied or extracted, and what a cache key sees of them."""

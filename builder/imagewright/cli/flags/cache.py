"""Flags of the caches.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

CACHE_FLAGS: tuple[Flag, ...] = (
    Flag("cache", Kind.BOOLEAN, "", "take layers from a cache, and store new ones there"),
    Flag(
        "cache-repo",
        Kind.TEXT,
        "REPOSITORY|oci:FOLDER",
        "where the cache is; the first destination's repository with /cache if not given",
    ),
    Flag(
        "cache-ttl",
        Kind.TEXT,
        "DURATION",
        "how old what is cached may be, such as 6h; two weeks if not given, 0 is any age",
    ),
    Flag("cache-copy-layers", Kind.BOOLEAN, "", "cache COPY and ADD; true if not given"),
    Flag("cache-run-layers", Kind.BOOLEAN, "", "cache RUN; true if not given"),
    Flag("no-push-cache", Kind.BOOLEAN, "", "store nothing in the cache"),
    Flag("explain-cache", Kind.BOOLEAN, "", "say at the end why a step was not in the cache"),
    Flag(
        "cache-dir",
        Kind.TEXT,
        "FOLDER",
        "where RUN --mount=type=cache and warmed base images live between builds; in the executor image /cache, if it is mounted",
    ),
)

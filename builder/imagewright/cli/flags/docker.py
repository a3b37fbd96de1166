"""Flags that `imagewright build` and `plan` take by docker's names too, where kaniko's executor has its own alone.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

DOCKER_FLAGS: tuple[Flag, ...] = (
    Flag("tag", Kind.LIST, "REFERENCE", "the same as --destination", "t", stands_for="destination"),
)

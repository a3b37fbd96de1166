"""Flags of what is said while a build runs.

No I/O.
"""

from __future__ import annotations

from imagewright.cli.flags.model import Flag, Kind

LOG_FLAGS: tuple[Flag, ...] = (
    Flag("verbosity", Kind.TEXT, "LEVEL", "panic, fatal, error, warn, info, debug or trace", "v"),
    Flag("log-format", Kind.TEXT, "FORMAT", "text, color or json"),
    Flag("log-timestamp", Kind.BOOLEAN, "", "a timestamp before every line of text"),
)

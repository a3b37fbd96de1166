"""Durations in Go's format: ``1h30m``, ``1.5s``. HEALTHCHECK has them in its flags and its history entry.

No I/O.
"""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MAX_NS = 2**63 - 1
_MAX_LENGTH = 200


def parse_duration(text: str) -> int | None:
    """Nanoseconds, or None if ``text`` is not a duration. ``0`` needs no unit."""
    if len(text) > _MAX_LENGTH:
        return None
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = Fraction(0)
    at = 0
    while match := _PART.match(rest, at):
        total += Fraction(match[1] if not match[1].startswith(".") else "0" + match[1]) * _UNITS[match[2]]
        at = match.end()
    if at == 0 or at != len(rest) or total > _MAX_NS:
        return None
    return sign * int(total)


def format_duration(nanoseconds: int) -> str:
    """As Go's ``time.Duration.String``: ``1m30s``, ``1.5s``, ``100ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1_000), ("µs", 1_000_000), ("ms", 1_000_000_000)):
        if nanoseconds < size:
            return f"{_decimal(Fraction(nanoseconds, _UNITS[unit]))}{unit}"
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(Fraction(rest, _UNITS['s']))}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: Fraction) -> str:
    whole, part = divmod(value, 1)
    digits = f"{int(part * 10**9):09d}".rstrip("0")
    return f"{int(whole)}.{digits}" if digits else str(int(whole))

"""Numbers as people read them.

Pure; no I/O. Called by the displays.
"""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes as people read them, in powers of 1000, as registries show them."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if round(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or round(value, 1) >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def duration(seconds: float) -> str:
    """Tenths below a minute, minutes and seconds above."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"

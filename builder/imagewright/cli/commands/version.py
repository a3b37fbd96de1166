"""``imagewright version``. Writes to standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

from imagewright.cli.command import Command, Prepare


def version() -> str:
    """The installed release."""
    return metadata.version("imagewright")


def _print(words: Sequence[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    print(f"imagewright {version()}")
    return 0


COMMANDS = {"version": Command("imagewright version", (), _print)}

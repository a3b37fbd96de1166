"""What the displays have in common: their interface, and how a failure, a size and a duration read.

No I/O. An excerpt holds a command's output and a Dockerfile's lines, and a message may hold a server's answer: their
escapes never reach a terminal.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from imagewright.engine.events import Reporter
from imagewright.errors import ImagewrightError, StepError
from imagewright.terminal import clean


class Level(IntEnum):
    """Everything up to the level is shown, so errors always are."""

    ERROR = 0
    WARN = 1
    INFO = 2
    DEBUG = 3


class Display(Reporter, Protocol):
    """A reporter that also shows why a build failed."""

    def failed(self, error: ImagewrightError) -> None:
        """The build has failed: show message, reason, location, excerpt and hint. Called at most once, at the end."""


def failure_lines(error: ImagewrightError) -> list[str]:
    """Message with reason, location, lines around it, last lines of output, and hint; without escapes."""
    return [clean(line) for line in error.render().split("\n")]


def failure_fields(error: ImagewrightError) -> dict[str, object]:
    """The same as fields, without those that don't apply."""
    fields: dict[str, object] = {"reason": error.reason.value, "hint": error.hint, "instruction": error.instruction}
    if error.location is not None:
        fields |= {"file": error.location.file, "line": error.location.line}
    if isinstance(error, StepError):
        fields["exitCode"] = error.exit_code
    fields["excerpt"] = [clean(line) for line in error.excerpt]
    return {name: value for name, value in fields.items() if value not in ("", [])}


def size(count: int) -> str:
    """A size in bytes for people, in powers of 1000, as registries show it."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if round(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or round(value, 1) >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def duration(seconds: float) -> str:
    """A duration for people: tenths of a second below a minute, minutes and seconds above."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"

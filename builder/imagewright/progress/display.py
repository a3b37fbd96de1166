"""What a display is beyond what the engine needs: it can also say why a build failed. No I/O. Called by ``cli``."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from imagewright.engine.events import Reporter
from imagewright.errors import ImagewrightError


class Level(IntEnum):
    """What is shown: everything up to this. Errors always are."""

    ERROR = 0
    WARN = 1
    INFO = 2
    DEBUG = 3


class Display(Reporter, Protocol):
    """A reporter that has the last word too."""

    def failed(self, error: ImagewrightError) -> None:
        """The build has failed: message, reason, place, excerpt and hint. Called at most once, as the last thing."""

"""Plain lines, for logs: every step when it begins and ends, every line of output.

Writes to a text stream. Called through ``engine.events.Reporter``, from several threads.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from enum import IntEnum
from typing import TextIO

from imagewright.contract import timestamp
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import StepEnded, StepStarted, Transfer
from imagewright.progress.text import Lines, clean, duration, size


class Level(IntEnum):
    """What is shown: everything up to this."""

    ERROR = 0
    WARN = 1
    INFO = 2
    DEBUG = 3


class PlainReporter:
    """Writes lines to ``stream``; ``timestamps`` puts the time before each."""

    def __init__(self, stream: TextIO, level: Level, *, timestamps: bool = False) -> None:
        self._stream = stream
        self._level = level
        self._timestamps = timestamps
        self._lock = threading.RLock()
        self._output = Lines()

    def message(self, text: str) -> None:
        self._say(Level.INFO, text)

    def warning(self, text: str) -> None:
        self._say(Level.WARN, f"warning: {text}")

    def lint(self, warning: DockerfileWarning) -> None:
        self._say(Level.WARN, f"warning: {warning.location}: {warning.message} ({warning.rule})")

    def debug(self, text: str) -> None:
        self._say(Level.DEBUG, text)

    def step_started(self, step: StepStarted) -> None:
        self._output = Lines()
        self._say(Level.INFO, step.label)

    def output(self, step: StepStarted, data: bytes) -> None:
        for line in self._output.add(data):
            self._say(Level.INFO, f"  | {line}")

    def step_ended(self, step: StepEnded) -> None:
        for line in self._output.rest():
            self._say(Level.INFO, f"  | {line}")
        added = f", layer of {size(step.layer_size)}" if step.layer_size else ""
        word = "failed" if step.error is not None else "done"
        self._say(Level.INFO, f"  {word} in {duration(step.seconds)}{added}")

    def transfer(self, transfer: Transfer) -> None:
        if not transfer.finished:
            return
        word = "pulled" if transfer.kind == "pull" else "pushed"
        self._say(Level.DEBUG, f"{word} {transfer.name} ({size(transfer.total)})")

    def close(self) -> None:
        self._stream.flush()

    def _say(self, level: Level, text: str) -> None:
        if level > self._level:
            return
        prefix = f"{timestamp(datetime.now(UTC))} " if self._timestamps else ""
        with self._lock:
            for line in text.split("\n"):
                self.write_line(prefix + clean(line))

    def write_line(self, line: str) -> None:
        """Put one finished line out."""
        self._stream.write(line + "\n")
        self._stream.flush()

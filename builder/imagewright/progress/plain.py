"""Plain lines, for logs: the beginning and end of every step, and every line of output.

Writes to a text stream.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import TextIO

from imagewright.contract import timestamp
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import Phase, StepEnded, StepStarted, Transfer
from imagewright.errors import ImagewrightError, Reason
from imagewright.progress.display import Level, duration, failure_lines, size
from imagewright.terminal import Lines, clean

_MIN_LOGGED_BYTES = 1_000_000  # smaller blobs are logged at debug level


def _ending(step: StepEnded) -> str:
    if step.error is None:
        return "done in"
    return "stopped after" if step.error.reason is Reason.CANCELLED else "failed after"


class PlainReporter:
    """Writes lines to ``stream``, with ``timestamps`` each after its time."""

    def __init__(self, stream: TextIO, level: Level, *, timestamps: bool = False) -> None:
        self._stream = stream
        self._level = level
        self._timestamps = timestamps
        self._lock = threading.Lock()
        self._running: dict[StepStarted, Lines] = {}
        self._last: StepStarted | None = None  # the step of the last line
        self._begun: dict[tuple[str, str], float] = {}

    def message(self, text: str) -> None:
        self._write(Level.INFO, text)

    def warning(self, text: str) -> None:
        self._write(Level.WARN, f"warning: {text}")

    def lint(self, warning: DockerfileWarning) -> None:
        head = f"warning: {warning.location}: {warning.message} [{warning.rule}]"
        self._write(Level.WARN, head, *(f"  {line}" for line in warning.excerpt))

    def debug(self, text: str) -> None:
        self._write(Level.DEBUG, text)

    def step_started(self, step: StepStarted) -> None:
        with self._lock:
            self._running[step] = Lines()
            self._last = step
        self._write(Level.INFO, step.label)

    def output(self, step: StepStarted, data: bytes) -> None:
        with self._lock:
            lines = self._running[step].add(data)
        self._write_step(step, *(f"| {line}" for line in lines))

    def step_ended(self, step: StepEnded) -> None:
        with self._lock:
            rest = self._running[step.started].rest()
        added = f", layer of {size(step.layer_size)}" if step.layer_size else ""
        end = f"cached{added}" if step.cached else f"{_ending(step)} {duration(step.seconds)}{added}"
        self._write_step(step.started, *(f"| {line}" for line in rest), end)
        with self._lock:
            del self._running[step.started]

    def transfer(self, transfer: Transfer) -> None:
        key = (transfer.kind, transfer.name)
        with self._lock:
            begun = self._begun.setdefault(key, time.monotonic())
            if not transfer.finished:
                return
            del self._begun[key]
        if transfer.is_needless:
            self._write(Level.DEBUG, f"  not pushed {transfer.name}: the registry has its {size(transfer.total)}")
            return
        word = "pulled" if transfer.kind == "pull" else "pushed"
        count = transfer.total or transfer.done
        level = Level.INFO if count >= _MIN_LOGGED_BYTES else Level.DEBUG
        self._write(level, f"  {word} {transfer.name}: {size(count)} in {duration(time.monotonic() - begun)}")

    def phase(self, phase: Phase) -> None:
        """Shown by --timings alone."""

    def failed(self, error: ImagewrightError) -> None:
        self._write(Level.ERROR, *failure_lines(error))

    def close(self) -> None:
        self._stream.flush()

    def _write_step(self, step: StepStarted, *lines: str) -> None:
        """Write lines of a step, each with the step's name if other steps run at the same time or ran since."""
        if not lines:
            return
        with self._lock:
            prefix = f"{step.name} " if len(self._running) > 1 or self._last != step else ""
            self._last = step
        self._write(Level.INFO, *(f"  {prefix}{line}" for line in lines))

    def _write(self, level: Level, *lines: str) -> None:
        if level > self._level:
            return
        prefix = f"{timestamp(datetime.now(UTC))} " if self._timestamps else ""
        # In one write: log collectors may mix in lines of other containers between writes.
        text = "".join(f"{prefix}{clean(line)}\n" for given in lines for line in given.split("\n"))
        with self._lock:
            self._stream.write(text)
            self._stream.flush()

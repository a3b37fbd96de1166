"""One JSON object per line, for log collectors. The field names are stable; docs/logging.md lists them.

Writes to a text stream.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import TextIO

from imagewright.contract import timestamp
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import Phase, StepEnded, StepStarted, Transfer
from imagewright.errors import ImagewrightError
from imagewright.progress.display import Level, failure_fields
from imagewright.terminal import Lines, clean

_NAMES = {Level.ERROR: "error", Level.WARN: "warning", Level.INFO: "info", Level.DEBUG: "debug"}


class JsonReporter:
    """Writes events to ``stream``."""

    def __init__(self, stream: TextIO, level: Level) -> None:
        self._stream = stream
        self._level = level
        self._lock = threading.Lock()
        self._running: dict[StepStarted, Lines] = {}

    def message(self, text: str) -> None:
        self._emit(Level.INFO, "message", {"msg": text})

    def warning(self, text: str) -> None:
        self._emit(Level.WARN, "warning", {"msg": text})

    def lint(self, warning: DockerfileWarning) -> None:
        place = {"file": warning.location.file, "line": warning.location.line, "rule": warning.rule}
        self._emit(Level.WARN, "lint", {"msg": warning.message, **place})

    def debug(self, text: str) -> None:
        self._emit(Level.DEBUG, "message", {"msg": text})

    def step_started(self, step: StepStarted) -> None:
        with self._lock:
            self._running[step] = Lines()
        self._emit(Level.INFO, "stepStarted", {"msg": step.label, **_step(step)})

    def output(self, step: StepStarted, data: bytes) -> None:
        with self._lock:
            lines = self._running[step].add(data)
        for line in lines:
            self._emit(Level.INFO, "output", {"msg": line, **_step(step)})

    def step_ended(self, step: StepEnded) -> None:
        with self._lock:
            rest = self._running.pop(step.started).rest()
        for line in rest:
            self._emit(Level.INFO, "output", {"msg": line, **_step(step.started)})
        fields: dict[str, object] = {"seconds": round(step.seconds, 3), "layerSize": step.layer_size}
        if step.cached:
            fields["cached"] = True
        if step.error is not None:
            fields["reason"] = step.error.reason.value
        level = Level.ERROR if step.error is not None else Level.INFO
        self._emit(level, "stepEnded", {"msg": step.started.label, **_step(step.started), **fields})

    def transfer(self, transfer: Transfer) -> None:
        if transfer.finished:
            fields: dict[str, object] = {"kind": transfer.kind, "blob": transfer.name}
            fields["size"] = transfer.total or transfer.done
            if transfer.is_needless:
                fields["sent"] = False
            self._emit(Level.DEBUG, "transfer", {"msg": f"{transfer.kind} {transfer.name}", **fields})

    def phase(self, phase: Phase) -> None:
        """Shown by --timings alone."""

    def failed(self, error: ImagewrightError) -> None:
        self._emit(Level.ERROR, "failed", {"msg": error.message, **failure_fields(error)})

    def close(self) -> None:
        self._stream.flush()

    def _emit(self, level: Level, event: str, fields: dict[str, object]) -> None:
        if level > self._level:
            return
        safe = {name: _clean(value) if isinstance(value, str) else value for name, value in fields.items()}
        line = {"time": timestamp(datetime.now(UTC)), "level": _NAMES[level], "event": event, **safe}
        with self._lock:
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._stream.flush()


def _clean(text: str) -> str:
    """Remove terminal escapes from foreign text: a log may be shown in a terminal, for example by jq."""
    return "\n".join(clean(line) for line in text.split("\n"))


def _step(step: StepStarted) -> dict[str, object]:
    return {"stage": step.stage_label, "step": step.step, "steps": step.steps, "line": step.location.line}

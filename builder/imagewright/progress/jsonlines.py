"""One JSON object a line, for log collectors. The field names are stable; docs/logging.md lists them.

Writes to a text stream. Called through ``engine.events.Reporter``, from several threads.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import TextIO

from imagewright.contract import timestamp
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import StepEnded, StepStarted, Transfer
from imagewright.progress.plain import Level
from imagewright.progress.text import Lines

_NAMES = {Level.ERROR: "error", Level.WARN: "warning", Level.INFO: "info", Level.DEBUG: "debug"}


class JsonReporter:
    """Writes events to ``stream``."""

    def __init__(self, stream: TextIO, level: Level) -> None:
        self._stream = stream
        self._level = level
        self._lock = threading.Lock()
        self._output = Lines()

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
        self._output = Lines()
        self._emit(Level.INFO, "stepStarted", {"msg": step.label, **_step(step)})

    def output(self, step: StepStarted, data: bytes) -> None:
        for line in self._output.add(data):
            self._emit(Level.INFO, "output", {"msg": line, **_step(step)})

    def step_ended(self, step: StepEnded) -> None:
        for line in self._output.rest():
            self._emit(Level.INFO, "output", {"msg": line, **_step(step.started)})
        fields: dict[str, object] = {"seconds": round(step.seconds, 3), "layerSize": step.layer_size}
        if step.error is not None:
            fields["reason"] = step.error.reason.value
        self._emit(Level.INFO, "stepEnded", {"msg": step.started.label, **_step(step.started), **fields})

    def transfer(self, transfer: Transfer) -> None:
        if transfer.finished:
            self._emit(
                Level.DEBUG,
                "transfer",
                {"msg": f"{transfer.kind} {transfer.name}", "blob": transfer.name, "size": transfer.total},
            )

    def close(self) -> None:
        self._stream.flush()

    def _emit(self, level: Level, event: str, fields: dict[str, object]) -> None:
        if level > self._level:
            return
        line = {"time": timestamp(datetime.now(UTC)), "level": _NAMES[level], "event": event, **fields}
        with self._lock:
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._stream.flush()


def _step(step: StepStarted) -> dict[str, object]:
    return {"stage": step.stage_label, "step": step.step, "steps": step.steps, "line": step.location.line}

"""A display that also writes where the time went (``--timings``), around the display that the user sees.

Writes a JSON file when it is closed, and reads clocks and /proc/self/stat.
"""

from __future__ import annotations

import json
import os
import threading
import time

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import Phase, StepEnded, StepStarted, Transfer
from imagewright.engine.output.resultfiles import write_file
from imagewright.errors import ImagewrightError
from imagewright.progress.display import Display
from imagewright.progress.trace import STEP, Span, Trace
from imagewright.records import dataclass


@dataclass(slots=True)
class _Open:
    """What has begun: a step, or an upload, of which ``sent`` bytes are known to have been sent."""

    begin: float
    cpu_seconds: float
    sent: int = 0


class TimedDisplay:
    """Passes everything on to ``display``, records it, and writes the trace to the file ``path`` at the end.

    ``begin`` is when the program was started, of ``time.monotonic``.
    """

    def __init__(self, display: Display, path: str, begin: float) -> None:
        self._display = display
        self._path = path
        self._trace = Trace(begin)
        self._open: dict[object, _Open] = {}
        self._lock = threading.Lock()
        self._trace.start(time.monotonic(), time.thread_time(), threading.get_native_id(), _thread_name())

    def message(self, text: str) -> None:
        self._display.message(text)

    def warning(self, text: str) -> None:
        self._display.warning(text)

    def lint(self, warning: DockerfileWarning) -> None:
        self._display.lint(warning)

    def debug(self, text: str) -> None:
        self._display.debug(text)

    def step_started(self, step: StepStarted) -> None:
        self._begun(step)
        self._display.step_started(step)

    def output(self, step: StepStarted, data: bytes) -> None:
        self._display.output(step, data)

    def step_ended(self, step: StepEnded) -> None:
        self._ended(step.started, STEP, step.started.label)
        self._display.step_ended(step)

    def transfer(self, transfer: Transfer) -> None:
        """Uploads become spans here; a download is a phase, which begins with its request."""
        if transfer.kind == "push":
            key = ("push", transfer.name)
            if transfer.finished:
                self._ended(key, "upload", transfer.name)
            else:
                self._begun(key).sent = transfer.done
        self._display.transfer(transfer)

    def phase(self, phase: Phase) -> None:
        self._add(phase.kind, phase.name, phase.begin, phase.seconds, phase.cpu_seconds, phase.size)
        self._display.phase(phase)

    def failed(self, error: ImagewrightError) -> None:
        self._display.failed(error)

    def close(self) -> None:
        """Write the file, also of a build that failed."""
        for line in self._trace.summary(time.monotonic()):
            self._display.debug(line)
        content = {"traceEvents": self._trace.events(os.getpid()), "displayTimeUnit": "ms"}
        try:
            write_file(self._path, json.dumps(content) + "\n", "--timings")
        except ImagewrightError as error:  # no failure: the image may be pushed already
            self._display.warning(error.message)
        self._display.close()

    def _begun(self, key: object) -> _Open:
        with self._lock:
            return self._open.setdefault(key, _Open(time.monotonic(), time.thread_time()))

    def _ended(self, key: object, kind: str, name: str) -> None:
        with self._lock:
            was = self._open.pop(key, None) or _Open(time.monotonic(), time.thread_time())
        seconds, cpu = time.monotonic() - was.begin, time.thread_time() - was.cpu_seconds
        self._add(kind, name, was.begin, seconds, cpu, was.sent)

    def _add(self, kind: str, name: str, begin: float, seconds: float, cpu: float, size: int) -> None:
        span = Span(kind, name, begin, seconds, cpu, threading.get_native_id(), size)
        self._trace.add(span, _thread_name())


def program_begin() -> float:
    """When this process was started, of ``time.monotonic``, to a hundredth of a second (proc_pid_stat(5))."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        started = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def _thread_name() -> str:
    return threading.current_thread().name

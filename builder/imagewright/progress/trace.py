"""Where a build's time went: what was done when and in which thread, in Chrome's trace event format and as a summary.

No I/O. The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event
Format"); chrome://tracing, Perfetto and speedscope read it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from imagewright.progress.display import duration, size
from imagewright.records import dataclass

STEP = "step"
_START = "start"
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Span:
    """Something that was done by one thread. ``begin`` and ``seconds`` are of ``time.monotonic``."""

    kind: str
    name: str
    begin: float
    seconds: float
    cpu_seconds: float
    thread: int
    size: int = 0

    @property
    def end(self) -> float:
        return self.begin + self.seconds


class Trace:
    """Collects spans; may be used from several threads. ``begin`` is when the program was started."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._spans: list[Span] = []
        self._threads: dict[int, str] = {}
        self._lock = threading.Lock()

    def add(self, span: Span, thread_name: str) -> None:
        """``thread_name`` is that of the span's thread; of threads that had the same number, the first one's stays."""
        with self._lock:
            self._spans.append(span)
            self._threads.setdefault(span.thread, thread_name)

    def start(self, now: float, cpu_seconds: float, thread: int, thread_name: str) -> None:
        """Everything from the start of the program until ``now``: interpreter, imports, command line."""
        self.add(Span(_START, "", self._begin, now - self._begin, cpu_seconds, thread), thread_name)

    def events(self, process: int) -> list[dict[str, object]]:
        """The trace events, times in microseconds."""
        common = {"pid": process}
        named: list[dict[str, object]] = [
            {"name": "process_name", "ph": "M", **common, "args": {"name": "imagewright"}}
        ]
        named += [
            {"name": "thread_name", "ph": "M", **common, "tid": thread, "args": {"name": name}}
            for thread, name in self._threads.items()
        ]
        return named + [
            {
                "name": f"{span.kind} {span.name}".strip(),
                "cat": span.kind,
                "ph": "X",
                **common,
                "tid": span.thread,
                "ts": _microseconds(span.begin - self._begin),
                "dur": _microseconds(span.seconds),
                "tdur": _microseconds(span.cpu_seconds),
                "args": {"bytes": span.size} if span.size else {},
            }
            for span in sorted(self._spans, key=lambda span: (span.begin, -span.seconds))
        ]

    def summary(self, now: float) -> list[str]:
        """A table by kind in order of first appearance.

        Seconds are those in which at least one span of the kind ran, so a kind never has more than the whole; kinds
        overlap. Steps contain other kinds.
        """
        kinds: dict[str, list[Span]] = {}
        for span in sorted(self._spans, key=lambda span: span.begin):
            kinds.setdefault(span.kind, []).append(span)
        rows = [("phase", "times", "time", "CPU", "size")]
        rows += [_row(kind, spans) for kind, spans in kinds.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        inner = [span for span in self._spans if span.kind != STEP]
        other = max(0.0, now - self._begin - covered(inner))
        return [
            f"timings: {duration(now - self._begin)} in all, of which {duration(other)} outside of these phases",
            *(_line(row, widths) for row in rows),
        ]


def covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of the spans ran."""
    total, end = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.begin):
        total += max(0.0, span.end - max(span.begin, end))
        end = max(end, span.end)
    return total


def _row(kind: str, spans: list[Span]) -> tuple[str, str, str, str, str]:
    moved = sum(span.size for span in spans)
    cpu = sum(span.cpu_seconds for span in spans)
    return kind, str(len(spans)), duration(covered(spans)), duration(cpu), size(moved) if moved else ""


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
    return (_INDENT + _INDENT.join(cells)).rstrip()


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)

"""A display for terminals: finished lines scroll by, below them what happens now.

Draws through rich. Called through ``engine.events.Reporter``, from several threads.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from imagewright.engine.events import StepEnded, StepStarted, Transfer
from imagewright.progress.plain import Level, PlainReporter
from imagewright.progress.text import clean, duration, size

_LINES_SHOWN = 6


class LiveReporter(PlainReporter):
    """Shows the running step with the last lines of its output, and layers on their way."""

    def __init__(self, console: Console, level: Level) -> None:
        super().__init__(sys.stderr, level)
        self._console = console
        self._step: StepStarted | None = None
        self._since = 0.0
        self._tail: deque[str] = deque(maxlen=_LINES_SHOWN)
        self._transfers = Progress(
            TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def step_started(self, step: StepStarted) -> None:
        with self._lock:
            self._step, self._since = step, time.monotonic()
            self._tail.clear()

    def output(self, step: StepStarted, data: bytes) -> None:
        with self._lock:
            self._tail.extend(self._output.add(data))

    def step_ended(self, step: StepEnded) -> None:
        with self._lock:
            self._tail.extend(self._output.rest())
            mark, style = ("✗", "red") if step.error is not None else ("✓", "green")
            added = f"  {size(step.layer_size)}" if step.layer_size else ""
            line = Text.assemble(
                (f"{mark} ", style), clean(step.started.label), (f"  {duration(step.seconds)}{added}", "dim")
            )
            self._console.print(line, soft_wrap=True)
            self._step = None

    def transfer(self, transfer: Transfer) -> None:
        key = (transfer.kind, transfer.name)
        with self._lock:
            task = self._tasks.get(key)
            if task is None:
                if transfer.finished:
                    return
                task = self._tasks[key] = self._transfers.add_task(
                    f"{transfer.kind} {transfer.name}", total=transfer.total or None
                )
            if transfer.finished:
                self._transfers.remove_task(task)
                del self._tasks[key]
            else:
                self._transfers.update(task, completed=transfer.done)

    def close(self) -> None:
        self._live.stop()

    def write_line(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        with self._lock:
            parts: list[RenderableType] = []
            if self._step is not None:
                elapsed = duration(time.monotonic() - self._since)
                parts.append(
                    Text.assemble(
                        ("• ", "cyan"),
                        (clean(self._step.label), "bold"),
                        (f"  {elapsed}", "dim"),
                        overflow="ellipsis",
                        no_wrap=True,
                    )
                )
                parts.extend(Text(f"    {line}", style="dim", overflow="ellipsis", no_wrap=True) for line in self._tail)
            if self._tasks:
                parts.append(self._transfers)
            return Group(*parts)

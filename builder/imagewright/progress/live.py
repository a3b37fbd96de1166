"""A display for terminals: finished steps scroll by, and below them is what runs now.

Draws through rich, whose thread calls ``_draw`` while it holds its own lock. So nothing may print while it holds
``_lock``: the two would deadlock.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.engine.events import Phase, StepEnded, StepStarted, Transfer
from imagewright.errors import ImagewrightError
from imagewright.progress.display import Level, duration, failure_lines, size
from imagewright.records import dataclass
from imagewright.terminal import Lines, clean

_LINES_SHOWN = 6
_TRANSFERS_SHOWN = 6  # a base image may have a hundred layers, a terminal has 24 lines
_BAR_WIDTH = 24


@dataclass(slots=True)
class _RunningTransfer:
    transfer: Transfer
    since: float


class _RunningStep:
    """A running step: when it started, and the end of its output."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.output = Lines()
        self.tail: deque[str] = deque(maxlen=_LINES_SHOWN)

    def lines(self) -> list[str]:
        return [line for line in [*self.tail, self.output.unfinished()] if line]


class LiveReporter:
    """Shows the running steps with their last lines of output, and the transfers of layers.

    No thread is started before the first step or transfer, since the sandbox forks before that.
    """

    def __init__(self, console: Console, level: Level) -> None:
        self._console = console
        self._level = level
        self._lock = threading.Lock()
        self._running: dict[StepStarted, _RunningStep] = {}
        self._open_transfers: dict[tuple[str, str], _RunningTransfer] = {}
        self._starting = threading.Lock()
        self._live: Live | None = None

    def message(self, text: str) -> None:
        self._print(Level.INFO, Text(clean(text), "dim"))

    def warning(self, text: str) -> None:
        self._print(Level.WARN, Text.assemble(("warning: ", "yellow"), clean(text)))

    def lint(self, warning: DockerfileWarning) -> None:
        rule = (f" [{warning.rule}]", "dim")
        place = (f"{warning.location}: ", "bold")
        self._print(Level.WARN, Text.assemble(("warning: ", "yellow"), place, clean(warning.message), rule))
        for line in warning.excerpt:
            self._print(Level.WARN, Text(f"  {clean(line)}", "dim"))

    def debug(self, text: str) -> None:
        self._print(Level.DEBUG, Text(clean(text), "dim"))

    def step_started(self, step: StepStarted) -> None:
        with self._lock:
            self._running[step] = _RunningStep()
        self._start()

    def output(self, step: StepStarted, data: bytes) -> None:
        with self._lock:
            running = self._running[step]
            running.tail.extend(running.output.add(data))

    def step_ended(self, step: StepEnded) -> None:
        with self._lock:
            del self._running[step.started]
        if self._live is not None:
            self._live.refresh()  # otherwise the step would be drawn again, below the line about its end
        mark, style = ("✗", "bold red") if step.error is not None else ("✓", "green")
        added = f"  {size(step.layer_size)}" if step.layer_size else ""
        line = Text.assemble((f"{mark} ", style), clean(step.started.label))
        time = "cached" if step.cached else duration(step.seconds)
        self._print(Level.INFO, line.append(f"  {time}{added}", "dim"))

    def transfer(self, transfer: Transfer) -> None:
        key = (transfer.kind, transfer.name)
        with self._lock:
            if transfer.finished:
                self._open_transfers.pop(key, None)
            elif key in self._open_transfers:
                self._open_transfers[key].transfer = transfer
            else:
                self._open_transfers[key] = _RunningTransfer(transfer, time.monotonic())
        self._start()

    def phase(self, phase: Phase) -> None:
        """Shown by --timings alone."""

    def failed(self, error: ImagewrightError) -> None:
        self._print(Level.ERROR, _failure_text(error))

    def close(self) -> None:
        with self._starting:
            if self._live is not None:
                self._live.stop()

    def _start(self) -> None:
        with self._starting:
            if self._live is None:
                self._live = Live(
                    get_renderable=self._draw, console=self._console, refresh_per_second=8, transient=True
                )
                self._live.start()

    def _print(self, level: Level, text: Text) -> None:
        if level <= self._level:
            self._console.print(text, soft_wrap=True, highlight=False)

    def _draw(self) -> RenderableType:
        with self._lock:
            steps = [(step, running.since, running.lines()) for step, running in self._running.items()]
            running = [_RunningTransfer(one.transfer, one.since) for one in self._open_transfers.values()]
        now = time.monotonic()
        parts: list[RenderableType] = []
        shown = max(1, _LINES_SHOWN // max(1, len(steps)))
        for step, since, lines in steps:
            elapsed = duration(now - since)
            parts.append(_one_line(Text.assemble(("• ", "cyan"), (clean(step.label), "bold"), (f"  {elapsed}", "dim"))))
            parts.extend(_one_line(Text(f"    {line}", "dim")) for line in lines[-shown:])
        if running:
            parts.append(_transfers_table(running, now))
        return Group(*parts)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _transfers_table(running: list[_RunningTransfer], now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for one in running[:_TRANSFERS_SHOWN]:
        transfer = one.transfer
        known = transfer.total or None
        bar = ProgressBar(total=known, completed=transfer.done, width=_BAR_WIDTH, pulse=known is None)
        amount = size(transfer.done) + (f" of {size(transfer.total)}" if known else "")
        elapsed = now - one.since
        speed = f"{size(int(transfer.done / elapsed))}/s" if elapsed >= 1 else ""
        table.add_row(f"    {transfer.kind} {clean(transfer.name)}", bar, amount, Text(speed, "dim"))
    hidden = running[_TRANSFERS_SHOWN:]
    if not hidden:
        return table
    return Group(table, Text(f"    and {len(hidden)} more", "dim"))


def _failure_text(error: ImagewrightError) -> Text:
    """What ``failure_lines`` gives, in colour."""
    text = Text()
    for number, line in enumerate(failure_lines(error)):
        text.append("\n" if number else "")
        head, colon, rest = line.partition(":")
        match head:
            case "error" if number == 0:
                text.append("error:", "bold red").append(rest)
            case "hint":
                text.append("hint:", "bold cyan").append(rest)
            case _ if line.lstrip().startswith("-->"):
                text.append(line, "bold")
            case _ if set(line.partition("|")[2].strip()) == {"^"}:
                text.append(line, "red")
            case _:
                text.append(head + colon + rest)
    return text

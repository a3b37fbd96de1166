"""The figures as a Markdown table.

No I/O.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.figures import Figures, Measured, Results

_HEAD = ("", "builder", "seconds", "ratio", "memory", "own", "down", "written", "up", "requests")
_LEGEND = (
    "Medians. Seconds (least to most), their ratio to the fastest peer; peak memory in MiB of all processes, and without "
    "the commands of RUN; MB down from the registry, written to disk, up to the registry; requests to the registry."
)
_REASON = 300  # characters of a reason, which may be a whole log; its end tells most
_COLUMNS: tuple[Callable[[Measured], float], ...] = (
    lambda run: run.downloaded,
    lambda run: run.written,
    lambda run: run.uploaded,
)


def markdown(figures: Figures) -> str:
    """A row for each workload and builder, medians; after it, what the workloads are and what was left out."""
    rows = [row for name, results in figures.workloads.items() for row in _rows(name, results)]
    lines = [figures.machine, "", _line(_HEAD), _line(["---", "---", *["--:"] * (len(_HEAD) - 2)])]
    lines += [_line(row) for row in rows]
    lines += ["", _LEGEND, ""]
    lines += [f"- {name}: {results.says}" for name, results in figures.workloads.items()]
    if figures.limits:
        lines += ["", "Limits of the machine, one thread, for the largest layer of the large base:", ""]
        lines += [f"- {what}: {_short(seconds)} s" for what, seconds in figures.limits.items()]
    missing = [*figures.left_out.items()]
    missing += [(f"{name} {who}", why) for name, one in figures.workloads.items() for who, why in one.left_out.items()]
    lines += ["", *(f"- left out: {what}: {_on_a_line(why)}" for what, why in missing)] if missing else []
    return "\n".join(lines) + "\n"


def _on_a_line(reason: str) -> str:
    text = " ".join(reason.split())
    return text if len(text) <= _REASON else f"…{text[-_REASON:]}"


def _rows(name: str, results: Results) -> list[list[str]]:
    return [
        [name if builder == results.builders[0] else "", builder, *_cells(results, builder)]
        for builder in results.builders
    ]


def _cells(results: Results, builder: str) -> list[str]:
    runs = results.runs[builder]
    seconds = [run.seconds for run in runs]
    time = _short(results.median(builder, lambda run: run.seconds))
    time += f" ({_short(min(seconds))} to {_short(max(seconds))})" if len(runs) > 1 else ""
    ratio = results.ratio(builder)
    return [
        time,
        "" if ratio is None else f"{ratio:.2f}",
        f"{max(run.memory for run in runs) / 1024:.0f}",
        f"{max(run.own_memory for run in runs) / 1024:.0f}",
        *(f"{results.median(builder, column) / 1e6:.1f}" for column in _COLUMNS),
        f"{results.median(builder, lambda run: run.requests):.0f}",
    ]


def _short(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 5 else f"{seconds:.1f}"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"

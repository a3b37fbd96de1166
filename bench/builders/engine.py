"""Our engine, from the environment that the bench itself runs in.

Reads the trace that a profiled build writes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.builders.model import Commands, Site, Spent, Task, Worker
from imagewright.progress.trace import Span, covered


@dataclass(frozen=True, slots=True)
class EngineWorker:
    site: Site
    programs: Sequence[Path] = (Path(os.path.realpath(sys.executable)),)

    def commands(self, task: Task) -> Commands:
        """A warm store is a volume: the base image, as ``warm`` puts it there, and the layer cache."""
        engine = [sys.executable, "-m", "imagewright"]
        host = self.site.host
        build = [*engine, "build", f"--context={task.context}", f"--destination={host}/{task.image}:1"]
        build += [f"--insecure-registry={host}", f"--work-dir={self.site.folder}/work", "--verbosity=warn"]
        build += ["--cache", f"--cache-repo={host}/{task.cache}"] if task.cache else []
        build += [f"--timings={self._trace}"] if task.profile else []
        before: list[list[str]] = []
        if task.store is not None:
            build += [f"--cache-dir={task.store}", "--cache", f"--cache-repo=oci:{task.store}/layers"]
            before = [
                [
                    *engine,
                    "warm",
                    *(f"--image={base}" for base in task.bases),
                    f"--cache-dir={task.store}",
                    f"--insecure-registry={host}",
                ]
            ]
        return Commands([build], self.site.environment, before)

    def profile(self, output: str) -> list[Spent]:
        """Seconds in which at least one phase of the kind ran; kinds overlap."""
        events = [event for event in json.loads(self._trace.read_text())["traceEvents"] if event["ph"] == "X"]
        kinds: dict[str, list[Span]] = {}
        for event in sorted(events, key=lambda event: event["ts"]):
            kinds.setdefault(event["cat"], []).append(
                Span(
                    event["cat"],
                    event["name"],
                    event["ts"] / 1e6,
                    event["dur"] / 1e6,
                    event["tdur"] / 1e6,
                    event["tid"],
                )
            )
        return [
            Spent(kind, covered(spans), f"{len(spans)} times, CPU {sum(span.cpu_seconds for span in spans):.2f} s")
            for kind, spans in kinds.items()
        ]

    @property
    def _trace(self) -> Path:
        return self.site.folder / "trace.json"


@dataclass(frozen=True, slots=True)
class Engine:
    def left_out(self) -> str:
        return ""

    @contextmanager
    def ready(self, site: Site) -> Iterator[Worker]:
        yield EngineWorker(site)

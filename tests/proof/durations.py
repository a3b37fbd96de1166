"""How long each test took in the last run on this machine: what remains is told by it.

I/O: one JSON file in the cache folder, outside the tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from cluster.places import cache_root
from times.records import Record, TimedTest


def _file() -> Path:
    return cache_root() / "tests" / "durations.json"


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds by test, setup and teardown included. ``unknown`` is what a test is taken for that has not run yet."""

    known: Mapping[str, float]
    unknown: float

    @classmethod
    def load(cls) -> Durations:
        try:
            known = json.loads(_file().read_text())
        except (OSError, ValueError):
            known = {}
        return cls(known, fmean(known.values()) if known else 1.0)

    def of(self, nodeid: str) -> float:
        return self.known.get(nodeid, self.unknown)

    def updated(self, records: Iterable[Record]) -> None:
        """Keep what these records say of the tests that passed, next to what is known of others."""
        latest = seconds_by_test(record for record in records if isinstance(record, TimedTest))
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps({**self.known, **latest}))
        partial.rename(file)


def seconds_by_test(times: Iterable[TimedTest]) -> dict[str, float]:
    """Setup, call and teardown together."""
    total: dict[str, float] = {}
    for each in times:
        total[each.test] = round(total.get(each.test, 0.0) + each.seconds, 4)
    return total


def minutes(seconds: float) -> str:
    """Such as ``12:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

"""What a run of the tests measured: lines of JSON in one folder, written by every process that takes part.

I/O: appends to files of the folder that ``$IMAGEWRIGHT_TIMES`` names, and reads them. Without the variable nothing is
kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "IMAGEWRIGHT_TIMES"


@dataclass(frozen=True, slots=True)
class TimedTest:
    """One of the three parts of a test: ``when`` is setup, call or teardown."""

    test: str
    when: str
    seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class TimedFixture:
    """One setup of a fixture, without those that it depends on."""

    fixture: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TimedStep:
    """Something that was compiled, built or started: see ``cluster.progress.step``."""

    step: str
    seconds: float


Record = TimedTest | TimedFixture | TimedStep
_KINDS = {"TimedTest": TimedTest, "TimedFixture": TimedFixture, "TimedStep": TimedStep}


def keep(record: Record) -> None:
    """Append it to this process's own file."""
    if folder := os.environ.get(VARIABLE):
        line = json.dumps([type(record).__name__, asdict(record)]) + "\n"
        with Path(folder, f"{os.getpid()}.jsonl").open("a") as file:
            file.write(line)


def kept(folder: Path) -> Iterator[Record]:
    """Every record of the folder, each process's in order."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            kind, fields = json.loads(line)
            yield _KINDS[kind](**fields)

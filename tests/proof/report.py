"""Where the time of a run went, as the tables that ``scripts/test`` prints at its end. No I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proof.durations import minutes, seconds_by_test
from proof.tiers import TIERS, tier_of
from times.records import Record, TimedFixture, TimedStep, TimedTest

_SLOWEST = 25
_FROM_S = 1.0  # what a fixture or a step cost together to be listed


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """One call of pytest. ``busy_cores`` is how many of the machine's cores were at work, all programs together."""

    name: str
    seconds: float
    busy_cores: float


def tables(phases: Sequence[PhaseTime], records: Iterable[Record]) -> str:
    """Phases, tiers, what was made and started, the slowest tests."""
    tests: list[TimedTest] = []
    made: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        match record:
            case TimedTest():
                tests.append(record)
            case TimedFixture(fixture, seconds):
                made[f"fixture {fixture}"].append(seconds)
            case TimedStep(step, seconds):
                made[step].append(seconds)
    by_test = seconds_by_test(tests)
    lines = ["", "== where the time went", "   wall   cores", *map(_phase, phases)]
    lines += ["", "  tests   in tests", *_tiers(by_test)]
    costly = sorted(made.items(), key=lambda item: -sum(item[1]))
    lines += ["", "  times   together   compiled, built, started"]
    lines += [f"{len(each):7}{minutes(sum(each)):>11}   {name}" for name, each in costly if sum(each) >= _FROM_S]
    slowest = sorted(by_test.items(), key=lambda item: -item[1])[:_SLOWEST]
    lines += ["", "seconds   slowest tests", *(f"{seconds:7.1f}   {name}" for name, seconds in slowest)]
    return "\n".join(lines) + "\n"


def _phase(phase: PhaseTime) -> str:
    return f"{minutes(phase.seconds):>7}{phase.busy_cores:8.2f}   {phase.name}"


def _tiers(by_test: dict[str, float]) -> list[str]:
    count = Counter(map(tier_of, by_test))
    total: defaultdict[str, float] = defaultdict(float)
    for nodeid, seconds in by_test.items():
        total[tier_of(nodeid)] += seconds
    return [f"{count[tier]:7}{minutes(total[tier]):>11}   {tier}" for tier in TIERS if count[tier]]

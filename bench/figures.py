"""What was measured, and what follows from it: medians, and ratios to the fastest peer.

No I/O.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "imagewright"


@dataclass(frozen=True, slots=True)
class Measured:
    """One build. Memory in KiB, the rest in seconds and bytes.

    ``memory`` is the peak of the whole process tree, ``own_memory`` that of the builder without the commands of RUN.
    ``downloaded`` and ``uploaded`` are what passed between builder and registry, ``written`` what went to its disk.
    """

    seconds: float
    memory: int
    own_memory: int
    downloaded: int
    uploaded: int
    written: int
    requests: int


@dataclass(slots=True)
class Results:
    """Of one workload: each builder's runs, and why others have none."""

    says: str
    runs: dict[str, list[Measured]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def median(self, builder: str, of: Callable[[Measured], float]) -> float:
        return statistics.median(of(run) for run in self.runs[builder])

    @property
    def builders(self) -> list[str]:
        """Those with runs, ours first."""
        return ours_first(name for name, runs in self.runs.items() if runs)

    @property
    def fastest_peer(self) -> str:
        """The peer with the least median time; "" if no peer could do the workload."""
        peers = [name for name in self.builders if name != OURS]
        return min(peers, key=lambda name: self.median(name, _seconds), default="")

    def ratio(self, builder: str) -> float | None:
        """A builder's time to that of the fastest peer; None without a peer."""
        peer = self.fastest_peer
        return self.median(builder, _seconds) / self.median(peer, _seconds) if peer else None


@dataclass(slots=True)
class Figures:
    """Of one run of the bench: the machine, and each workload's results by its name."""

    machine: str
    workloads: dict[str, Results] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # whole builders
    limits: dict[str, float] = field(default_factory=dict)  # seconds, by what the machine did

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Figures:
        found = cls(value["machine"], left_out=dict(value["left_out"]), limits=dict(value["limits"]))
        for name, one in value["workloads"].items():
            runs = {builder: _runs(each) for builder, each in one["runs"].items()}
            found.workloads[name] = Results(one["says"], runs, dict(one["left_out"]))
        return found


def ours_first(builders: Iterable[str]) -> list[str]:
    """Sorted names."""
    return sorted(builders, key=lambda name: (name != OURS, name))


def _runs(values: Sequence[Mapping[str, Any]]) -> list[Measured]:
    return [Measured(**value) for value in values]


def _seconds(run: Measured) -> float:
    return run.seconds

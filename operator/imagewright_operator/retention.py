"""Which Pods of builds that are over go, and when.

No I/O. Called by ``reconcile``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagewright_operator.outcome import Observation, parse_time


@dataclass(frozen=True, slots=True)
class Tidying:
    """``delete`` now; ``wakes`` are the seconds until the others' time has come."""

    delete: tuple[Observation, ...]
    wakes: tuple[float, ...]


def tidy(pods: Iterable[Observation], keep: timedelta, now: datetime) -> Tidying:
    """End what still runs, delete what ended ``keep`` ago. Each of ``pods`` is of a build that is over."""
    delete, wakes = [], []
    for pod in pods:
        if pod.deleted:
            continue
        ended = parse_time(pod.finished or pod.created)
        left = (ended + keep - now).total_seconds() if pod.ended and ended is not None else 0.0
        if left <= 0:
            delete.append(pod)
        else:
            wakes.append(left)
    return Tidying(tuple(delete), tuple(wakes))

"""What ``reconcile`` is given and what it gives back.

No I/O. Made and carried out by ``controller``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild, Status
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import is_probe
from imagewright_operator.pods.observation import Observation


@dataclass(frozen=True, slots=True)
class World:
    """What is known at one moment: the ImageBuild as it was read before its Pods, and all Pods that it owns.

    ``log`` is the end of the log that ``Decision.wants_log`` asked for; None before it was read, b"" when there is none.
    ``hold`` says why no Pod may be created now, "" where one may. ``probes`` are the Pods that look where a branch is.
    """

    imagebuild: ImageBuild
    pods: tuple[Observation, ...]
    now: datetime
    log: bytes | None = None
    hold: str = ""
    probes: tuple[Observation, ...] = ()

    @classmethod
    def of(cls, imagebuild: ImageBuild, pods: Sequence[Observation], now: datetime) -> World:
        """With those Pods apart that build nothing."""
        probes = tuple(pod for pod in pods if is_probe(pod.name))
        return cls(imagebuild, tuple(pod for pod in pods if not is_probe(pod.name)), now, probes=probes)


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event for people. ``key`` is the same however often it is decided on: it is posted once."""

    reason: str
    message: str
    key: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server has not created a Pod. ``heals``: the same request may pass later."""

    reason: Reason
    message: str
    heals: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order: store the status, delete Pods, create the Pod of ``create``, post notices.

    ``wants_log`` names a Pod whose log belongs into the status: read it and decide again, before doing anything.
    ``probe`` names the Pod to create that looks where a branch is. ``wake_s`` is when to look again though nothing has
    happened. ``finished`` is the build that this decision ends.
    """

    status: Status
    delete: tuple[Observation, ...] = ()
    create: Build | None = None
    notices: tuple[Notice, ...] = ()
    wake_s: float | None = None
    wants_log: str = ""
    probe: str = ""
    finished: Build | None = None

    def is_idle(self, before: Status) -> bool:
        """Whether there is nothing to do now."""
        return self.status == before and not self.delete and self.create is None and not self.probe

"""The input of ``reconcile`` and the actions that it returns.

No I/O of its own: what must be read or asked during the decision is a callback of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild, Status
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import is_poll_pod
from imagewright_operator.pods.observation import Observation
from imagewright_operator.status.conditions import CONDITIONS, ConditionType


def _no_log(_pod: Observation) -> None:
    return None


def _admit_all(_build: Build) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class ReconcileInput:
    """The state of one ImageBuild at one moment: the object as it was read before its Pods, and all Pods that it owns.

    ``read_log`` returns the end of that Pod's log, b"" when there is none; None leaves the log in the status as it is.
    ``admit`` is asked once for a build whose Pod could be created now: "" admits it, any other text is the reason to
    keep it queued. ``poll_pods`` are the Pods that look up a branch; they build nothing.
    """

    imagebuild: ImageBuild
    pods: tuple[Observation, ...]
    now: datetime
    poll_pods: tuple[Observation, ...] = ()
    read_log: Callable[[Observation], bytes | None] = _no_log
    admit: Callable[[Build], str] = _admit_all
    conditions: Sequence[ConditionType] = CONDITIONS

    @classmethod
    def of(cls, imagebuild: ImageBuild, pods: Sequence[Observation], now: datetime) -> ReconcileInput:
        """Without callbacks: no log is read, and every build is admitted."""
        poll_pods = tuple(pod for pod in pods if is_poll_pod(pod.name))
        return cls(imagebuild, tuple(pod for pod in pods if not is_poll_pod(pod.name)), now, poll_pods)


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event. An Event with the same ``key`` is posted once, however often it is decided on."""

    reason: str
    message: str
    key: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class CreateError:
    """Why the API server did not create a Pod. ``transient``: the same request may succeed later."""

    reason: Reason
    message: str
    transient: bool


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do, in this order: patch the status, delete Pods, create Pods, post Events.

    ``create`` is the build whose Pod to create, ``poll_pod`` the name of the Pod to create that looks up a branch.
    ``requeue_after_s`` is when to reconcile again if no event arrives before, None for never. ``finished`` is the build
    that these actions complete.
    """

    status: Status
    delete: tuple[Observation, ...] = ()
    create: Build | None = None
    events: tuple[Event, ...] = ()
    requeue_after_s: float | None = None
    poll_pod: str = ""
    finished: Build | None = None

    def is_idle(self, before: Status) -> bool:
        """Whether there is nothing to do now."""
        return self.status == before and not self.delete and self.create is None and not self.poll_pod

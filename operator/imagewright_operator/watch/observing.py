"""The Pods of one ImageBuild as observations, each looked at for itself: a stranger's Pod never ends a pass.

No I/O but the log; Events are asked for by a callback. Of a Pod that the operator neither knows nor has signed only its
name and its times are read: its request, its result and its words are whatever somebody has written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imagewright_operator.api.base import Json
from imagewright_operator.api.status import PodIdentity, Status
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.pods.manifests import owner_uid
from imagewright_operator.pods.observation import Observation, PodState, observe
from imagewright_operator.pods.signature import Signer
from imagewright_operator.reconcile import trust

_LOG = logging.getLogger(__name__)
PodJson = Mapping[str, Any]


def _no_events(_uid: str) -> Sequence[Json]:
    return ()


@dataclass(frozen=True, slots=True)
class Observer:
    """What tells the operator's Pods from others.

    ``made`` are Pods that this process has created and not yet recorded, by their names: no other of that name counts,
    and they do whatever the cluster's webhooks have changed. ``events_of`` is asked for the Events of a Pod of the
    operator's that waits without saying why.
    """

    signer: Signer
    now: datetime
    made: Mapping[str, PodIdentity] = field(default_factory=dict)
    events_of: Callable[[str], Sequence[Json]] = _no_events

    def observe(self, pods: Iterable[PodJson], uid: str, status: Status) -> list[Observation]:
        """The Pods that the ImageBuild with this UID and status controls."""
        seen = []
        for pod in pods:
            if owner_uid(pod) != uid:
                continue
            signed = self._is_signed(pod)
            own = signed or trust.is_named(status, uid_of(pod), name_of(pod))
            try:
                seen.append(self._observed(pod, signed=signed, own=own))
            except Exception as error:
                if own:
                    raise
                _LOG.warning("ignoring Pod %s, which the operator has not created: %r", name_of(pod), error)
        return seen

    def _is_signed(self, pod: PodJson) -> bool:
        made = self.made.get(name_of(pod))
        if made is not None:
            return made.uid == uid_of(pod) and made.fingerprint == fingerprint(pod)
        return self.signer.is_unchanged(pod)

    def _observed(self, pod: PodJson, *, signed: bool, own: bool) -> Observation:
        seen = observe(pod, self.now, signed=signed, own=own)
        if seen.state is not PodState.WAITING or seen.reason:  # a stranger's never waits
            return seen
        return observe(pod, self.now, self.events_of(seen.uid), signed=signed)


def uid_of(pod: PodJson) -> str:
    """A Pod's UID, "" for what has none."""
    return _of_metadata(pod, "uid")


def name_of(pod: PodJson) -> str:
    """A Pod's name, "" for what has none."""
    return _of_metadata(pod, "name")


def _of_metadata(pod: PodJson, name: str) -> str:
    metadata = pod.get("metadata") if isinstance(pod, Mapping) else None
    found = metadata.get(name) if isinstance(metadata, Mapping) else None
    return found if isinstance(found, str) else ""


def has_ended(pod: PodJson) -> bool:
    """Whether a Pod's phase says that nothing runs in it any more."""
    status = pod.get("status") if isinstance(pod, Mapping) else None
    return isinstance(status, Mapping) and status.get("phase") in ("Succeeded", "Failed")

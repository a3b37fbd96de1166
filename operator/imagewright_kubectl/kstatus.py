"""Whether an ImageBuild is done, has failed, or is still on its way: kstatus's rules, as Flux and Argo CD have them.

No I/O. Called by the commands ``wait`` and ``logs``. One thing is added: a build asked for by the annotation doesn't
change the generation, so until the operator has seen it the conditions still tell of the build before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imagewright.errors import Reason
from imagewright_operator.api import REQUESTED_AT_ANNOTATION


class Verdict(StrEnum):
    """kstatus's words."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class State:
    """What to tell of an ImageBuild."""

    verdict: Verdict
    phase: str
    reason: str
    message: str

    @property
    def line(self) -> str:
        """For people: ``Pending: Unschedulable: 0/1 nodes are available``."""
        return ": ".join(
            part for part in (self.phase or "not seen by the operator yet", self.reason, self.message) if part
        )


def state_of(body: Mapping[str, Any]) -> State:
    """The state that an ImageBuild's status tells of."""
    status = body.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    return State(_verdict(body), status.get("phase", ""), ready.get("reason", ""), ready.get("message", ""))


def _verdict(body: Mapping[str, Any]) -> Verdict:
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Verdict.TERMINATING
    if status.get("observedGeneration", -1) != metadata.get("generation", 0):
        return Verdict.IN_PROGRESS
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    holds = {kind for kind, one in conditions.items() if one["status"] == "True"}
    reason = (conditions.get("Ready") or {}).get("reason", "")
    if "Reconciling" in holds or _asked_anew(body, reason):
        return Verdict.IN_PROGRESS
    if "Stalled" in holds:
        return Verdict.FAILED
    return Verdict.CURRENT if "Ready" in holds else Verdict.IN_PROGRESS


def _asked_anew(body: Mapping[str, Any], reason: str) -> bool:
    """Whether the annotation asks for a build that the operator hasn't claimed, and will."""
    asked = (body["metadata"].get("annotations") or {}).get(REQUESTED_AT_ANNOTATION, "")
    build = (body.get("status") or {}).get("build") or {}
    if not build or asked == build.get("requestedAt", ""):
        return False
    return reason != Reason.INVALID_SPEC and not (body.get("spec") or {}).get("cancelled")


def failure_of(body: Mapping[str, Any], state: State) -> str:
    """Why it failed, as the engine's own errors look."""
    failure = ((body.get("status") or {}).get("build") or {}).get("failure") or {}
    message, reason, lines = state.message, state.reason, []
    if failure.get("line") and failure.get("reason") == reason:
        place = f"{failure.get('file') or 'Dockerfile'}:{failure['line']}"
        message = message.removeprefix(f"{place}: ")
        lines.append(f"  --> {place}")
        if failure.get("instruction"):
            lines.append(f"      {failure['instruction']}")
    return "\n".join([f"error: {message} [{reason}]", *lines])

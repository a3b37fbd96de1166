"""The status of an ImageBuild by kstatus's rules, as Flux and Argo CD compute it.

No I/O. One rule is added: a build requested by the annotation doesn't change the generation, so until the operator has
seen it the conditions still describe the build before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imagewright.errors import Reason
from imagewright_operator.api import REQUESTED_AT_ANNOTATION


class Status(StrEnum):
    """kstatus's values."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class Result:
    """The computed status, with the phase and the Ready condition's reason and message."""

    status: Status
    phase: str
    reason: str
    message: str

    @property
    def summary(self) -> str:
        """``Pending: Unschedulable: 0/1 nodes are available``."""
        reason = "" if self.reason == self.phase else self.reason
        parts = (self.phase or "not yet seen by the operator", reason, self.message)
        return ": ".join(part for part in parts if part)


def compute(body: Mapping[str, Any]) -> Result:
    """The status of an ImageBuild."""
    status = body.get("status") or {}
    ready = _conditions(body).get("Ready") or {}
    return Result(_status(body), status.get("phase", ""), ready.get("reason", ""), ready.get("message", ""))


def failure_of(body: Mapping[str, Any], result: Result) -> str:
    """Why the build failed, in the form of the engine's own errors."""
    failure = ((body.get("status") or {}).get("build") or {}).get("failure") or {}
    message, reason, lines = result.message, result.reason, []
    if failure.get("line") and failure.get("reason") == reason:
        location = f"{failure.get('file') or 'Dockerfile'}:{failure['line']}"
        message = message.removeprefix(f"{location}: ")
        lines.append(f"  --> {location}")
        if failure.get("instruction"):
            lines.append(f"      {failure['instruction']}")
    return "\n".join([f"error: {message} [{reason}]", *lines])


def _status(body: Mapping[str, Any]) -> Status:
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Status.TERMINATING
    if status.get("observedGeneration", -1) != metadata.get("generation", 0):
        return Status.IN_PROGRESS
    conditions = _conditions(body)
    true = {kind for kind, condition in conditions.items() if condition["status"] == "True"}
    reason = (conditions.get("Ready") or {}).get("reason", "")
    if "Reconciling" in true or _is_build_requested(body, reason):
        return Status.IN_PROGRESS
    if "Stalled" in true:
        return Status.FAILED
    return Status.CURRENT if "Ready" in true else Status.IN_PROGRESS


def _conditions(body: Mapping[str, Any]) -> dict[str, Any]:
    return {condition["type"]: condition for condition in (body.get("status") or {}).get("conditions") or ()}


def _is_build_requested(body: Mapping[str, Any], reason: str) -> bool:
    """Whether the annotation requests a build that the operator has yet to start, and will."""
    requested = (body["metadata"].get("annotations") or {}).get(REQUESTED_AT_ANNOTATION, "")
    build = (body.get("status") or {}).get("build") or {}
    if not build or requested == build.get("requestedAt", ""):
        return False
    return reason != Reason.INVALID_SPEC and not (body.get("spec") or {}).get("cancelled")

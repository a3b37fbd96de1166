"""The conditions of the status: a table of types, each with its own rule. No I/O.

A condition is added by a row of ``CONDITIONS``: the status, the CRD and docs/imagebuild.md follow from it. The three
conditions below are those that kstatus reads; what they say for a ``StateKind``:

==============================  ==============  ===========  =======
kind                            Ready           Reconciling  Stalled
==============================  ==============  ===========  =======
PROGRESSING                     Unknown         True         absent
WAITING                         False           True         absent
DONE                            True            absent       absent
FAILED                          False           absent       True
==============================  ==============  ===========  =======
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild, Status
from imagewright_operator.api.status import Build, Condition, FailureStatus, Phase
from imagewright_operator.status.records import clipped, second

QUEUED, PENDING, RUNNING, SUCCEEDED = "BuildQueued", "PodPending", "BuildRunning", "BuildSucceeded"
SUSPENDED, RETRYING = "Suspended", "BuildRetrying"
_OUTCOME_PHASES = {
    "Succeeded": Phase.SUCCEEDED,
    "Failed": Phase.FAILED,
    "Cancelled": Phase.CANCELLED,
    "Replaced": Phase.CANCELLED,
}


class StateKind(StrEnum):
    """What a build is doing, as far as kstatus distinguishes it."""

    PROGRESSING = "progressing"  # queued, running, retrying
    WAITING = "waiting"  # for something that is expected to appear: a Secret, room in a quota, a node
    DONE = "done"
    FAILED = "failed"  # or invalid: nothing happens until the spec changes


@dataclass(frozen=True, slots=True)
class State:
    """The state of the build that phase and conditions report."""

    kind: StateKind
    phase: Phase
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """What a rule sets a condition to."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ConditionType:
    """A row of the table.

    ``rule`` is given the build's state and the new status, without its new conditions; it returns None where the
    condition is absent. ``meaning`` is documented: a phrase without a full stop.
    """

    name: str
    meaning: str
    rule: Callable[[State, Status], ConditionValue | None]


def _ready(state: State, _: Status) -> ConditionValue:
    value: Mapping[StateKind, Literal["True", "False", "Unknown"]] = {
        StateKind.PROGRESSING: "Unknown",
        StateKind.WAITING: "False",
        StateKind.DONE: "True",
        StateKind.FAILED: "False",
    }
    return ConditionValue(value[state.kind], state.reason, state.message)


def _reconciling(state: State, _: Status) -> ConditionValue | None:
    if state.kind not in (StateKind.PROGRESSING, StateKind.WAITING):
        return None
    return ConditionValue("True", state.reason, state.message)


def _stalled(state: State, _: Status) -> ConditionValue | None:
    return ConditionValue("True", state.reason, state.message) if state.kind is StateKind.FAILED else None


CONDITIONS: tuple[ConditionType, ...] = (
    ConditionType("Ready", "whether the image of the present spec was built and pushed", _ready),
    ConditionType("Reconciling", "a build is queued, waiting or running; absent otherwise", _reconciling),
    ConditionType("Stalled", "nothing happens until the spec or its environment changes; absent otherwise", _stalled),
)


def status_of(
    imagebuild: ImageBuild,
    state: State,
    now: datetime,
    changes: Mapping[str, object] | None = None,
    table: Sequence[ConditionType] = CONDITIONS,
) -> Status:
    """The present status with ``changes`` applied, and with the phase and the conditions of ``state``.

    A condition's ``lastTransitionTime`` changes with its status only (Kubernetes API conventions, "Typical status
    properties").
    """
    generation, before = imagebuild.metadata.generation, imagebuild.status
    update: dict[str, object] = {"observed_generation": generation, "phase": state.phase, **(changes or {})}
    status = before.model_copy(update=update)
    conditions = []
    for row in table:
        value = row.rule(state, status)
        if value is None:
            continue
        old = before.condition(row.name)
        same = old is not None and old.status == value.status
        conditions.append(
            Condition(
                type=row.name,
                status=value.status,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if same and old is not None else second(now),
                reason=value.reason,
                message=clipped(value.message),
            )
        )
    return status.model_copy(update={"conditions": conditions})


def finished_state(build: Build) -> State:
    """The state of an ImageBuild whose last build has this outcome."""
    phase = _OUTCOME_PHASES[build.outcome]
    if build.outcome == "Succeeded":
        return State(StateKind.DONE, phase, SUCCEEDED, "the image was built and pushed")
    failure = build.failure or FailureStatus(reason=Reason.INTERNAL_ERROR)
    return State(StateKind.FAILED, phase, failure.reason, failure.message)


def reported_before(status: Status, ready_status: str, waiting: Collection[str] = ()) -> State | None:
    """The state of a queued build as it is reported: it stays until something else happens.

    With ``ready_status`` "Unknown" the cause of another attempt, with "False" one of the reasons ``waiting``; None if
    there is no such report.
    """
    ready, waits = status.condition("Ready"), status.condition("Reconciling") is not None
    if ready is None or not waits or status.phase is not Phase.QUEUED or ready.status != ready_status:
        return None
    if ready_status == "Unknown":
        return queued(ready.reason, ready.message)
    return State(StateKind.WAITING, Phase.QUEUED, ready.reason, ready.message) if ready.reason in waiting else None


def queued(reason: str, message: str) -> State:
    """The state of a build that has no Pod yet."""
    return State(StateKind.PROGRESSING, Phase.QUEUED, reason, message)


def pending(message: str) -> State:
    """The state of a build whose Pod starts."""
    return State(StateKind.PROGRESSING, Phase.PENDING, PENDING, message)


def suspended() -> State:
    """The state of an ImageBuild that is not to start a build."""
    message = "spec.suspend is true: set it to false to start the build"
    return State(StateKind.WAITING, Phase.QUEUED, SUSPENDED, message)

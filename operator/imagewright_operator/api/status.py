"""``status`` of an ImageBuild: what the operator says about it.

No I/O. Written by ``reconcile`` only; read by people, by kstatus (Flux, Argo CD), and by the next ``reconcile``, which
finds here all that it has to remember.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from imagewright_operator.api.base import Model

MAX_STEPS = 100
MAX_MESSAGE = 1024


class Phase(StrEnum):
    """For people; machines read the conditions."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Condition(Model):
    """As the Kubernetes API conventions have them."""

    type: Literal["Ready", "Reconciling", "Stalled"]
    status: Literal["True", "False", "Unknown"]
    observed_generation: int = 0
    last_transition_time: str
    reason: str
    message: str = ""


class Image(Model):
    """The last good image; it stays while a rebuild runs or fails."""

    reference: str = Field(description="name:tag@digest of the first tag.")
    digest: str
    size: int = Field(default=0, description="Bytes in the registry: configuration and layers.")


class SourceStatus(Model):
    """What was built."""

    commit: str = ""
    digest: str = ""


class Step(Model):
    """One executed instruction."""

    name: str
    start_time: str = ""
    completion_time: str = ""
    cached: bool = False
    exit_code: int | None = None


class FailureLocation(Model):
    """Whose log to read."""

    pod: str = ""
    container: str = ""


class FailureStatus(Model):
    """Why a build failed."""

    reason: str
    message: str = ""
    instruction: str = ""
    file: str = ""
    line: int | None = None
    exit_code: int | None = None
    location: FailureLocation | None = None


class Build(Model):
    """One build: the record that a claim makes and an outcome completes.

    ``number`` counts the builds of this ImageBuild; with the inputs it gives ``id`` and the names of the Pods, so that
    every operator that has read the claim would start the same Pod.
    """

    id: str
    number: int = 1
    inputs_hash: str
    environment_hash: str = Field(default="", description="Of what affects whether a build works, not what it builds.")
    requested_at: str = ""
    attempt: int = 1
    pod_names: list[str] = Field(default=[], description="One Pod for every platform; names of the current attempt.")
    node_name: str = ""
    queue_time: str = ""
    start_time: str = ""
    completion_time: str = ""
    not_before: str = Field(default="", description="When the next attempt may start.")
    outcome: Literal["", "Succeeded", "Failed", "Cancelled", "Replaced"] = ""
    sandbox: str = ""
    sandbox_reason: str = ""
    source: SourceStatus | None = None
    steps: list[Step] = []
    steps_truncated: bool = False
    failure: FailureStatus | None = None


class Log(Model):
    """The end of the executor's log."""

    tail: str = ""
    truncated: bool = False
    pod: str = ""
    container: str = ""


class HistoryEntry(Model):
    """One finished build in one line, newest first."""

    number: int
    outcome: str
    reason: str = ""
    digest: str = ""
    commit: str = ""
    completion_time: str = ""
    duration: str = ""


class Status(Model):
    """What became of it. Without conditions kstatus reads "done", hence the default generation of -1."""

    observed_generation: int = -1
    phase: Phase | None = None
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    duration: str = Field(default="", description="Of the last finished build, as a column shows it.")
    image: Image | None = None
    build: Build | None = None
    log: Log | None = None
    history: list[HistoryEntry] = []

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, if it is set."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

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

    type: str = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Unknown while it is being found out.")
    observed_generation: int = Field(default=0, description="Of the spec that this is about.")
    last_transition_time: str = Field(description="When the status last changed.")
    reason: str = Field(description="In one word; docs/errors.md lists them.")
    message: str = Field(default="", description="In a sentence, with what to do.")


class Image(Model):
    """The last good image; it stays while a rebuild runs or fails."""

    reference: str = Field(description="name:tag@digest of the first tag.")
    digest: str = Field(description="Of the manifest.")
    size: int = Field(default=0, description="Bytes in the registry: configuration and layers.")


class SourceStatus(Model):
    """What was built."""

    commit: str = Field(default="", description="Of a git source.")
    digest: str = Field(default="", description="Of another source.")


class Step(Model):
    """One executed instruction."""

    name: str = Field(description="As the log shows it.")
    start_time: str = Field(default="", description="When it began.")
    completion_time: str = Field(default="", description="When it ended.")
    cached: bool = Field(default=False, description="Whether its layer was found in the cache.")
    cache_miss: str = Field(default="", description="Why it was executed, where a cache was asked.")
    exit_code: int | None = Field(default=None, description="Of a RUN that failed.")


class FailureLocation(Model):
    """Whose log to read."""

    pod: str = Field(default="", description="Its name.")
    container: str = Field(default="", description="Its name.")


class FailureStatus(Model):
    """Why a build failed."""

    reason: str = Field(description="In one word; docs/errors.md lists them.")
    message: str = Field(default="", description="What happened, and what to do.")
    instruction: str = Field(default="", description="Of the Dockerfile, as written.")
    file: str = Field(default="", description="The Dockerfile's name.")
    line: int | None = Field(default=None, description="In that file, from 1.")
    exit_code: int | None = Field(default=None, description="Of the RUN.")
    location: FailureLocation | None = None


class Build(Model):
    """One build: the record that a claim makes and an outcome completes.

    ``number`` counts the builds of this ImageBuild; with the inputs it gives ``id`` and the names of the Pods, so that
    every operator that has read the claim would start the same Pod.
    """

    id: str = Field(description="Of this build.")
    number: int = Field(default=1, description="Counts the builds of this ImageBuild, from 1.")
    inputs_hash: str = Field(description="Of what the image is made from.")
    environment_hash: str = Field(default="", description="Of what affects whether a build works, not what it builds.")
    requested_at: str = Field(default="", description="The annotation imagewright.dev/requestedAt that it answers.")
    polled_commit: str = Field(
        default="", description="Where the watched branch or tag had moved to, if that asked for it."
    )
    attempt: int = Field(default=1, description="From 1; more after failures of the infrastructure.")
    pod_names: list[str] = Field(default=[], description="One Pod for every platform; names of the current attempt.")
    node_name: str = Field(default="", description="Where the Pod runs.")
    queue_time: str = Field(default="", description="When it was claimed.")
    start_time: str = Field(default="", description="When the executor started.")
    completion_time: str = Field(default="", description="When it ended.")
    not_before: str = Field(default="", description="When the next attempt may start.")
    outcome: Literal["", "Succeeded", "Failed", "Cancelled", "Replaced"] = Field(
        default="", description="Empty while it runs."
    )
    sandbox: str = Field(default="", description="The rung that RUN is isolated by.")
    sandbox_reason: str = Field(default="", description="Why that one.")
    source: SourceStatus | None = Field(default=None, description="What was built.")
    current_step: str = Field(
        default="", description="The step that runs, as the log shows it: [stage n/m] instruction."
    )
    steps: list[Step] = Field(default=[], description="The latest ones, at most 100.")
    steps_truncated: bool = Field(default=False, description="Whether older ones are left out.")
    failure: FailureStatus | None = Field(default=None, description="Why it failed.")


class Poll(Model):
    """What is known of the branch or tag that is watched."""

    number: int = Field(default=0, description="Counts the looks at it.")
    commit: str = Field(default="", description="Where it was when it was last seen.")
    seen_time: str = Field(default="", description="When that was.")
    check_time: str = Field(default="", description="When it was last looked at, with or without success.")
    message: str = Field(default="", description="Why that found nothing out.")
    pod_name: str = Field(default="", description="The Pod that looks now.")
    start_time: str = Field(default="", description="Since when.")


class Log(Model):
    """The end of the executor's log."""

    tail: str = Field(default="", description="At most 4 KiB, whole lines.")
    truncated: bool = Field(default=False, description="Whether there is more.")
    pod: str = Field(default="", description="Whose log it is.")
    container: str = Field(default="", description="Whose log it is.")
    read_time: str = Field(
        default="", description="When it was read: now and then while the build runs, and at its end."
    )


class HistoryEntry(Model):
    """One finished build in one line, newest first."""

    number: int = Field(description="Of the build.")
    outcome: str = Field(description="As in build.outcome.")
    reason: str = Field(default="", description="Of a failure.")
    digest: str = Field(default="", description="Of the image.")
    commit: str = Field(default="", description="Of a git source.")
    completion_time: str = Field(default="", description="When it ended.")
    duration: str = Field(default="", description="As in the column.")


class Status(Model):
    """What became of it. Without conditions kstatus reads "done", hence the default generation of -1."""

    observed_generation: int = Field(default=-1, description="The latest spec that the operator has seen.")
    phase: Phase | None = Field(default=None, description="For people; machines read the conditions.")
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    duration: str = Field(default="", description="Of the last finished build, as a column shows it.")
    image: Image | None = Field(
        default=None, description="The last good image; it stays while a rebuild runs or fails."
    )
    build: Build | None = Field(default=None, description="The present or last build.")
    poll: Poll | None = Field(default=None, description="What is known of the branch or tag that is watched.")
    log: Log | None = Field(default=None, description="The end of the executor's log.")
    history: list[HistoryEntry] = Field(default=[], description="Finished builds, newest first.")

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, if it is set."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

"""``status`` of an ImageBuild: the observed state.

No I/O. Written by the reconciler only; read by people, by kstatus (Flux, Argo CD) and by the next pass of the
reconciler, which keeps all its state here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, computed_field

from imagewright_operator.api.base import Model

MAX_STEPS = 100
MAX_MESSAGE = 1024


class Phase(StrEnum):
    """A summary for people; programs read the conditions."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Condition(Model):
    """A condition, as in the Kubernetes API conventions."""

    type: str = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Status of the condition.")
    observed_generation: int = Field(default=0, description="Generation of the spec that the condition is about.")
    last_transition_time: str = Field(description="Time at which the status last changed.")
    reason: str = Field(description="Reason code; docs/errors.md lists them.")
    message: str = Field(default="", description="Explanation for people, with what to do.")


class Image(Model):
    """The last image that was pushed; it stays while a rebuild runs or fails."""

    reference: str = Field(description="Reference of the image, name:tag@digest, with the first tag.")
    digest: str = Field(description="Digest of the manifest.")
    size: int = Field(default=0, description="Size in the registry, in bytes: configuration and layers.")

    # For a column of kubectl get, which cannot shorten what it shows.
    @computed_field(description="Start of the digest, for people: sha256: and 12 digits.")  # type: ignore[prop-decorator]
    @property
    def short_digest(self) -> str:
        algorithm, _, digits = self.digest.partition(":")
        return f"{algorithm}:{digits[:12]}"


class SourceStatus(Model):
    """The source that was built."""

    commit: str = Field(default="", description="Commit of a git source.")
    digest: str = Field(default="", description="Digest of any other source.")


class Step(Model):
    """An executed instruction."""

    name: str = Field(description="Name of the step, as in the log.")
    start_time: str = Field(default="", description="Time at which the step started.")
    completion_time: str = Field(default="", description="Time at which the step ended.")
    cached: bool = Field(default=False, description="Whether the step's layer was found in the cache.")
    cache_miss: str = Field(default="", description="Reason for executing the step although a cache is configured.")
    exit_code: int | None = Field(default=None, description="Exit code of a RUN that failed.")


class FailureLocation(Model):
    """The container whose log tells more."""

    pod: str = Field(default="", description="Name of the Pod.")
    container: str = Field(default="", description="Name of the container.")


class FailureStatus(Model):
    """A failed build's reason and place in the Dockerfile."""

    reason: str = Field(description="Reason code; docs/errors.md lists them.")
    message: str = Field(default="", description="Explanation for people, with what to do.")
    instruction: str = Field(default="", description="Instruction of the Dockerfile that failed, as written.")
    file: str = Field(default="", description="Name of the Dockerfile.")
    line: int | None = Field(default=None, description="Line of the instruction in the Dockerfile, counted from 1.")
    exit_code: int | None = Field(default=None, description="Exit code of a RUN that failed.")
    location: FailureLocation | None = None


class PodIdentity(Model):
    """A Pod that the operator has created. The result of another one with its name does not count."""

    uid: str = Field(description="UID of the Pod.")
    fingerprint: str = Field(
        default="", description="Hash of its image, command and request when it was created, which must not change."
    )


class Build(Model):
    """A build: recorded when it is queued, completed by its outcome.

    ``id`` and the names of the Pods follow from ``number`` and the inputs, so that every operator that reads the record
    creates the same Pod.
    """

    id: str = Field(description="ID of the build, which is part of the names of its Pods.")
    number: int = Field(default=1, description="Number of the build, counted from 1 for each ImageBuild.")
    inputs_hash: str = Field(description="Hash of everything that the image is made from.")
    environment_hash: str = Field(default="", description="Hash of the fields that affect whether a build succeeds.")
    requested_at: str = Field(
        default="", description="Value of the annotation imagewright.dev/requestedAt when the build was queued."
    )
    polled_commit: str = Field(
        default="", description="Commit to which the polled branch or tag had moved, if that started the build."
    )
    attempt: int = Field(
        default=1,
        description="Number of the attempt, counted from 1; further ones follow failures of the infrastructure.",
    )
    releases: int | None = Field(
        default=None,
        description="Number of Pods of the attempt that were given up before they ran; each next one has another name.",
    )
    pod_names: list[str] = Field(default=[], description="Names of the current attempt's Pods, one for each platform.")
    pod: PodIdentity | None = Field(
        default=None, description="Identity of the current attempt's Pod, once it is created."
    )
    earlier_pods: list[PodIdentity] = Field(
        default=[], description="Identities of earlier Pods of the build, latest last."
    )
    previous_pods: list[PodIdentity] = Field(
        default=[], description="Identities of Pods of the build before, for whose end this one waits."
    )
    node_name: str = Field(default="", description="Node on which the Pod runs.")
    queue_time: str = Field(default="", description="Time at which the build was queued.")
    start_time: str = Field(default="", description="Time at which the executor started.")
    completion_time: str = Field(default="", description="Time at which the build ended.")
    not_before: str = Field(default="", description="Earliest time at which the attempt may start.")
    outcome: Literal["", "Succeeded", "Failed", "Cancelled", "Replaced"] = Field(
        default="", description="Outcome of the build; empty while it is in progress."
    )
    sandbox: str = Field(default="", description="Sandbox mode that isolates RUN.")
    sandbox_reason: str = Field(default="", description="Explanation of why that sandbox mode was chosen.")
    source: SourceStatus | None = Field(default=None, description="Source that was built.")
    current_step: str = Field(default="", description="Step that is running, as in the log: [stage n/m] instruction.")
    steps: list[Step] = Field(default=[], description="Latest steps, at most 100.")
    steps_truncated: bool = Field(default=False, description="Whether earlier steps are omitted.")
    failure: FailureStatus | None = Field(default=None, description="Failure of the build.")


class Poll(Model):
    """State of polling the branch or tag."""

    number: int = Field(default=0, description="Number of polls so far.")
    commit: str = Field(default="", description="Commit that was seen last.")
    seen_time: str = Field(default="", description="Time at which that commit was last seen.")
    check_time: str = Field(default="", description="Time of the last poll, whether it succeeded or not.")
    message: str = Field(default="", description="Error of the last poll; empty if it succeeded.")
    pod_name: str = Field(default="", description="Name of the Pod that is polling now.")
    start_time: str = Field(default="", description="Time at which the current poll started.")
    pod: PodIdentity | None = Field(
        default=None, description="Identity of the Pod that is polling now, once it is created."
    )


class Log(Model):
    """The end of the executor's log."""

    tail: str = Field(default="", description="Last lines of the log, at most 4 KiB.")
    truncated: bool = Field(default=False, description="Whether earlier lines are omitted.")
    pod: str = Field(default="", description="Name of the Pod that wrote the log.")
    container: str = Field(default="", description="Name of the container that wrote the log.")
    read_time: str = Field(
        default="", description="Time at which the log was read: at intervals while the build runs, and at its end."
    )


class HistoryEntry(Model):
    """A finished build."""

    number: int = Field(description="Number of the build.")
    outcome: str = Field(description="Outcome of the build, as in build.outcome.")
    reason: str = Field(default="", description="Reason code of a failed build.")
    digest: str = Field(default="", description="Digest of the image.")
    commit: str = Field(default="", description="Commit of a git source.")
    completion_time: str = Field(default="", description="Time at which the build ended.")
    duration: str = Field(default="", description="Duration of the build, such as 1m23s.")


class Status(Model):
    """Observed state of the ImageBuild."""

    # The default keeps kstatus from reading a new object as done.
    observed_generation: int = Field(
        default=-1, description="Latest generation of the spec that the operator has processed."
    )
    phase: Phase | None = Field(default=None, description="Summary for people; programs read the conditions.")
    conditions: Annotated[
        list[Condition],
        Field(
            description="Conditions, as in the Kubernetes API conventions.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    duration: str = Field(default="", description="Duration of the last finished build, such as 1m23s.")
    image: Image | None = Field(
        default=None, description="Last image that was pushed; it stays while a rebuild runs or fails."
    )
    build: Build | None = Field(default=None, description="Current or last build.")
    poll: Poll | None = Field(default=None, description="State of polling the branch or tag.")
    log: Log | None = Field(default=None, description="End of the executor's log.")
    history: list[HistoryEntry] = Field(default=[], description="Finished builds, newest first.")

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

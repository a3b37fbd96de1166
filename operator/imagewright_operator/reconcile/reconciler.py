"""What to do next for one ImageBuild: (ImageBuild, Pods, now) -> Decision.

No I/O. Called by ``controller`` for every event, wake-up and resync alike. Level-triggered and idempotent: the same
state gives the same decision, so a lost, doubled or reordered event changes nothing, and nothing that matters lives in
memory. A build is claimed in the status first, under a resource version; its Pod's name follows from the claim, so
that an operator killed between two steps, or a second operator, continues with the same Pod instead of another one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from imagewright.contract.result import BuildResult
from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import parse_duration
from imagewright_operator.api.spec import ConcurrencyPolicy, RetryCause
from imagewright_operator.api.status import Build, FailureStatus, Phase, Poll
from imagewright_operator.pods import logtail
from imagewright_operator.pods.manifests import pod_name
from imagewright_operator.pods.observation import Observation, PodState, parse_time
from imagewright_operator.reconcile import builds, polling, validation
from imagewright_operator.reconcile.actions import Decision, Notice, Refusal, World
from imagewright_operator.reconcile.inputs import Inputs
from imagewright_operator.settings import Settings
from imagewright_operator.status import records
from imagewright_operator.status.records import Kind, State

QUEUED, PENDING, RUNNING = "BuildQueued", "PodPending", "BuildRunning"
SUSPENDED, RETRYING = "Suspended", "BuildRetrying"

_LINGER = timedelta(seconds=60)  # after its grace period a Pod that is still there is on a node that doesn't answer
_RETRY_BACKOFF = timedelta(seconds=10)  # doubled with every attempt
REFUSAL_PAUSE_S = 15.0
_POLL_S = 5.0  # a failing mount doesn't touch the Pod: nothing but its Events tell of it
_TOLD_BY_THE_POD = (Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED)  # its status changes when they do: no need to poll
_REFUSALS = (Reason.QUOTA_EXCEEDED, Reason.POD_REJECTED)
_HEALING = (Reason.SECRET_NOT_FOUND, Reason.CONFIG_MAP_NOT_FOUND)


def reconcile(world: World, settings: Settings) -> Decision:
    """The next step. Of an ImageBuild that is being deleted its owner references clean up."""
    if world.imagebuild.metadata.deletion_timestamp:
        return Decision(world.imagebuild.status)
    return _Pass(world, settings).decide()


def refused(world: World, decision: Decision, refusal: Refusal, settings: Settings) -> Decision:
    """What becomes of a build whose Pod was refused, after ``decision`` was stored."""
    imagebuild = world.imagebuild.model_copy(update={"status": decision.status})
    return _Pass(replace(world, imagebuild=imagebuild, pods=()), settings).refuse(refusal)


def unreadable(imagebuild: ImageBuild, message: str, now: datetime) -> Decision:
    """For a spec that this version can't even read; everything else in the status stays."""
    state = State(Kind.FAILED, Phase.FAILED, Reason.INVALID_SPEC, message)
    return Decision(records.status_of(imagebuild, state, now))


def is_live(pod: Observation, now: datetime) -> bool:
    """Whether it may still run. One that is there long after its deletion is on a node that doesn't answer."""
    gone_by = parse_time(pod.deleted)
    return not pod.ended and (gone_by is None or now < gone_by + _LINGER)


class _Pass:
    """One decision in the making."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.now = world.now
        self.imagebuild = world.imagebuild
        self.spec = world.imagebuild.spec
        self.settings = settings
        self.inputs = Inputs.of(world.imagebuild)
        self.problems = validation.problems(world.imagebuild, settings)
        self.build = world.imagebuild.status.build
        self.changes: dict[str, object] = {}
        self.delete: list[Observation] = []
        self.create: Build | None = None
        self.notices: list[Notice] = []
        self.wakes: list[float] = []
        self.wants_log = ""
        self.probe = ""
        self.finished: Build | None = None

    def decide(self) -> Decision:
        state = self._active(self.build) if self.build is not None and not self.build.outcome else None
        return self._decision(state or self._idle())

    def refuse(self, refusal: Refusal) -> Decision:
        assert self.build is not None, "a Pod is only created for a claim"
        if refusal.heals:
            self.wakes.append(REFUSAL_PAUSE_S)
            if self._ready_reason() != refusal.reason:
                self._notify(refusal.reason, refusal.message, warning=True)
            return self._decision(State(Kind.WAITING, Phase.QUEUED, refusal.reason, refusal.message))
        self._finish("Failed", FailureStatus(reason=refusal.reason, message=records.clipped(refusal.message)))
        return self._decision(records.finished_state(self.build))

    def _decision(self, state: State) -> Decision:
        self._tidy()
        status = records.status_of(self.imagebuild, state, self.now, build=self.build, **self.changes)
        return Decision(
            status=status,
            delete=tuple(self.delete),
            create=self.create,
            notices=tuple(self.notices),
            wake_s=max(0.2, min(self.wakes)) if self.wakes else None,
            wants_log=self.wants_log,
            probe=self.probe,
            finished=self.finished,
        )

    # --- a build that is under way

    def _active(self, build: Build) -> State | None:
        """What a build without an outcome is doing; None when it has just got one."""
        seen = self._pod_of(build) or self._pushed_before(build)
        if seen is None:
            return self._stop(build, None) or self._without_pod(build)
        self.build = build = records.absorbed(build, seen, seen.result)
        if seen.ended:
            return self._ended(build, seen)
        if not is_live(seen, self.now):
            lost = seen.reason or Reason.NODE_LOST
            words = seen.message or f"Pod {seen.name} can't be deleted: its node doesn't answer"
            return self._failed(build, replace(seen, reason=lost, message=words), None)
        return self._stop(build, seen) or (
            self._waiting(build, seen) if seen.state is PodState.WAITING else self._running(build, seen)
        )

    def _stop(self, build: Build, seen: Observation | None) -> State | None:
        """End a build that is no longer wanted; None when it is wanted, or has just ended."""
        superseded = bool(self.problems) or not self.inputs.is_of(build)
        if self.spec.cancelled:
            failure = FailureStatus(reason=Reason.CANCELLED, message="cancelled: spec.cancelled is true")
            outcome: Literal["Cancelled", "Replaced"] = "Cancelled"
        elif superseded and (seen is None or self.spec.concurrency_policy is ConcurrencyPolicy.REPLACE):
            failure = FailureStatus(reason=Reason.CANCELLED, message="replaced: the spec was changed during the build")
            outcome = "Replaced"
        else:
            return None
        if seen is not None:
            self.delete.append(seen)
            if seen.state is PodState.RUNNING and outcome == "Cancelled":
                self._keep_log(seen)
        self._finish(outcome, failure)
        return self._idle()

    def _without_pod(self, build: Build) -> State:
        if build.pod_names:
            words = f"Pod {build.pod_names[0]} was deleted before it had reported a result"
            gone = Observation(
                state=PodState.FAILED,
                name=build.pod_names[0],
                uid="",
                reason=Reason.POD_DELETED,
                message=words,
                retry=RetryCause.POD_DELETED,
            )
            return self._failed(build, gone, None) or self._idle()
        others = [pod for pod in self.world.pods if is_live(pod, self.now)]
        if others:
            self.wakes.append(_POLL_S)
            return State(
                Kind.PROGRESSING, Phase.QUEUED, QUEUED, f"waits for Pod {others[0].name} of an earlier build to end"
            )
        if self.spec.suspend:
            return _suspended()
        left = self._seconds_until(build.not_before)
        if left > 0:
            self.wakes.append(left)
            return self._said_before("Unknown") or State(
                Kind.PROGRESSING, Phase.QUEUED, RETRYING, f"attempt {build.attempt} starts at {build.not_before}"
            )
        if self.world.hold:
            return self._said_before("False") or State(Kind.PROGRESSING, Phase.QUEUED, QUEUED, self.world.hold)
        self.create = build
        return self._said_before("False") or State(
            Kind.PROGRESSING, Phase.QUEUED, QUEUED, "the executor Pod is being created"
        )

    def _said_before(self, ready_status: str) -> State | None:
        """Why the Pod was refused, or why there is another attempt: it stays said until something else happens."""
        ready = self.imagebuild.status.condition("Ready")
        waits = self.imagebuild.status.condition("Reconciling") is not None
        if (
            ready is None
            or not waits
            or self.imagebuild.status.phase is not Phase.QUEUED
            or ready.status != ready_status
        ):
            return None
        if ready_status == "False":
            return State(Kind.WAITING, Phase.QUEUED, ready.reason, ready.message) if ready.reason in _REFUSALS else None
        return State(Kind.PROGRESSING, Phase.QUEUED, ready.reason, ready.message)

    def _waiting(self, build: Build, seen: Observation) -> State | None:
        limit = parse_duration(self.spec.start_timeout)
        left = self._seconds_until(seen.created, limit)
        if seen.deleted:
            return self._anew(build, seen, max(1.0, self._seconds_until(seen.deleted, _LINGER)))
        if left <= 0 and seen.heals:
            # The deadline that the kubelet enforces counts this wait: a new Pod gives the build its whole time again.
            self.delete.append(seen)
            self._let_go(build)
        elif left <= 0:
            return self._gave_up(seen)
        else:
            self.wakes.append(left if seen.reason in _TOLD_BY_THE_POD else min(left, _POLL_S))
        if not seen.reason:
            return State(Kind.PROGRESSING, Phase.PENDING, PENDING, f"Pod {seen.name} is starting")
        if self._ready_reason() != seen.reason:
            self._notify(seen.reason, seen.message, warning=True)
        return State(Kind.WAITING, Phase.PENDING, seen.reason, seen.message)

    def _anew(self, build: Build, seen: Observation, wake_s: float = 1.0) -> State:
        """It has never run: another Pod under the same name starts the same attempt, and nothing is lost."""
        self._let_go(build, wake_s)
        return State(Kind.PROGRESSING, Phase.PENDING, PENDING, f"Pod {seen.name} is deleted and will be started anew")

    def _let_go(self, build: Build, wake_s: float = 1.0) -> None:
        """Its Pod is the build's no more, and has told nothing: look soon whether another can be created."""
        self.build = build.model_copy(update={"pod_names": [], "node_name": "", "completion_time": ""})
        self.wakes.append(wake_s)

    def _gave_up(self, seen: Observation) -> State | None:
        if not seen.ended:
            self.delete.append(seen)
        limit = f"it did not start within spec.startTimeout of {self.spec.start_timeout}"
        message = f"{seen.message.rstrip('. ')}; {limit}" if seen.reason else f"Pod {seen.name}: {limit}"
        reason = seen.reason or Reason.START_TIMEOUT
        self._finish("Failed", records.failure(reason, message, seen))
        return None

    def _running(self, build: Build, seen: Observation) -> State | None:
        left = self._seconds_until(seen.started, parse_duration(self.spec.timeout))
        if left <= 0 and not seen.finished:
            self.delete.append(seen)
            self._keep_log(seen)
            self._finish("Failed", records.failure(Reason.TIMEOUT, self._timed_out(), seen))
            return None
        self.wakes.append(max(left, 1.0))
        if seen.deleted:
            self.wakes.append(max(1.0, self._seconds_until(seen.deleted, _LINGER)))
        before = self.imagebuild.status.build
        if before is None or before.start_time != build.start_time:
            self._notify("BuildStarted", f"Pod {seen.name} builds on node {seen.node}")
        self.build = build = self._follow(build, seen)
        words = f"Pod {seen.name} builds the image" + (f": {build.current_step}" if build.current_step else "")
        if seen.deleted:
            words = f"Pod {seen.name} is being deleted: its node has yet to say how it ended"
        return State(Kind.PROGRESSING, Phase.RUNNING, RUNNING, records.clipped(words))

    # --- a build that has ended

    def _ended(self, build: Build, seen: Observation) -> State | None:
        if seen.deleted and seen.retry is RetryCause.NODE_LOST and not (seen.started or build.start_time):
            return self._anew(build, seen)  # the kubelet has no status of a container that was never there
        self._keep_log(seen)
        result = self._result(seen)
        self.build = build = records.absorbed(build, seen, result)
        if seen.state is PodState.SUCCEEDED and result is not None and result.digest and result.failure is None:
            self.changes["image"] = records.image_of(result)
            self._finish("Succeeded", None, digest=result.digest)
            return None
        if seen.state is PodState.SUCCEEDED:
            words = "the executor ended without a report: operator and executor image should be of the same release"
            seen = replace(seen, reason=Reason.INTERNAL_ERROR, message=words)
        if seen.reason == Reason.TIMEOUT and not seen.started:
            if self._ready_reason() in _HEALING:
                self.delete.append(seen)
                return self._anew(build, seen)
            return self._gave_up(replace(seen, reason=""))
        if seen.reason == Reason.TIMEOUT:
            seen = replace(seen, message=self._timed_out())
        return self._failed(build, seen, result)

    def _result(self, seen: Observation) -> BuildResult | None:
        """The termination message's, or the log's where that is the fuller one.

        The log is believed only where the container ended well by itself: any RUN can print such a line.
        """
        whole = logtail.result(self.world.log or b"") if seen.state is PodState.SUCCEEDED else None
        if whole is None or (seen.result is not None and whole.digest != seen.result.digest):
            return seen.result
        return whole

    def _failed(self, build: Build, seen: Observation, result: BuildResult | None) -> State | None:
        """After a failure of the infrastructure the next attempt, else the end of the build."""
        retry = self.spec.retry
        wanted = not self.spec.cancelled and not self.problems and self.inputs.is_of(build)
        if seen.retry is None or seen.retry not in retry.causes or build.attempt > retry.limit or not wanted:
            self._finish("Failed", records.failure_of(seen, result))
            return None
        wait = _RETRY_BACKOFF * 2 ** (build.attempt - 1)
        self.build = builds.again(build, self.now + wait)
        self.wakes.append(wait.total_seconds())
        words = f"{seen.message}; attempt {build.attempt + 1} of {retry.limit + 1} follows"
        self._notify("BuildRetried", words, warning=True)
        return State(Kind.PROGRESSING, Phase.QUEUED, seen.reason, words)

    def _finish(
        self,
        outcome: Literal["Succeeded", "Failed", "Cancelled", "Replaced"],
        failure: FailureStatus | None,
        digest: str = "",
    ) -> None:
        """Record the outcome: in the build, the history and the notices."""
        assert self.build is not None
        self.build = self.finished = build = records.completed(self.build, outcome, failure, self.now)
        duration = records.duration_of(build)
        limit = self.spec.retention.history_limit
        self.changes["duration"] = duration
        self.changes["history"] = records.with_history(self.imagebuild.status, build, digest, limit)
        if outcome == "Succeeded":
            took = f" in {duration}" if duration else ""
            self._notify("BuildSucceeded", f"pushed {', '.join(self.spec.output.tags)} as {digest}{took}")
        elif failure is not None and outcome == "Failed":
            self._notify("BuildFailed", f"{failure.reason}: {failure.message}", warning=True)
        elif failure is not None:
            self._notify("BuildCancelled", failure.message)

    # --- no build, or one that is over

    def _idle(self) -> State:
        if self.problems:
            words = "; ".join(self.problems)
            if self._ready_reason() != Reason.INVALID_SPEC:
                key = f"{Reason.INVALID_SPEC}-{self.imagebuild.metadata.generation}"
                self.notices.append(Notice("BuildFailed", f"{Reason.INVALID_SPEC}: {words}", key, warning=True))
            return State(Kind.FAILED, Phase.FAILED, Reason.INVALID_SPEC, words)
        if self.build is not None and not builds.is_due(self.imagebuild, self.inputs, self.build):
            self._poll(self.build)
            return records.finished_state(self.build)
        if self.spec.cancelled:
            words = "cancelled: set spec.cancelled to false to build"
            return State(Kind.FAILED, Phase.CANCELLED, Reason.CANCELLED, words)
        if self.spec.suspend:
            return _suspended()
        self.build = build = builds.new(self.imagebuild, self.inputs, self.build, self.now)
        self.changes |= {"log": None, "duration": ""}
        why = f", since its source has moved to {build.polled_commit[:12]}" if build.polled_commit else ""
        self._notify("BuildQueued", f"build {build.number} of {', '.join(self.spec.output.tags)}{why}")
        if self._pod_of(build) is not None:
            self.wakes.append(0.2)  # a status was lost, its Pod was not: the next pass takes it up
            return State(Kind.PROGRESSING, Phase.QUEUED, QUEUED, "the executor Pod is there already")
        return self._without_pod(build)

    def _poll(self, build: Build) -> None:
        """Look where the branch is, when nothing else is to be done and it is time."""
        if self.spec.suspend or self.spec.cancelled:
            return
        polled = polling.poll(self.imagebuild, build, self.world.probes, self.now)
        if polled is None:
            return
        self.changes["poll"] = polled.status
        self.probe = polled.status.pod_name if polled.create else ""
        self.wakes.append(polled.wake_s)

    # --- all of it

    def _tidy(self) -> None:
        """Pods of builds that are over: end what still runs, delete what has ended when its time has come."""
        current = pod_name(self.imagebuild.metadata.name, self.build) if self.build and not self.build.outcome else ""
        going = {pod.uid for pod in self.delete}
        keep = parse_duration(self.spec.retention.pod_ttl) if not self.problems else timedelta(hours=1)
        asks = self.changes.setdefault("poll", polling.stopped(self.imagebuild))
        asking = asks.pod_name if isinstance(asks, Poll) else ""
        self.delete += [pod for pod in self.world.probes if pod.name != asking and not pod.deleted]
        over = [pod for pod in self.world.pods if pod.name != current and pod.uid not in going]
        tidying = builds.tidy(over, keep, self.now)
        self.delete += tidying.delete
        self.wakes += tidying.wakes

    def _follow(self, build: Build, seen: Observation) -> Build:
        """The record with the step that a running build is at; its log now and then, more rarely as it goes on."""
        log = self.imagebuild.status.log
        read = log.read_time if log is not None and log.pod == seen.name else ""
        pause = logtail.pause_s(-self._seconds_until(seen.started), self.settings.log_refresh_s)
        if not pause:
            return build
        left = self._seconds_until(read or seen.started, timedelta(seconds=pause))
        self.wakes.append(left if left > 0 else pause)
        if left <= 0:
            self._keep_log(seen)
        step = logtail.step(self.world.log or b"")
        return build.model_copy(update={"current_step": step}) if step else build

    def _keep_log(self, seen: Observation) -> None:
        if self.world.log is None:
            self.wants_log = seen.name
        elif self.world.log:
            self.changes["log"] = records.log_of(seen, self.world.log, self.now, self.imagebuild.status.log)

    def _pod_of(self, build: Build) -> Observation | None:
        name = pod_name(self.imagebuild.metadata.name, build)
        return next((pod for pod in self.world.pods if pod.name == name), None)

    def _pushed_before(self, build: Build) -> Observation | None:
        """An earlier attempt that had pushed after all, though it was given up: its last word came late."""
        prefix = pod_name(self.imagebuild.metadata.name, build).removesuffix(str(build.attempt))
        return next(
            (
                pod
                for pod in self.world.pods
                if pod.name.startswith(prefix) and pod.state is PodState.SUCCEEDED and pod.result is not None
            ),
            None,
        )

    def _ready_reason(self) -> str:
        ready = self.imagebuild.status.condition("Ready")
        return ready.reason if ready is not None else ""

    def _timed_out(self) -> str:
        return f"the build took longer than spec.timeout of {self.spec.timeout}: raise it, or make the build shorter"

    def _seconds_until(self, start: str, after: timedelta = timedelta()) -> float:
        """Until ``after`` has passed since ``start``; 0 or less when it has. An unknown start is now."""
        moment = parse_time(start)
        if moment is None:
            return after.total_seconds()
        return (moment + after - self.now).total_seconds()

    def _notify(self, reason: str, message: str, *, warning: bool = False) -> None:
        build = self.build
        key = f"{build.id}-{build.attempt}-{reason}" if build is not None else reason
        self.notices.append(Notice(reason, message, key, warning))


def _suspended() -> State:
    return State(Kind.WAITING, Phase.QUEUED, SUSPENDED, "spec.suspend is true: the build starts when it is false")

"""The reconciler: what to do next for one ImageBuild, as ``ReconcileInput -> Actions``.

No I/O but by the callbacks of its input. Level-triggered and idempotent: the same state gives the same actions, so a
lost, duplicated or reordered event changes nothing, and nothing that matters is kept in memory. A build is recorded in
the status first, under a resource version; the name of its Pod follows from that record, so that an operator that was
killed between two steps, or a second operator, continues with the same Pod instead of creating another one.
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
from imagewright_operator.pods.observation import LINGER, Observation, PodState, parse_time
from imagewright_operator.reconcile import builds, polling, trust, validation
from imagewright_operator.reconcile.actions import Actions, CreateError, Event, ReconcileInput
from imagewright_operator.reconcile.inputs import Inputs
from imagewright_operator.settings import Settings
from imagewright_operator.status import conditions, records
from imagewright_operator.status.conditions import (
    QUEUED,
    RETRYING,
    RUNNING,
    State,
    StateKind,
    pending,
    queued,
    reported_before,
    suspended,
)

_RETRY_BACKOFF = timedelta(seconds=10)  # doubled with every attempt
_RECREATE_BACKOFF = timedelta(seconds=1)  # doubled with every Pod of the attempt that never ran
_MAX_RECREATE_BACKOFF = timedelta(minutes=5)
CREATE_RETRY_S = 15.0
_POLL_S = 5.0  # a failing mount is reported by Events only, the Pod's status does not change
_REPORTED_BY_POD_STATUS = (Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED)  # no need to poll
_FIND_OUT = "Find out who may change Pods of this namespace, then request another build."
_TRANSIENT = (Reason.SECRET_NOT_FOUND, Reason.CONFIG_MAP_NOT_FOUND)
_KEPT = (Reason.QUOTA_EXCEEDED, Reason.POD_REJECTED, Reason.POD_NAME_TAKEN, *_TRANSIENT)  # until a Pod starts


def reconcile(observed: ReconcileInput, settings: Settings) -> Actions:
    """The next step. An ImageBuild that is being deleted needs none: its Pods are garbage-collected."""
    if observed.imagebuild.metadata.deletion_timestamp:
        return Actions(observed.imagebuild.status)
    return _Pass(observed, settings).decide()


def created(observed: ReconcileInput, actions: Actions, pod: Observation, settings: Settings) -> Actions:
    """What follows when the Pod of ``actions.create`` was created: from now on no other Pod of its name counts."""
    imagebuild = observed.imagebuild.model_copy(update={"status": actions.status})
    return _Pass(replace(observed, imagebuild=imagebuild, pods=()), settings).created(pod)


def create_failed(observed: ReconcileInput, actions: Actions, error: CreateError, settings: Settings) -> Actions:
    """What follows when the Pod of ``actions.create`` could not be created, after the status was stored."""
    imagebuild = observed.imagebuild.model_copy(update={"status": actions.status})
    return _Pass(replace(observed, imagebuild=imagebuild, pods=()), settings).create_failed(error)


def invalid(imagebuild: ImageBuild, message: str, now: datetime) -> Actions:
    """Report a spec that this version cannot parse; everything else in the status stays."""
    state = State(StateKind.FAILED, Phase.FAILED, Reason.INVALID_SPEC, message)
    return Actions(conditions.status_of(imagebuild, state, now))


class _Pass:
    """One pass over one ImageBuild: collects the actions."""

    def __init__(self, observed: ReconcileInput, settings: Settings) -> None:
        self.observed = observed
        self.now = observed.now
        self.imagebuild = observed.imagebuild
        self.spec = observed.imagebuild.spec
        self.settings = settings
        self.inputs = Inputs.of(observed.imagebuild)
        self.problems = validation.defects(observed.imagebuild, settings)
        self.refusals = validation.refusals(observed.imagebuild, settings) if not self.problems else ()
        self.build = observed.imagebuild.status.build
        self.changes: dict[str, object] = {}
        self.delete: list[Observation] = []
        self.create: Build | None = None
        self.events: list[Event] = []
        self.requeues_s: list[float] = []
        self.poll_pod = ""
        self.finished: Build | None = None

    def decide(self) -> Actions:
        state = self._active(self.build) if self.build is not None and not self.build.outcome else None
        return self._actions(state or self._idle())

    def created(self, pod: Observation) -> Actions:
        assert self.build is not None, "a Pod is only created for a recorded build"
        self.build = records.with_observation(self.build, pod, None)
        return self._actions(pending(f"Pod {pod.name} is starting"))

    def create_failed(self, error: CreateError) -> Actions:
        assert self.build is not None, "a Pod is only created for a recorded build"
        if error.transient:
            self.requeues_s.append(CREATE_RETRY_S)
            if self._ready_reason() != error.reason:
                self._record_event(error.reason, error.message, warning=True)
            return self._actions(State(StateKind.WAITING, Phase.QUEUED, error.reason, error.message))
        self._finish("Failed", FailureStatus(reason=error.reason, message=records.clipped(error.message)))
        return self._actions(conditions.finished_state(self.build))

    def _actions(self, state: State) -> Actions:
        self._clean_up()
        changes = {"build": self.build, **self.changes}
        status = conditions.status_of(self.imagebuild, state, self.now, changes, self.observed.conditions)
        return Actions(
            status=status,
            delete=tuple(self.delete),
            create=self.create,
            events=tuple(self.events),
            requeue_after_s=max(0.2, min(self.requeues_s)) if self.requeues_s else None,
            poll_pod=self.poll_pod,
            finished=self.finished,
        )

    # --- a build in progress

    def _active(self, build: Build) -> State | None:
        """The state of a build without an outcome; None if it has just finished."""
        seen = self._pod_of(build) or trust.pushed_before(build, self.observed.pods)
        if seen is None:
            return self._stop(build, None) or self._start(build)
        self.build = build = records.with_observation(build, seen, seen.result)
        if changed := trust.tampering(build, seen):
            self._distrust(seen, changed)
            return None
        if seen.ended:
            return self._ended(build, seen)
        if not seen.is_live(self.now):
            lost = seen.reason or Reason.NODE_LOST
            message = seen.message or f"cannot delete Pod {seen.name}: its node is not responding"
            return self._failed(build, replace(seen, reason=lost, message=message), None)
        return self._stop(build, seen) or (
            self._waiting(build, seen) if seen.state is PodState.WAITING else self._running(build, seen)
        )

    def _stop(self, build: Build, seen: Observation | None) -> State | None:
        """End a build that is no longer wanted; None if it is wanted."""
        refused = self.refusals and (seen is None or self._is_edited(build))
        superseded = bool(self.problems or refused) or not self.inputs.is_of(build)
        if self.spec.cancelled:
            failure = FailureStatus(reason=Reason.CANCELLED, message="spec.cancelled is true")
            outcome: Literal["Cancelled", "Replaced"] = "Cancelled"
        elif superseded and (seen is None or self.spec.concurrency_policy is ConcurrencyPolicy.REPLACE):
            message = "replaced: the spec is not allowed" if refused else "replaced: the spec changed during the build"
            failure = FailureStatus(reason=Reason.CANCELLED, message=message)
            outcome = "Replaced"
        else:
            return None
        if seen is not None:
            self.delete.append(seen)
            if seen.state is PodState.RUNNING and outcome == "Cancelled":
                self._read_log(seen)
        self._finish(outcome, failure)
        return self._idle()

    def _start(self, build: Build) -> State:
        if build.pod_names:
            message = f"Pod {build.pod_names[0]} was deleted before it reported a result"
            gone = Observation(
                state=PodState.FAILED,
                name=build.pod_names[0],
                uid="",
                reason=Reason.POD_DELETED,
                message=message,
                retry=RetryCause.POD_DELETED,
            )
            return self._failed(build, gone, None) or self._idle()
        reported = reported_before(self.imagebuild.status, "False", _KEPT)
        earlier = trust.still_running(build, self.observed.pods, self.now)
        if earlier:
            self.requeues_s.append(_POLL_S)
            return reported or queued(QUEUED, f"waiting for the earlier Pod {earlier[0].name} to end")
        if self.spec.suspend:
            return suspended()
        left = self._seconds_until(build.not_before)
        if left > 0:
            self.requeues_s.append(left)
            starts = f"attempt {build.attempt} starts at {build.not_before}"
            retried = reported_before(self.imagebuild.status, "Unknown")
            return reported or retried or queued(RETRYING, starts)
        wait_reason = self.observed.admit(build)
        self.create = None if wait_reason else build
        return reported or queued(QUEUED, wait_reason or "creating the executor Pod")

    def _waiting(self, build: Build, seen: Observation) -> State | None:
        limit = parse_duration(self.spec.start_timeout)
        left = self._seconds_until(seen.created, limit)
        if seen.deleted:
            return self._recreate(build, seen)
        if left <= 0 and seen.transient:
            # activeDeadlineSeconds includes this wait: a new Pod gives the build its full time.
            self.delete.append(seen)
            return self._recreate(build, seen)
        if left <= 0:
            return self._start_timed_out(seen)
        self.requeues_s.append(left if seen.reason in _REPORTED_BY_POD_STATUS else min(left, _POLL_S))
        if not seen.reason:
            return pending(f"Pod {seen.name} is starting")
        if self._ready_reason() != seen.reason:
            self._record_event(seen.reason, seen.message, warning=True)
        return State(StateKind.WAITING, Phase.PENDING, seen.reason, seen.message)

    def _recreate(self, build: Build, seen: Observation) -> State:
        """Start the same attempt again with a new Pod: this one never ran, nothing is lost.

        Each time after a longer pause: what has deleted this one, or what it lacks, may do so with the next.
        """
        pause = min(_RECREATE_BACKOFF * 2 ** min(build.releases or 0, 10), _MAX_RECREATE_BACKOFF)
        self.build = builds.without_pod(build, self.now + pause)
        self.requeues_s.append(pause.total_seconds())
        ready, another = self.imagebuild.status.condition("Ready"), f"another Pod follows at {self.build.not_before}"
        missing = next((one for one in (seen, ready) if one is not None and one.reason in _TRANSIENT), None)
        if missing is not None:
            return State(StateKind.WAITING, Phase.QUEUED, missing.reason, f"{missing.message}; {another}")
        return queued(RETRYING, f"Pod {seen.name} was deleted before it ran: {another}")

    def _start_timed_out(self, seen: Observation) -> State | None:
        if not seen.ended:
            self.delete.append(seen)
        expired = f"Pod {seen.name} did not start within spec.startTimeout ({self.spec.start_timeout})"
        why = f": {seen.message.rstrip('. ')}" if seen.reason else ""
        again = f". Request another build when it can: kubectl imagewright rebuild {self.imagebuild.metadata.name}"
        self._finish("Failed", records.failure(seen.reason or Reason.START_TIMEOUT, expired + why + again, seen))
        return None

    def _running(self, build: Build, seen: Observation) -> State | None:
        left = self._seconds_until(seen.started, parse_duration(self.spec.timeout))
        if left <= 0 and not seen.finished:
            self.delete.append(seen)
            self._read_log(seen)
            self._finish("Failed", records.failure(Reason.TIMEOUT, self._timed_out(), seen))
            return None
        self.requeues_s.append(_POLL_S if seen.finished else max(left, 1.0))  # finished: its other containers end soon
        if seen.deleted:
            self.requeues_s.append(max(1.0, self._seconds_until(seen.deleted, LINGER)))
        before = self.imagebuild.status.build
        if before is None or before.start_time != build.start_time:
            self._record_event("BuildStarted", f"Pod {seen.name} is building on node {seen.node}")
        self.build = build = self._with_current_step(build, seen)
        message = f"Pod {seen.name} is building the image" + (f": {build.current_step}" if build.current_step else "")
        if seen.deleted:
            message = f"Pod {seen.name} is being deleted: waiting for its node to report how it ended"
        return State(StateKind.PROGRESSING, Phase.RUNNING, RUNNING, records.clipped(message))

    # --- a build whose Pod has ended

    def _ended(self, build: Build, seen: Observation) -> State | None:
        if seen.deleted and seen.retry is RetryCause.NODE_LOST and not (seen.started or build.start_time):
            return self._recreate(build, seen)  # there never was a container to report
        result = trust.result_of(seen, self._read_log(seen))
        self.build = build = records.with_observation(build, seen, result)
        if seen.state is PodState.SUCCEEDED and result is not None and result.digest and result.failure is None:
            if other := trust.misreport(seen, result):
                self._distrust(seen, f"it reported {other}")
                return None
            self.changes["image"] = records.image_of(result)
            self._finish("Succeeded", None, digest=result.digest)
            return None
        if seen.state is PodState.SUCCEEDED:
            message = "executor exited without a result: use operator and executor image of the same release"
            seen = replace(seen, reason=Reason.INTERNAL_ERROR, message=message)
        if seen.reason == Reason.TIMEOUT and not seen.started:
            if self._ready_reason() in _TRANSIENT:
                self.delete.append(seen)
                return self._recreate(build, seen)
            return self._start_timed_out(replace(seen, reason=""))
        if seen.reason == Reason.TIMEOUT:
            seen = replace(seen, message=self._timed_out())
        return self._failed(build, seen, result)

    def _distrust(self, seen: Observation, why: str) -> None:
        """End the build of a Pod whose result cannot be the build's."""
        if not seen.ended:
            self.delete.append(seen)
        message = f'Pod "{seen.name}" cannot be trusted: {why}. {_FIND_OUT}'
        self._finish("Failed", records.failure(Reason.POD_UNTRUSTED, message, seen))

    def _failed(self, build: Build, seen: Observation, result: BuildResult | None) -> State | None:
        """The next attempt after a failure of the infrastructure; else the build has failed."""
        retry = self.spec.retry
        allowed = not self.problems and not self.refusals
        wanted = allowed and not self.spec.cancelled and self.inputs.is_of(build)
        if seen.retry is None or seen.retry not in retry.causes or build.attempt > retry.limit or not wanted:
            self._finish("Failed", records.failure_of(seen, result))
            return None
        wait = _RETRY_BACKOFF * 2 ** (build.attempt - 1)
        self.build = builds.next_attempt(build, self.now + wait)
        self.requeues_s.append(wait.total_seconds())
        message = f"{seen.message}; retrying, attempt {build.attempt + 1} of {retry.limit + 1}"
        self._record_event("BuildRetried", message, warning=True)
        return queued(seen.reason, message)

    def _finish(
        self,
        outcome: Literal["Succeeded", "Failed", "Cancelled", "Replaced"],
        failure: FailureStatus | None,
        digest: str = "",
    ) -> None:
        """Record the outcome: in the build, the history and the events."""
        assert self.build is not None
        self.build = self.finished = build = records.completed(self.build, outcome, failure, self.now)
        duration = records.duration_of(build)
        limit = self.spec.retention.history_limit
        self.changes["duration"] = duration
        self.changes["history"] = records.with_history(self.imagebuild.status, build, digest, limit)
        if outcome == "Succeeded":
            took = f" in {duration}" if duration else ""
            self._record_event("BuildSucceeded", f"pushed {', '.join(self.spec.output.tags)} as {digest}{took}")
        elif failure is not None and outcome == "Failed":
            self._record_event("BuildFailed", f"{failure.reason}: {failure.message}", warning=True)
        elif failure is not None:
            self._record_event("BuildCancelled", failure.message)

    # --- no build, or a finished one

    def _idle(self) -> State:
        build, due = self.build, self.build is None or builds.is_due(self.imagebuild, self.inputs, self.build)
        # An installation that allows less than before says so when there is something to build.
        refused = self.refusals if build is None or due or self._is_edited(build) else ()
        if self.problems or refused:
            message = "; ".join((*self.problems, *refused))
            if self._ready_reason() != Reason.INVALID_SPEC:
                key = f"{Reason.INVALID_SPEC}-{self.imagebuild.metadata.generation}"
                self.events.append(Event("BuildFailed", f"{Reason.INVALID_SPEC}: {message}", key, warning=True))
            return State(StateKind.FAILED, Phase.FAILED, Reason.INVALID_SPEC, message)
        if build is not None and not due:
            self._poll(build)
            return conditions.finished_state(build)
        if self.spec.cancelled:
            message = "spec.cancelled is true: set it to false to start a build"
            return State(StateKind.FAILED, Phase.CANCELLED, Reason.CANCELLED, message)
        if self.spec.suspend:
            return suspended()
        left = [pod for pod in self.observed.pods if pod.uid in trust.named(build) and pod.is_live(self.now)]
        self.build = build = builds.new_build(self.imagebuild, self.inputs, build, self.now, left)
        self.changes |= {"log": None, "duration": ""}
        cause = f": the source moved to {build.polled_commit[:12]}" if build.polled_commit else ""
        self._record_event("BuildQueued", f"queued build {build.number} of {', '.join(self.spec.output.tags)}{cause}")
        if self._pod_of(build) is not None:
            self.requeues_s.append(0.2)  # its status was lost, the Pod was not: the next pass adopts it
            return queued(QUEUED, "the executor Pod already exists")
        return self._start(build)

    def _poll(self, build: Build) -> None:
        """Look up the branch when nothing else is to be done and the interval has passed."""
        if self.spec.suspend or self.spec.cancelled or self.refusals:
            return
        polled = polling.poll(self.imagebuild, build, self.observed.poll_pods, self.now)
        if polled is None:
            return
        self.changes["poll"] = polled.status
        self.poll_pod = polled.status.pod_name if polled.create else ""
        self.requeues_s.append(polled.requeue_after_s)

    # --- in every state

    def _clean_up(self) -> None:
        """Delete the Pods of finished builds: running ones now, ended ones after ``retention.podTTL``.

        A foreign Pod with the name of the current one is left to who has created it until it has ended.
        """
        build = self.build if self.build is not None and not self.build.outcome else None
        current = pod_name(self.imagebuild.metadata.name, build) if build is not None else ""
        believed = self._pod_of(build) if build is not None else None
        deleted = {pod.uid for pod in self.delete}
        keep = parse_duration(self.spec.retention.pod_ttl) if not self.problems else timedelta(hours=1)
        poll = self.changes.setdefault("poll", polling.paused(self.imagebuild))
        polling_pod = poll.pod_name if isinstance(poll, Poll) else ""
        self.delete += [pod for pod in self.observed.poll_pods if pod.name != polling_pod and not pod.deleted]
        others = [pod for pod in self.observed.pods if pod is not believed and pod.uid not in deleted]
        cleanup = builds.expired_pods(others, current, keep, self.now)
        self.delete += cleanup.delete
        self.requeues_s += cleanup.requeues_s

    def _with_current_step(self, build: Build, seen: Observation) -> Build:
        """The record with the step that a running build executes, by its log, read less often as time passes."""
        log = self.imagebuild.status.log
        read = log.read_time if log is not None and log.pod == seen.name else ""
        pause = logtail.pause_s(-self._seconds_until(seen.started), self.settings.log_refresh_s)
        if not pause:
            return build
        left = self._seconds_until(read or seen.started, timedelta(seconds=pause))
        self.requeues_s.append(left if left > 0 else pause)
        step = logtail.step(self._read_log(seen)) if left <= 0 else ""
        return build.model_copy(update={"current_step": step}) if step else build

    def _read_log(self, seen: Observation) -> bytes:
        """The end of its log, which the status gets, too; b"" if there is none or it isn't read in this pass."""
        log = self.observed.read_log(seen)
        if log:
            self.changes["log"] = records.log_of(seen, log, self.now, self.imagebuild.status.log)
        return log or b""

    def _pod_of(self, build: Build) -> Observation | None:
        return trust.pod_of(self.imagebuild.metadata.name, build, self.observed.pods)

    def _is_edited(self, build: Build) -> bool:
        """Whether the spec has changed since the build was queued, in a field that could affect it."""
        return self.inputs.environment_hash != build.environment_hash

    def _ready_reason(self) -> str:
        ready = self.imagebuild.status.condition("Ready")
        return ready.reason if ready is not None else ""

    def _timed_out(self) -> str:
        return f"build exceeded spec.timeout ({self.spec.timeout}): raise the timeout or speed up the build"

    def _seconds_until(self, start: str, after: timedelta = timedelta()) -> float:
        """Until ``after`` has passed since ``start``; 0 or less if it has. An unknown start counts as now."""
        moment = parse_time(start)
        if moment is None:
            return after.total_seconds()
        return (moment - self.now + after).total_seconds()

    def _record_event(self, reason: str, message: str, *, warning: bool = False) -> None:
        build = self.build
        key = f"{build.id}-{build.attempt}-{reason}" if build is not None else reason
        self.events.append(Event(reason, message, key, warning))

"""The resync: a full one when the operator starts and whenever a watch begins, one of running builds every minute.

I/O: through ``cluster``, in a thread of its own; what needs work is added to the controller's queue. The watches
announce every change, so in between no request grows with the number of ImageBuilds; a change that a watch has lost is
found ``Settings.resync_s`` later at the latest.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime

from imagewright_operator.api.base import Json
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods.manifests import owner_uid
from imagewright_operator.pods.observation import Observation, PodState, observe
from imagewright_operator.reconcile import builds, reconciler, trust, validation
from imagewright_operator.reconcile.actions import ReconcileInput
from imagewright_operator.reconcile.limiter import ConcurrencyLimiter, ObjectKey, PodKey, QueuedBuild
from imagewright_operator.settings import Settings
from imagewright_operator.signingkey import SigningKey
from imagewright_operator.watch.observing import Observer, uid_of
from imagewright_operator.watch.store import ObjectStore, StoredObject, key_of
from imagewright_operator.watch.workqueue import WorkQueue

_LOG = logging.getLogger(__name__)
_RUNNING_S = 60.0  # between two resyncs of running builds, which also show that the API server is reachable
_STUCK_S = 300.0
_WITH_POD = ("Pending", "Running")
_LIST_QUIET_S = 1.0  # after the last object of a watch's initial list


@dataclass(frozen=True, slots=True)
class _Checked:
    """What one ImageBuild adds to the limiter: Pods that count, and a build that is ready to start."""

    live: list[PodKey] = field(default_factory=list)
    starting: list[tuple[ReconcileInput, QueuedBuild]] = field(default_factory=list)


class Resync:
    """One per process. ``relist`` may be called from any thread."""

    def __init__(
        self, cluster: Cluster, settings: Settings, metrics: Metrics, queue: WorkQueue[ObjectKey], key: SigningKey
    ) -> None:
        self.store = ObjectStore()
        self.limiter = ConcurrencyLimiter(settings.limits)
        self._cluster = cluster
        self._key = key
        self._settings = settings
        self._metrics = metrics
        self._queue = queue
        self._stopped = threading.Event()
        self._synced = threading.Event()
        self._listed = threading.Event()
        self._heartbeat = time.monotonic()
        self.thread = threading.Thread(target=self._run, name="resync", daemon=True)

    def stop(self) -> None:
        """Have the thread end after its current resync."""
        self._stopped.set()
        self._listed.set()

    def relist(self) -> None:
        """A watch has begun with a list: changes before that are not announced by events."""
        self._listed.set()

    def is_ready(self) -> bool:
        """Whether the first full resync is done."""
        return self._synced.is_set()

    def is_late(self) -> bool:
        """Whether the thread appears to hang."""
        return time.monotonic() - self._heartbeat > 3 * _RUNNING_S + _STUCK_S

    def resync_all(self) -> None:
        """List all ImageBuilds and Pods, and enqueue the ImageBuilds that need work.

        Raises:
            ApiError: they cannot be listed.
        """
        self._key.signer()  # without it nothing can be done, and one error for all says so
        began, now = time.monotonic(), self._cluster.now()
        live: list[PodKey] = []
        starting: list[tuple[ReconcileInput, QueuedBuild]] = []
        listed: set[ObjectKey] = set()
        for namespace in self._settings.namespaces or ("",):
            # ImageBuilds first: a Pod that a status already names must not be missing from an older list.
            try:
                bodies, idle = self._list_active(namespace, began)
                pods = self._pods_by_owner(namespace)
            except ApiError as error:
                self._skip_namespace(namespace, error)
                continue
            known = idle | {body["metadata"]["uid"]: key_of(body) for body in bodies}
            listed |= set(known.values())
            for body in bodies:
                checked = self._check_safely(body, pods.get(body["metadata"]["uid"], []), now)
                live += checked.live
                starting += checked.starting
            for uid in idle.keys() & pods.keys():
                self._queue.add(idle[uid])
        self.store.retain(listed, began)
        may_start = set(self.limiter.resync(live, began, (queued for _, queued in starting)))
        for observed, queued in starting:
            if queued.key in may_start or not self._is_reported(observed, queued):
                self._queue.add(queued.key)

    def resync_running(self) -> None:
        """List the Pods that have not ended, and enqueue ImageBuilds whose phase differs: an event was lost.

        Raises:
            ApiError: they cannot be listed.
        """
        began, now = time.monotonic(), self._cluster.now()
        known = self.store.by_uid()
        live: list[PodKey] = []
        for namespace in self._settings.namespaces or ("",):
            try:
                pods = self._pods_by_owner(namespace, running=True)
            except ApiError as error:
                self._skip_namespace(namespace, error)
                known = {uid: one for uid, one in known.items() if one.key.namespace != namespace}
                continue
            for uid in known.keys() & pods.keys():
                seen = self._observe_named(known[uid], pods[uid], now)
                live += _live(known[uid].key, seen, now)
                phase = _phase(seen)
                if known[uid].phase == phase:
                    del known[uid]
                elif phase:
                    self._queue.add(known[uid].key)
        for one in known.values():
            if one.phase in _WITH_POD:
                self._queue.add(one.key)
        for key in self.limiter.resync(live, began):
            self._queue.add(key)

    def _observe_named(self, known: StoredObject, pods: list[Json], now: datetime) -> list[Observation]:
        """Those of an ImageBuild's Pods that its status names; forged ones must not use up a limit."""
        try:
            return [observe(pod, now) for pod in pods if uid_of(pod) in known.pods]
        except Exception:  # noqa: BLE001 - what cannot be read must not keep the others from being counted
            _LOG.exception("%s/%s: cannot read a Pod", *known.key)
            self._queue.add(known.key)
            return []

    def _skip_namespace(self, namespace: str, error: ApiError) -> None:
        """Skip one of several namespaces that cannot be listed.

        Raises:
            ApiError: the same error, unless it concerns this namespace only.
        """
        if not namespace or error.status not in (403, 404):
            raise error
        self._metrics.failed(f"ApiError{error.status}")
        _LOG.warning('skipping namespace "%s": cannot list its objects: %s', namespace, error)

    def _pods_by_owner(self, namespace: str, *, running: bool = False) -> dict[str, list[Json]]:
        pods: dict[str, list[Json]] = {}
        for pod in self._cluster.pods(namespace, running=running):
            pods.setdefault(owner_uid(pod), []).append(pod)
        return pods

    def _list_active(self, namespace: str, began: float) -> tuple[list[Json], dict[str, ObjectKey]]:
        """The ImageBuilds that may need work, and the keys of the idle ones by UID.

        Thousands of finished ones are read but not kept in memory.
        """
        bodies: list[Json] = []
        idle: dict[str, ObjectKey] = {}
        for body in self._cluster.imagebuilds(namespace):
            self.store.update(body, at=began)
            if self.store.is_idle(body):
                idle[body["metadata"]["uid"]] = key_of(body)
            else:
                bodies.append(body)
        return bodies, idle

    def _check_safely(self, body: Json, pods: list[Json], now: datetime) -> _Checked:
        """Enqueue the ImageBuild if it needs work, or else mark it idle."""
        key = key_of(body)
        try:
            return self._check(key, body, pods, now)
        except Exception:  # noqa: BLE001 - a defect in one must not keep the others from being checked
            _LOG.exception("%s/%s: check failed", *key)
            self._queue.add(key)
            return _Checked()

    def _check(self, key: ObjectKey, body: Json, pods: list[Json], now: datetime) -> _Checked:
        imagebuild, problem = validation.read(body)
        metadata, status = imagebuild.metadata, imagebuild.status
        seen = Observer(self._key.signer(), now).observe(pods, metadata.uid, status)
        checked = _Checked(_live(key, trust.counted(metadata.name, status, seen), now))
        if problem:
            if status.observed_generation != metadata.generation:
                self._queue.add(key)
            return checked
        observed = ReconcileInput.of(imagebuild, seen, now)
        actions = reconciler.reconcile(observed, self._settings)
        if actions.create is not None:
            return replace(checked, starting=[(observed, builds.queued_build(imagebuild, actions.create))])
        if actions.requeue_after_s is not None:
            self._queue.add_after(key, actions.requeue_after_s)
        if not actions.is_idle(imagebuild.status):
            self._queue.add(key)
        elif actions.requeue_after_s is None and not pods:
            self.store.mark_idle(body)
        return checked

    def _is_reported(self, observed: ReconcileInput, queued: QueuedBuild) -> bool:
        """Whether the status of a queued build already tells why it waits."""
        wait_reason = self.limiter.wait_reason(queued)
        actions = reconciler.reconcile(replace(observed, admit=lambda _: wait_reason), self._settings)
        return actions.is_idle(observed.imagebuild.status)

    def _run(self) -> None:
        pause, full_at = 1.0, 0.0
        while not self._stopped.is_set():
            self._heartbeat = time.monotonic()
            try:
                if time.monotonic() >= full_at or self._listed.is_set():
                    full_at = 0.0  # until it is done
                    self._wait_for_lists()
                    began = time.monotonic()
                    self.resync_all()
                    full_at = began + self._settings.resync_s
                    self._synced.set()
                else:
                    self.resync_running()
            except ApiError as error:
                self._metrics.failed(f"ApiError{error.status}")
                _LOG.warning("resync failed: %s; retrying in %.0f s", error, pause)
            except Exception:  # noqa: BLE001 - a defect must not end the resync for all
                self._metrics.failed("Defect")
                _LOG.exception("resync failed; retrying in %.0f s", pause)
            else:
                pause = 1.0
                self._listed.wait(min(_RUNNING_S, full_at - time.monotonic()))
                continue
            self._stopped.wait(pause)
            pause = min(pause * 2, _RUNNING_S, self._settings.resync_s)

    def _wait_for_lists(self) -> None:
        """Wait until watches that have begun are through with their lists: one full resync is enough then."""
        while self._listed.is_set() and not self._stopped.is_set():
            self._listed.clear()
            self._stopped.wait(_LIST_QUIET_S)


def _live(key: ObjectKey, pods: list[Observation], now: datetime) -> list[PodKey]:
    return [PodKey(key.namespace, pod.name) for pod in pods if pod.is_live(now)]


def _phase(pods: list[Observation]) -> str:
    """The phase of an ImageBuild with these Pods, none of which has ended; "" if there is none."""
    states = {pod.state for pod in pods}
    return "Running" if PodState.RUNNING in states else "Pending" if states else ""

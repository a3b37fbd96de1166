"""The controller: worker threads that reconcile one ImageBuild at a time and carry out the actions.

I/O: only through ``cluster``. All state that matters is in the cluster: an operator that is killed between any two
steps leaves nothing that the next pass of any operator does not continue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild, Status
from imagewright_operator.api.base import Json
from imagewright_operator.api.status import Build, PodIdentity
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods import profile
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.pods.manifests import executor_pod, owner_uid, poll_pod
from imagewright_operator.pods.observation import Observation, observe, parse_time
from imagewright_operator.reconcile import builds, polling, reconciler, trust, validation
from imagewright_operator.reconcile.actions import Actions, CreateError, ReconcileInput
from imagewright_operator.reconcile.limiter import ConcurrencyLimiter, ObjectKey, PodKey, QueuedBuild
from imagewright_operator.settings import Profile, Settings
from imagewright_operator.signingkey import SigningKey
from imagewright_operator.status.records import status_patch
from imagewright_operator.watch.observing import Observer, has_ended, name_of, uid_of
from imagewright_operator.watch.resync import Resync
from imagewright_operator.watch.workqueue import WorkQueue

_LOG = logging.getLogger(__name__)
_NODES_TTL_S = 60.0  # of a list of nodes
_LOG_PATIENCE = timedelta(minutes=2)  # with a node that does not serve the log, when the result may be in the log only
_STUCK_S = 300.0
_RECORD_POD_S = 0.2
_CHECK_NEW_POD_S = 3.0  # in case its watch event is lost
_NODES_PATIENCE_S = 60.0
_NAME_TAKEN = (
    'Pod "{name}" has the name of this build\'s Pod but was not created by the operator: its signature is missing or '
    "does not fit. Find out who created it, and delete it: the build starts then."
)
_FAILURE_BACKOFF_S = 5.0  # of a build whose Pod could not be created; other builds may start meanwhile


class _Admission:
    """Asks the limiter to admit a build, in one pass over one ImageBuild."""

    def __init__(self, limiter: ConcurrencyLimiter, imagebuild: ImageBuild) -> None:
        self._limiter, self._imagebuild = limiter, imagebuild
        self.queued: QueuedBuild | None = None
        self.wait_reason = ""

    def __call__(self, build: Build) -> str:
        self.queued = builds.queued_build(self._imagebuild, build)
        self.wait_reason = self._limiter.acquire(self.queued)
        return self.wait_reason

    @property
    def admitted(self) -> QueuedBuild | None:
        """The build that counts as running from now on."""
        return self.queued if not self.wait_reason else None


class Controller:
    """One per process. ``enqueue``, ``relist`` and ``pod_changed`` may be called from any thread."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics, key: SigningKey) -> None:
        self._cluster = cluster
        self._key = key
        self._settings = settings
        self._metrics = metrics
        self._queue: WorkQueue[ObjectKey] = WorkQueue()
        self._resync = Resync(cluster, settings, metrics, self._queue, key)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._deleted_pods: dict[ObjectKey, list[Json]] = {}
        self._made: dict[ObjectKey, dict[str, PodIdentity]] = {}  # Pods that no status names yet, by their names
        self._nodes: tuple[float, list[Json]] = (float("-inf"), [])
        self._nodes_lock = threading.Lock()
        store, limiter = self._resync.store, self._resync.limiter
        metrics.watch(phases=store.phases, counts=limiter.counts, depth=self._queue.depth)

    def enqueue(self, namespace: str, name: str) -> None:
        """Something about this ImageBuild may have changed."""
        self._queue.add(ObjectKey(namespace, name))

    def relist(self) -> None:
        """A watch has begun with a list: changes before that are not announced by events."""
        self._resync.relist()

    def pod_changed(self, key: ObjectKey, pod: Json, *, gone: bool) -> None:
        """A Pod of this ImageBuild was added, changed or deleted.

        An ended Pod may be deleted before its result was read; until then it is kept in memory.
        """
        ended = has_ended(pod)
        if ended:
            with self._lock:
                self._deleted_pods.setdefault(key, []).append(pod)
        if (ended or gone) and uid_of(pod) in self._resync.store.pods(key):  # another one was not counted
            self._enqueue_all(self._resync.limiter.release(PodKey(key.namespace, name_of(pod))))
        self._queue.add(key, priority=True)

    def _enqueue_all(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            self._queue.add(key, priority=True)

    def start(self) -> None:
        """Start the workers and the resync, which begins with a full one."""
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(self._settings.workers)
        ]
        self._threads.append(self._resync.thread)
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let every worker finish its current pass; what takes longer is left to the next operator."""
        self._resync.stop()
        self._queue.close()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def is_ready(self) -> bool:
        """Whether the first full resync is done."""
        return self._resync.is_ready()

    def is_alive(self) -> bool:
        """Whether resync and workers make progress. An unreachable API server does not warrant a restart."""
        alive = all(thread.is_alive() for thread in self._threads)
        return alive and not self._resync.is_late() and self._queue.longest_work_s() < _STUCK_S

    def sync(self, key: ObjectKey) -> float | None:
        """One pass for one ImageBuild. Returns in how many seconds to repeat it, None for never.

        Raises:
            ApiError: the pass has to be retried.
        """
        with self._lock:
            gone = tuple(self._deleted_pods.get(key, ()))
        body = self._cluster.imagebuild(*key)
        requeue_after_s = None
        if body is not None:
            self._resync.store.update(body)
            requeue_after_s = self._reconcile(key, body, gone)
        else:
            self._resync.store.delete(key)
            self._made.pop(key, None)
            self._enqueue_all(self._resync.limiter.withdraw(key))
        with self._lock:
            self._forget_deleted(key, gone)
        return requeue_after_s

    def _reconcile(self, key: ObjectKey, body: Json, gone: Sequence[Json]) -> float | None:
        imagebuild, problem = validation.read(body)
        if problem:
            self._enqueue_all(self._resync.limiter.withdraw(key))
            self._store(body, imagebuild, reconciler.invalid(imagebuild, problem, self._cluster.now()))
            return None
        pods = self._observe(key, imagebuild, gone)
        self._count(key, imagebuild, pods)
        admission = _Admission(self._resync.limiter, imagebuild)
        read_log = partial(self._read_log, key.namespace)
        observed = ReconcileInput.of(imagebuild, pods, self._cluster.now())
        observed = replace(observed, read_log=read_log, admit=admission)
        try:
            actions = reconciler.reconcile(observed, self._settings)
            if admission.queued is None:
                self._enqueue_all(self._resync.limiter.withdraw(key))
            self._carry_out(body, observed, actions)
        except Exception as error:
            if admission.admitted is not None:
                lost_race = isinstance(error, ApiError) and error.status == 409
                self._back_off(admission.admitted, 0.0 if lost_race else _FAILURE_BACKOFF_S)
            raise
        return actions.requeue_after_s

    def _count(self, key: ObjectKey, imagebuild: ImageBuild, pods: Sequence[Observation]) -> None:
        """Tell the limiter which of the build's Pods may still run."""
        limiter, now, build = self._resync.limiter, self._cluster.now(), imagebuild.status.build
        ended = []
        for pod in trust.counted(imagebuild.metadata.name, imagebuild.status, pods):
            if pod.is_live(now):
                limiter.mark_running(PodKey(key.namespace, pod.name))
            else:
                ended.append(pod.name)
        if build is not None and build.pod is not None and build.pod.uid not in {pod.uid for pod in pods}:
            ended += build.pod_names
        for name in ended:
            self._enqueue_all(limiter.release(PodKey(key.namespace, name)))

    def _back_off(self, queued: QueuedBuild, backoff_s: float, *, namespace: bool = False) -> None:
        """The Pod of an admitted build was not created: others may start, and this build tries again later."""
        self._enqueue_all(self._resync.limiter.back_off(queued, backoff_s, namespace=namespace))
        if backoff_s:
            self._queue.add_after(queued.key, backoff_s)

    def _carry_out(self, body: Json, observed: ReconcileInput, actions: Actions) -> None:
        imagebuild, namespace = observed.imagebuild, observed.imagebuild.metadata.namespace
        key = ObjectKey(namespace, imagebuild.metadata.name)
        body = self._store(body, imagebuild, actions)
        for pod in actions.delete:
            self._delete(namespace, pod, actions.status)
        if actions.poll_pod:
            manifest = poll_pod(imagebuild, actions.poll_pod, self._settings, self._profile_of(imagebuild))
            made = self._create_pod(key, manifest, "")
            if isinstance(made, CreateError):
                status = polling.not_started(actions.status, made.message, self._cluster.now())
            else:
                status = polling.started(actions.status, made)
            body = self._store(body, imagebuild, Actions(status))
        if actions.create is not None:
            manifest = executor_pod(imagebuild, actions.create, self._settings, self._profile_of(imagebuild))
            made = self._create_pod(key, manifest, actions.create.inputs_hash)
            queued = builds.queued_build(imagebuild, actions.create)
            if isinstance(made, CreateError):
                quota = made.reason is Reason.QUOTA_EXCEEDED
                self._back_off(queued, reconciler.CREATE_RETRY_S, namespace=quota)
                self._store(body, imagebuild, reconciler.create_failed(observed, actions, made, self._settings))
            else:
                self._queue.add_after(queued.key, _CHECK_NEW_POD_S)
                self._enqueue_all(self._resync.limiter.startable())  # builds of a namespace that was backing off
                self._record_pod(body, imagebuild, reconciler.created(observed, actions, made, self._settings))

    def _delete(self, namespace: str, pod: Observation, status: Status) -> None:
        """Delete a Pod; for one that isn't the operator's, and perhaps cannot be deleted, no build has to wait."""
        try:
            self._cluster.delete_pod(namespace, pod)
        except (ApiError, ValueError) as error:
            if pod.signed or trust.is_named(status, pod.uid, pod.name):
                raise
            _LOG.warning("%s: cannot delete Pod %s, which the operator has not created: %s", namespace, pod.name, error)

    def _create_pod(self, key: ObjectKey, manifest: Json, inputs_hash: str) -> Observation | CreateError:
        """Create a Pod; one that exists under its name is taken for it only if the operator has signed it.

        What the API server has made of the manifest is the Pod, whatever the cluster's webhooks have changed. Until the
        status names it, this process remembers it.
        """
        signer = self._key.signer()
        created = self._cluster.create_pod(signer.signed(manifest, inputs_hash))
        if isinstance(created, CreateError):
            return created
        pod, name = created.pod, manifest["metadata"]["name"]
        own = owner_uid(pod) == owner_uid(manifest) and signer.is_unchanged(pod)
        if created.existed and not own:
            return CreateError(Reason.POD_NAME_TAKEN, _NAME_TAKEN.format(name=name), transient=True)
        if not created.existed:
            self._made.setdefault(key, {})[name] = PodIdentity(uid=uid_of(pod), fingerprint=fingerprint(pod))
        return observe(pod, self._cluster.now(), signed=True)

    def _record_pod(self, body: Json, imagebuild: ImageBuild, actions: Actions) -> None:
        """Store the UID of the new Pod. If that fails the next pass does it, which knows the Pod by its signature."""
        try:
            self._store(body, imagebuild, actions)
        except ApiError as error:
            metadata = imagebuild.metadata
            _LOG.info("%s/%s: cannot store the new Pod yet: %s", metadata.namespace, metadata.name, error)
            self._queue.add_after(ObjectKey(metadata.namespace, metadata.name), _RECORD_POD_S)

    def _store(self, body: Json, imagebuild: ImageBuild, actions: Actions) -> Json:
        """Patch the status where it differs, then report: metrics, log and Events."""
        patch = status_patch(body.get("status") or {}, actions.status)
        if patch:
            body = self._cluster.patch_status(body, patch)
            self._resync.store.update(body)
        name = f"{imagebuild.metadata.namespace}/{imagebuild.metadata.name}"
        if actions.finished is not None:
            self._metrics.finished(actions.finished)
            _LOG.info("%s: build %d %s", name, actions.finished.number, actions.finished.outcome)
        for event in actions.events:
            try:
                self._cluster.post_event(imagebuild, event, self._cluster.now())
            except ApiError as error:  # Events are informational: a pass must not fail for one
                _LOG.warning("%s: cannot post Event %s: %s", name, event.reason, error)
        return body

    def _forget_deleted(self, key: ObjectKey, handled: Sequence[Json]) -> None:
        left = [pod for pod in self._deleted_pods.get(key, ()) if pod not in handled]
        if left:
            self._deleted_pods[key] = left
        else:
            self._deleted_pods.pop(key, None)

    def _observe(self, key: ObjectKey, imagebuild: ImageBuild, gone: Sequence[Json]) -> list[Observation]:
        uid, status = imagebuild.metadata.uid, imagebuild.status
        pods = list(self._cluster.pods(key.namespace, uid))
        there = {uid_of(pod) for pod in pods}
        pods += [pod for pod in gone if uid_of(pod) not in there]
        unnamed = {
            name: pod
            for name, pod in self._made.pop(key, {}).items()
            if pod.uid in there and not trust.is_named(status, pod.uid, name)
        }
        if unnamed:
            self._made[key] = unnamed
        events_of = partial(self._cluster.events_of, key.namespace)
        return Observer(self._key.signer(), self._cluster.now(), unnamed, events_of).observe(pods, uid, status)

    def _read_log(self, namespace: str, pod: Observation) -> bytes:
        """The end of the log. An unresponsive node is waited for as long as the result may be in the log only."""
        try:
            return self._cluster.log(namespace, pod)
        except ApiError:
            finished = parse_time(pod.finished)
            if pod.result is not None or finished is None:
                return b""
            if self._cluster.now() - finished > _LOG_PATIENCE:
                return b""
            raise

    def _profile_of(self, imagebuild: ImageBuild) -> Profile:
        return profile.choose(imagebuild.spec, self._settings, self._cached_nodes())

    def _cached_nodes(self) -> list[Json]:
        read, nodes = self._nodes
        if time.monotonic() - read <= _NODES_TTL_S:
            return nodes
        # Workers that start builds at the same time need one list, not one each: meanwhile the others use the old one.
        if self._nodes_lock.acquire(blocking=not nodes, timeout=-1 if nodes else _NODES_PATIENCE_S):
            try:
                read, nodes = self._nodes
                if time.monotonic() - read > _NODES_TTL_S:
                    nodes = self._cluster.nodes()
                    self._nodes = (time.monotonic(), nodes)
            finally:
                self._nodes_lock.release()
        return nodes

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            try:
                requeue_after_s = self.sync(key)
            except ApiError as error:
                pause = self._queue.failed(key, error.retry_after_s)
                self._metrics.failed(f"ApiError{error.status}")
                if error.status != 409:
                    _LOG.warning("%s/%s: %s; retrying in %.1f s", *key, error, pause)
            except Exception:  # noqa: BLE001 - a defect must not end the worker: the key is retried and the error logged
                self._metrics.failed("Defect")
                pause = self._queue.failed(key)
                _LOG.exception("%s/%s: reconcile failed; retrying in %.1f s", *key, pause)
            else:
                self._queue.done(key)
                if requeue_after_s is not None:
                    self._queue.add_after(key, requeue_after_s)

"""Carries out what ``reconcile`` decides: worker threads, the resync, and the order of the steps.

I/O: only through ``cluster``. Started and stopped by ``main``, nudged by ``handlers`` for every event. All state that
matters is in the cluster: killed between any two steps, the next pass of any operator goes on from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from imagewright.errors import Reason
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import Json
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods import profile
from imagewright_operator.pods.manifests import executor_pod, is_probe, owner_uid, pods_of, probe_pod
from imagewright_operator.pods.observation import Observation, PodState, observe, parse_time
from imagewright_operator.reconcile import builds, polling, reconciler, validation
from imagewright_operator.reconcile.actions import Decision, World
from imagewright_operator.reconcile.limiter import Claim, Key, PodKey
from imagewright_operator.settings import Profile, Settings
from imagewright_operator.status.records import status_patch
from imagewright_operator.watch.resync import Resync
from imagewright_operator.watch.workqueue import WorkQueue

_LOG = logging.getLogger(__name__)
_NODES_FOR_S = 60.0  # how long a list of nodes is believed
_LOG_PATIENCE = timedelta(minutes=2)  # for a node that has to give the log, when the result may be nowhere else
_STUCK_S = 300.0
_LOOK_AFTER_S = 3.0  # at a new Pod, should its event be lost
_NODES_PATIENCE_S = 60.0
_FAILURE_PAUSE_S = 5.0  # of a build whose Pod could not be created, while others have its turn


class Controller:
    """One per process. ``nudge`` may be called from anywhere, at once and as often as one likes."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._queue: WorkQueue[Key] = WorkQueue()
        self._resync = Resync(cluster, settings, metrics, self._queue)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._gone: dict[Key, list[Json]] = {}
        self._nodes: tuple[float, list[Json]] = (float("-inf"), [])
        self._nodes_lock = threading.Lock()
        census, slots = self._resync.census, self._resync.slots
        metrics.watch(phases=census.phases, counts=slots.counts, depth=self._queue.depth)

    def nudge(self, namespace: str, name: str) -> None:
        """Something about this ImageBuild may have changed."""
        self._queue.add(Key(namespace, name))

    def catch_up(self) -> None:
        """A watch has begun and lists what is there: of what happened before that no event will tell."""
        self._resync.catch_up()

    def pod_changed(self, key: Key, pod: Json, *, gone: bool) -> None:
        """A Pod of this ImageBuild has come, changed or gone.

        One that has ended may be gone before its result was read; until then it is kept in memory.
        """
        ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if ended:
            with self._lock:
                self._gone.setdefault(key, []).append(pod)
        place = PodKey(key.namespace, pod["metadata"]["name"])
        if is_probe(place.name) or not owner_uid(pod):
            pass  # it builds nothing
        elif ended or gone:
            self._start_more(self._resync.slots.release(place))
        else:
            self._resync.slots.hold(place)
        self._queue.add(key, first=True)

    def _start_more(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._queue.add(key, first=True)

    def start(self) -> None:
        """Start the workers and the resync, which looks at everything at once."""
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(self._settings.workers)
        ]
        self._threads.append(self._resync.thread)
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let every worker finish what it is at; what is not finished in time is left to the next operator."""
        self._resync.stop()
        self._queue.close()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def is_ready(self) -> bool:
        """Whether all ImageBuilds have been looked at once."""
        return self._resync.is_ready()

    def is_alive(self) -> bool:
        """Whether resync and workers go on. An API server that doesn't answer is no reason to be restarted."""
        alive = all(thread.is_alive() for thread in self._threads)
        return alive and not self._resync.is_late() and self._queue.longest_work_s() < _STUCK_S

    def sync(self, key: Key) -> float | None:
        """One pass for one ImageBuild; in how many seconds to look again, if at all.

        Raises:
            ApiError: to be repeated.
        """
        with self._lock:
            gone = tuple(self._gone.get(key, ()))
        body = self._cluster.imagebuild(*key)
        wake_s = None
        if body is not None:
            self._resync.census.see(body)
            wake_s = self._pass(key, body, gone)
        else:
            self._resync.census.gone(key)
            self._start_more(self._resync.slots.leave(key))
        with self._lock:
            self._forget(key, gone)
        return wake_s

    def _pass(self, key: Key, body: Json, gone: Sequence[Json]) -> float | None:
        imagebuild, problem = validation.read(body)
        if problem:
            self._start_more(self._resync.slots.leave(key))
            self._store(body, imagebuild, reconciler.unreadable(imagebuild, problem, self._cluster.now()))
            return None
        world = World.of(imagebuild, self._observe(key.namespace, imagebuild, gone), self._cluster.now())
        decision = reconciler.reconcile(world, self._settings)
        if decision.wants_log:
            log = self._log_of(key.namespace, decision.wants_log, world)
            world = replace(world, log=log)
            decision = reconciler.reconcile(world, self._settings)
        claim = builds.slot(imagebuild, decision.create) if decision.create is not None else None
        if claim is None:
            self._start_more(self._resync.slots.leave(key))
        elif hold := self._resync.slots.take(claim):
            world, claim = replace(world, hold=hold), None
            decision = reconciler.reconcile(world, self._settings)
        try:
            self._carry_out(body, world, decision)
        except Exception as error:
            if claim is not None:
                lost_race = isinstance(error, ApiError) and error.status == 409
                self._give_back(claim, 0.0 if lost_race else _FAILURE_PAUSE_S)
            raise
        return decision.wake_s

    def _give_back(self, claim: Claim, pause_s: float, *, namespace: bool = False) -> None:
        """No Pod came of a slot: others may start, and this build may try again after a pause."""
        self._start_more(self._resync.slots.give_back(claim, pause_s, namespace=namespace))
        if pause_s:
            self._queue.add_after(claim.key, pause_s)

    def _carry_out(self, body: Json, world: World, decision: Decision) -> None:
        imagebuild, namespace = world.imagebuild, world.imagebuild.metadata.namespace
        body = self._store(body, imagebuild, decision)
        for ended in decision.delete:
            self._cluster.delete_pod(namespace, ended)
        if decision.probe:
            pod = probe_pod(imagebuild, decision.probe, self._settings, self._profile_of(imagebuild))
            refusal = self._cluster.create_pod(pod)
            if refusal is not None:
                over = polling.refused(decision.status, refusal.message, self._cluster.now())
                body = self._store(body, imagebuild, Decision(over))
        if decision.create is not None:
            pod = executor_pod(imagebuild, decision.create, self._settings, self._profile_of(imagebuild))
            refusal = self._cluster.create_pod(pod)
            claim = builds.slot(imagebuild, decision.create)
            if refusal is None:
                self._queue.add_after(claim.key, _LOOK_AFTER_S)
                self._start_more(self._resync.slots.ready())  # those whose namespace was refused a moment ago
            else:
                quota = refusal.reason is Reason.QUOTA_EXCEEDED
                self._give_back(claim, reconciler.REFUSAL_PAUSE_S, namespace=quota)
                self._store(body, imagebuild, reconciler.refused(world, decision, refusal, self._settings))

    def _store(self, body: Json, imagebuild: ImageBuild, decision: Decision) -> Json:
        """Patch the status where it differs, then tell of what has happened."""
        patch = status_patch(body.get("status") or {}, decision.status)
        if patch:
            body = self._cluster.patch_status(body, patch)
            self._resync.census.see(body)
        name = f"{imagebuild.metadata.namespace}/{imagebuild.metadata.name}"
        if decision.finished is not None:
            self._metrics.finished(decision.finished)
            _LOG.info("%s: build %d %s", name, decision.finished.number, decision.finished.outcome)
        for notice in decision.notices:
            try:
                self._cluster.post_event(imagebuild, notice, self._cluster.now())
            except ApiError as error:  # Events are for people: what is to be done must not fail for one
                _LOG.warning("%s: the Event %s is lost: %s", name, notice.reason, error)
        return body

    def _forget(self, key: Key, handled: Sequence[Json]) -> None:
        left = [pod for pod in self._gone.get(key, ()) if pod not in handled]
        if left:
            self._gone[key] = left
        else:
            self._gone.pop(key, None)

    def _observe(self, namespace: str, imagebuild: ImageBuild, gone: Sequence[Json]) -> list[Observation]:
        uid = imagebuild.metadata.uid
        pods = list(self._cluster.pods(namespace, uid))
        there = {pod["metadata"]["name"] for pod in pods}
        pods += [pod for pod in gone if pod["metadata"]["name"] not in there]
        seen = []
        for pod in pods_of(pods, uid):
            observation = observe(pod)
            if observation.state is PodState.WAITING and not observation.reason:
                observation = observe(pod, self._cluster.events_of(namespace, observation.uid))
            seen.append(observation)
        return seen

    def _log_of(self, namespace: str, name: str, world: World) -> bytes:
        """The log's end. A node that doesn't answer is waited for as long as the result may be only there."""
        pod = next((one for one in world.pods if one.name == name), None)
        try:
            return self._cluster.log(namespace, name)
        except ApiError:
            finished = parse_time(pod.finished) if pod is not None else None
            if pod is None or pod.result is not None or finished is None or world.now - finished > _LOG_PATIENCE:
                return b""
            raise

    def _profile_of(self, imagebuild: ImageBuild) -> Profile:
        return profile.choose(imagebuild.spec, self._settings, self._known_nodes())

    def _known_nodes(self) -> list[Json]:
        read, nodes = self._nodes
        if time.monotonic() - read <= _NODES_FOR_S:
            return nodes
        # Workers that start builds side by side need one list, not one each: who comes meanwhile takes the old one.
        if self._nodes_lock.acquire(blocking=not nodes, timeout=-1 if nodes else _NODES_PATIENCE_S):
            try:
                read, nodes = self._nodes
                if time.monotonic() - read > _NODES_FOR_S:
                    nodes = self._cluster.nodes()
                    self._nodes = (time.monotonic(), nodes)
            finally:
                self._nodes_lock.release()
        return nodes

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            try:
                wake_s = self.sync(key)
            except ApiError as error:
                pause = self._queue.failed(key, error.retry_after_s)
                self._metrics.failed(f"ApiError{error.status}")
                if error.status != 409:
                    _LOG.warning("%s/%s: %s; again in %.1f s", *key, error, pause)
            except Exception:  # noqa: BLE001 - a defect must not end the worker: the key is repeated, the log tells of it
                self._metrics.failed("Defect")
                pause = self._queue.failed(key)
                _LOG.exception("%s/%s: could not be reconciled; again in %.1f s", *key, pause)
            else:
                self._queue.done(key)
                if wake_s is not None:
                    self._queue.add_after(key, wake_s)

"""Looking without being told: at everything as the operator starts and as a watch begins, at what runs every minute.

I/O: through ``cluster``, in a thread of its own. Made, started and stopped by ``controller``, to whose queue it adds what has
something to do. The watches tell of every change, so no request grows with the number of ImageBuilds in between; what a
watch may have lost is found again at the latest ``Settings.resync_s`` later.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import datetime

from imagewright_operator.api.base import Json
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods.manifests import is_probe, owner_uid, pods_of
from imagewright_operator.pods.observation import PodState, observe
from imagewright_operator.reconcile import builds, reconciler, validation
from imagewright_operator.reconcile.actions import World
from imagewright_operator.reconcile.limiter import Claim, Key, PodKey, Slots
from imagewright_operator.settings import Settings
from imagewright_operator.watch.store import Census, key_of
from imagewright_operator.watch.workqueue import WorkQueue

_LOG = logging.getLogger(__name__)
_RUNNING_S = 60.0  # between two looks at what runs: it tells that the API server answers, too
_STUCK_S = 300.0
_WITH_POD = ("Pending", "Running")
_SETTLE_S = 1.0  # after the last object that a watch lists as it begins


class Resync:
    """One per process. ``catch_up`` may be called from anywhere."""

    def __init__(self, cluster: Cluster, settings: Settings, metrics: Metrics, queue: WorkQueue[Key]) -> None:
        self.census = Census()
        self.slots = Slots(settings.limits)
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._queue = queue
        self._stopped = threading.Event()
        self._synced = threading.Event()
        self._listed = threading.Event()
        self._beat = time.monotonic()
        self.thread = threading.Thread(target=self._run, name="resync", daemon=True)

    def stop(self) -> None:
        """Have the thread end as soon as it is through with what it looks at."""
        self._stopped.set()
        self._listed.set()

    def catch_up(self) -> None:
        """A watch has begun and lists what is there: of what happened before that no event will tell."""
        self._listed.set()

    def is_ready(self) -> bool:
        """Whether all ImageBuilds have been looked at once."""
        return self._synced.is_set()

    def is_late(self) -> bool:
        """Whether the thread should have come back long ago."""
        return time.monotonic() - self._beat > 3 * _RUNNING_S + _STUCK_S

    def everything(self) -> None:
        """Look at all there is with two lists, and have that worked on which has something to do.

        Raises:
            ApiError: when it can't be listed.
        """
        began, now = time.monotonic(), self._cluster.now()
        live: list[PodKey] = []
        starting: list[tuple[World, Claim]] = []
        listed: set[Key] = set()
        for namespace in self._settings.namespaces or ("",):
            # ImageBuilds first: a Pod that a status already knows must not be missing from an older list.
            try:
                bodies, passed_over = self._unsettled(namespace, began)
                pods = self._pods_by_owner(namespace)
            except ApiError as error:
                self._passed_over(namespace, error)
                continue
            known = passed_over | {body["metadata"]["uid"]: key_of(body) for body in bodies}
            listed |= set(known.values())
            for uid in known.keys() & pods.keys():
                live += _live(pods[uid], now)
            for body in bodies:
                starting += self._look_at(body, pods.get(body["metadata"]["uid"], []), now)
            for uid in passed_over.keys() & pods.keys():
                self._queue.add(passed_over[uid])
        self.census.keep(listed, began)
        may_start = set(self.slots.recount(live, began, (claim for _, claim in starting)))
        for world, claim in starting:
            if claim.key in may_start or not self._is_said(world, claim):
                self._queue.add(claim.key)

    def running(self) -> None:
        """Look at the Pods that run, with one list of no others: for those of which an event got lost.

        Raises:
            ApiError: when they can't be listed.
        """
        began, now = time.monotonic(), self._cluster.now()
        known = self.census.known()
        live: list[PodKey] = []
        for namespace in self._settings.namespaces or ("",):
            try:
                pods = self._pods_by_owner(namespace, running=True)
            except ApiError as error:
                self._passed_over(namespace, error)
                known = {uid: one for uid, one in known.items() if one.key.namespace != namespace}
                continue
            for uid in known.keys() & pods.keys():
                live += _live(pods[uid], now)
                phase = _phase(pods[uid])
                if known[uid].phase == phase:
                    del known[uid]
                elif phase:
                    self._queue.add(known[uid].key)
        for one in known.values():
            if one.phase in _WITH_POD:
                self._queue.add(one.key)
        for key in self.slots.recount(live, began):
            self._queue.add(key)

    def _passed_over(self, namespace: str, error: ApiError) -> None:
        """One of several namespaces that can't be served keeps no other from being served.

        Raises:
            ApiError: the same one, where it is no matter of a namespace.
        """
        if not namespace or error.status not in (403, 404):
            raise error
        self._metrics.failed(f"ApiError{error.status}")
        _LOG.warning("the namespace %s can't be served, the others are: %s", namespace, error)

    def _pods_by_owner(self, namespace: str, *, running: bool = False) -> dict[str, list[Json]]:
        pods: dict[str, list[Json]] = {}
        for pod in self._cluster.pods(namespace, running=running):
            pods.setdefault(owner_uid(pod), []).append(pod)
        return pods

    def _unsettled(self, namespace: str, began: float) -> tuple[list[Json], dict[str, Key]]:
        """The ImageBuilds that may have something to do, and by UID those that had nothing and are as they were.

        Thousands that were built long ago are read but not kept.
        """
        bodies: list[Json] = []
        passed_over: dict[str, Key] = {}
        for body in self._cluster.imagebuilds(namespace):
            self.census.see(body, at=began)
            if self.census.is_settled(body):
                passed_over[body["metadata"]["uid"]] = key_of(body)
            else:
                bodies.append(body)
        return bodies, passed_over

    def _look_at(self, body: Json, pods: list[Json], now: datetime) -> list[tuple[World, Claim]]:
        """Have it worked on if there is something to do for it; what it wants to start is given back instead.

        Where there is nothing to do, now or later, it is settled.
        """
        key = key_of(body)
        try:
            return self._considered(key, body, pods, now)
        except Exception:  # noqa: BLE001 - a defect in one must not keep the others from being looked at
            _LOG.exception("%s/%s: could not be looked at", *key)
            self._queue.add(key)
            return []

    def _considered(self, key: Key, body: Json, pods: list[Json], now: datetime) -> list[tuple[World, Claim]]:
        imagebuild, problem = validation.read(body)
        if problem:
            if imagebuild.status.observed_generation != imagebuild.metadata.generation:
                self._queue.add(key)
            return []
        world = World.of(imagebuild, [observe(pod) for pod in pods_of(pods, imagebuild.metadata.uid)], now)
        decision = reconciler.reconcile(world, self._settings)
        if decision.create is not None:
            return [(world, builds.slot(imagebuild, decision.create))]
        if decision.wake_s is not None:
            self._queue.add_after(key, decision.wake_s)
        if not decision.is_idle(imagebuild.status):
            self._queue.add(key)
        elif decision.wake_s is None and not pods:
            self.census.settle(body)
        return []

    def _is_said(self, world: World, claim: Claim) -> bool:
        """Whether the status of a build that waits already says so."""
        held = reconciler.reconcile(replace(world, hold=self.slots.why(claim)), self._settings)
        return held.is_idle(world.imagebuild.status)

    def _run(self) -> None:
        pause, everything_at = 1.0, 0.0
        while not self._stopped.is_set():
            self._beat = time.monotonic()
            try:
                if time.monotonic() >= everything_at or self._listed.is_set():
                    everything_at = 0.0  # until it is done
                    self._settle()
                    began = time.monotonic()
                    self.everything()
                    everything_at = began + self._settings.resync_s
                    self._synced.set()
                else:
                    self.running()
            except ApiError as error:
                self._metrics.failed(f"ApiError{error.status}")
                _LOG.warning("the resync failed: %s; again in %.0f s", error, pause)
            except Exception:  # noqa: BLE001 - a defect must not end the resync for all
                self._metrics.failed("Defect")
                _LOG.exception("the resync failed; again in %.0f s", pause)
            else:
                pause = 1.0
                self._listed.wait(min(_RUNNING_S, everything_at - time.monotonic()))
                continue
            self._stopped.wait(pause)
            pause = min(pause * 2, _RUNNING_S, self._settings.resync_s)

    def _settle(self) -> None:
        """Where a watch has begun, wait until it has listed all that there is: one look is enough then."""
        while self._listed.is_set() and not self._stopped.is_set():
            self._listed.clear()
            self._stopped.wait(_SETTLE_S)


def _phase(pods: list[Json]) -> str:
    """Of an ImageBuild that has these Pods, which haven't ended; "" where none of them builds."""
    states = {observe(pod).state for pod in pods if not is_probe(pod["metadata"]["name"])}
    return "Running" if PodState.RUNNING in states else "Pending" if states else ""


def _live(pods: list[Json], now: datetime) -> list[PodKey]:
    """Those that build and may still run."""
    places = [(pod, PodKey(pod["metadata"]["namespace"], pod["metadata"]["name"])) for pod in pods]
    return [place for pod, place in places if not is_probe(place.name) and reconciler.is_live(observe(pod), now)]

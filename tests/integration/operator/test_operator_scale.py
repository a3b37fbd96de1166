"""Hundreds of ImageBuilds: the cost of a build does not grow with their number."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.fake_kubelet import pushed, timed
from imagebuilds.operator_process import Operator
from imagebuilds.proxy import Proxy
from imagebuilds.rest import DirectNamespace, Rest
from imagebuilds.scale import Costs, build_all, ready_in_s
from imagebuilds.waiting import eventually
from kubernetes import client, config

from imagewright_operator.cluster import Cluster
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.reconcile import reconciler
from imagewright_operator.reconcile.actions import Actions, ReconcileInput
from imagewright_operator.reconcile.limiter import ObjectKey
from imagewright_operator.settings import Settings
from imagewright_operator.signingkey import SigningKey
from imagewright_operator.watch.controller import Controller
from imagewright_operator.watch.resync import Resync
from imagewright_operator.watch.workqueue import WorkQueue

LISTS = re.compile(r"GET /(api/v1/pods|apis/imagewright.dev/v1alpha1/imagebuilds)\?(?!.*watch=)")
WATCHES = [re.compile(rf"GET /[^?]*/{name}\?.*watch=true") for name in ("pods", "imagebuilds")]
OF_ONE = re.compile(r"(GET|POST|PATCH|DELETE) /api.*/namespaces/[^/]+/(imagebuilds|pods|events)")

KEY = SigningKey(lambda: b"k" * 32)


@pytest.fixture
def places(api: ApiServer) -> Iterator[Callable[[int], list[DirectNamespace]]]:
    rest = Rest(api)
    made: list[DirectNamespace] = []

    def make(count: int) -> list[DirectNamespace]:
        new = [DirectNamespace(api, rest, f"scale-{uuid.uuid4().hex[:8]}") for _ in range(count)]
        made.extend(new)
        return new

    yield make
    for place in made:
        place.clear()
    rest.close()


def test_the_cost_of_a_build_does_not_grow_with_their_number(
    api: ApiServer, operators: Callable[..., Operator], proxy: Proxy, places: Callable[[int], list[DirectNamespace]]
) -> None:
    operator = operators(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="3600")
    ready_in_s(operator)
    eventually(lambda: all(proxy.count(watch) for watch in WATCHES), "watches")
    per_build, largest = [], []
    for namespaces, count in ((2, 20), (5, 100)):
        proxy.requests.clear()
        proxy.sizes.clear()
        _, latencies = build_all(places(namespaces), count, at_once=20, runs_s=0.5)
        asked = [line for line in proxy.requests if "watch=true" not in line]
        assert sum(1 for line in asked if LISTS.match(line)) <= 4, (
            "full lists, in addition to the watches' initial ones"
        )
        per_build.append(sum(1 for line in asked if OF_ONE.match(line)) / count)
        largest.append(max(size for line, size in proxy.sizes if OF_ONE.match(line)))
        kinds = Counter(re.sub(r"\?.*|/namespaces/[^/]+|(?<=pods|ilds)/[^/]+", "", line) for line in asked)
        assert kinds["GET /api/v1/nodes"] <= 2, "one list serves all workers for a minute"
        print(f"{count}: {per_build[-1]:.1f} requests a build, largest answer {largest[-1]}", latencies, sep="\n")
        print(*(f"{number:6} {kind}" for kind, number in kinds.most_common()), sep="\n")
    assert per_build[1] <= 25
    assert per_build[1] <= per_build[0] + 5
    assert largest[1] < largest[0] * 1.2
    assert Costs.of(operator).peak_mib < 200


def connected(api: ApiServer, count: Callable[[str, str, int], None] = lambda *_: None) -> Cluster:
    """With the operator's rights, in this process."""
    access = client.Configuration()
    config.load_kube_config(str(api.kubeconfig("operator-token")), client_configuration=access)  # type: ignore[no-untyped-call]
    return Cluster(client.ApiClient(access), count)


def test_an_idle_imagebuild_is_reconciled_once(
    api: ApiServer, places: Callable[[int], list[DirectNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand finished ImageBuilds cost a look at everything two lists, and no decisions."""
    (place,) = places(1)
    names = [f"app-{number}" for number in range(12)]
    for name in names:
        place.apply(name, suspend=True)
    cluster, settings = connected(api), Settings(namespaces=(place.name,))
    controller = Controller(cluster, settings, Metrics(), KEY)
    resync = Resync(cluster, settings, Metrics(), WorkQueue(), KEY)
    for name in names:
        controller.sync(ObjectKey(place.name, name))  # the status says that it is suspended
    decided: list[str] = []
    decide = reconciler.reconcile

    def spy(observed: ReconcileInput, settings: Settings) -> Actions:
        decided.append(observed.imagebuild.metadata.name)
        return decide(observed, settings)

    monkeypatch.setattr(reconciler, "reconcile", spy)

    def looked_at() -> list[str]:
        decided.clear()
        resync.resync_all()
        return sorted(decided)

    assert looked_at() == sorted(names)
    assert looked_at() == []
    place.edit("app-3", retention={"historyLimit": 1})
    assert looked_at() == ["app-3"]
    controller.sync(ObjectKey(place.name, "app-3"))
    assert looked_at() == ["app-3"], "its status was written"
    place.edit("app-4", suspend=False)
    controller.sync(ObjectKey(place.name, "app-4"))
    assert set(looked_at()) == set(looked_at()) == {"app-4"}, "it has a Pod, whose event may get lost"
    controller.stop()


def test_between_full_resyncs_one_request_finds_pods_whose_events_were_lost(
    api: ApiServer, places: Callable[[int], list[DirectNamespace]]
) -> None:
    (place,) = places(1)
    asked: list[tuple[str, str, int]] = []
    cluster, settings = connected(api, lambda *request: asked.append(request)), Settings(namespaces=(place.name,))
    queue: WorkQueue[ObjectKey] = WorkQueue()
    controller = Controller(cluster, settings, Metrics(), KEY)
    resync = Resync(cluster, settings, Metrics(), queue, KEY)
    names = ["goes-on", "has-ended", "is-gone", "has-started", "waits"]
    for name in names:
        place.apply(name, suspend=name == "waits")
        for _ in range(2):  # its record and the Pod; that the Pod exists
            controller.sync(ObjectKey(place.name, name))
        if name != "waits":
            place.starts(place.pod(name))
        if name != "has-started":
            controller.sync(ObjectKey(place.name, name))
    resync.resync_all()
    while queue.depth():
        queue.done(queue.get() or ObjectKey("", ""))

    place.kubelet(place.pod("has-ended"), timed(pushed(place.pod("has-ended"))))
    gone = place.pod("is-gone")["metadata"]["name"]
    place.kubectl("delete", "pod", gone, "--force", "--grace-period=0")
    asked.clear()
    resync.resync_running()
    assert asked == [("GET", "pods", 200)]
    found = {queue.get() for _ in range(queue.depth())}
    assert found == {ObjectKey(place.name, name) for name in ("has-ended", "is-gone", "has-started")}
    assert resync.limiter.counts()[0] == 2
    assert resync.store.phases() == {"Running": 3, "Pending": 1, "Queued": 1}
    controller.stop()

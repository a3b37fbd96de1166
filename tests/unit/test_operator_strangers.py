"""Pods of strangers, as odd as they come: no pass fails for one, none is counted, none costs a request."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from imagebuilds.memory_api import MemoryApi
from imagebuilds.namespace import now
from imagebuilds.paper import result

from imagewright_operator.api import ImageBuild
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.pods.manifests import owner_uid
from imagewright_operator.pods.signature import Signer
from imagewright_operator.reconcile.limiter import ObjectKey
from imagewright_operator.settings import Limits, Settings
from imagewright_operator.signingkey import SigningKey
from imagewright_operator.watch.controller import Controller
from imagewright_operator.watch.observing import Observer, has_ended, name_of, uid_of
from imagewright_operator.watch.resync import Resync
from imagewright_operator.watch.workqueue import WorkQueue

Json = dict[str, Any]
KEY = ObjectKey("ns", "app")
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 0.5, "", "x", "\ud800", "é" * 9, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00",
    "+292277-01-01T00:00:00Z", [], [None], [[]], ["x"], [{}], {}, {"": None}, {"name": "executor"}, [{"name": None}],
    {"terminated": {"finishedAt": "9999-12-31T23:59:59Z", "message": "[" * 5000}}, [{"controller": True, "uid": 1}],
)  # fmt: skip


@pytest.fixture
def api() -> Iterator[MemoryApi]:
    made = MemoryApi()
    yield made
    made.close()


def controller_of(api: MemoryApi, key: bytes = b"k" * 32, limit: int = 0) -> tuple[Controller, Metrics]:
    metrics = Metrics()
    settings = Settings(limits=Limits(total=limit))
    return Controller(api.cluster, settings, metrics, SigningKey(lambda: key)), metrics


def resync_of(api: MemoryApi, key: bytes = b"k" * 32) -> Resync:
    queue: WorkQueue[ObjectKey] = WorkQueue()
    return Resync(api.cluster, Settings(), Metrics(), queue, SigningKey(lambda: key))


def running(api: MemoryApi) -> Json:
    """The Pod of a build that runs."""
    api.apply()
    controller, _ = controller_of(api)
    controller.sync(KEY)
    pod: Json = api.pods[0]
    executor = {"name": "executor", "state": {"running": {"startedAt": now()}}}
    pod["status"] = {"phase": "Running", "containerStatuses": [executor]}
    controller.sync(KEY)
    assert api.status()["phase"] == "Running"
    return pod


def end(pod: Json) -> None:
    """It has pushed an image."""
    terminated = {"exitCode": 0, "finishedAt": now(), "message": result()}
    pod["status"] = {
        "phase": "Succeeded",
        "containerStatuses": [{"name": "executor", "state": {"terminated": terminated}}],
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all parts of a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    made = copy.copy(value)
    made[path[0]] = replaced(made[path[0]], path[1:], by)
    return made


def strangers(pod: Json) -> Iterator[Any]:
    """Copies of a Pod, each with another of its parts replaced by something odd; the owner is kept where it can be."""
    base = copy.deepcopy(pod)
    base["metadata"] |= {"uid": "stranger", "name": "stranger-0-1", "deletionTimestamp": "x"}
    base["metadata"]["deletionGracePeriodSeconds"] = 1
    base["spec"]["terminationGracePeriodSeconds"] = 2**63 - 1
    base["status"]["containerStatuses"][0]["state"]["terminated"] = {"exitCode": 0, "message": "x", "finishedAt": "x"}
    choose = random.Random(7)
    for path in places(base):
        for odd in choose.sample(ODD, 4):
            if path[:1] != ("metadata",) or len(path) < 2 or path[1] not in ("labels", "ownerReferences"):
                yield replaced(base, path, odd)
    for odd in ODD:
        for field in ("deletionTimestamp", "creationTimestamp", "deletionGracePeriodSeconds", "annotations", "uid"):
            yield replaced(base, ("metadata", field), odd)


def test_whatever_a_stranger_creates_no_function_fails_and_none_is_believed(api: MemoryApi) -> None:
    pod = running(api)
    seen = 0
    signer, observer = Signer(b"k" * 32), Observer(Signer(b"k" * 32), api.cluster.now())
    status = ImageBuild.parse(api.imagebuilds["app"]).status
    for odd in strangers(pod):
        assert not signer.is_unchanged(odd) or odd == pod
        assert owner_uid(odd) in ("", "uid-1", "1")
        assert (uid_of(odd), name_of(odd), has_ended(odd)) is not None
        for observation in observer.observe([odd], "uid-1", status):
            assert observation.result is None
            assert not observation.signed
            assert not observation.destinations
            observation.is_live(api.cluster.now())
            seen += 1
    assert seen > 300, "most are read, although they are odd"


def test_a_pod_of_the_operators_own_that_cannot_be_read_is_not_taken_for_one_that_is_gone(api: MemoryApi) -> None:
    pod = running(api)
    pod["status"]["containerStatuses"] = "x"
    controller, _ = controller_of(api)
    with pytest.raises(AttributeError):
        controller.sync(KEY)
    assert api.status()["phase"] == "Running"


def test_a_pod_that_is_gone_no_longer_counts_although_its_event_was_lost(api: MemoryApi) -> None:
    running(api)
    controller, metrics = controller_of(api)
    controller.sync(KEY)
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 1
    api.pods.clear()
    controller.sync(KEY)
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 0


def test_a_pod_of_the_operators_own_that_cannot_be_deleted_is_tried_again(api: MemoryApi) -> None:
    pod = running(api)
    api.undeletable = pod["metadata"]["name"]
    api.imagebuilds["app"]["spec"]["cancelled"] = True
    controller, _ = controller_of(api)
    with pytest.raises(ApiError):
        controller.sync(KEY)


def test_passes_and_resyncs_go_on_whatever_strangers_create(api: MemoryApi) -> None:
    pod = running(api)
    api.pods += [json.loads(json.dumps(odd)) for odd in strangers(pod) if isinstance(odd, dict)]
    resync = resync_of(api)
    resync.resync_all()
    assert resync.limiter.counts() == (1, 0)
    resync.resync_running()
    assert resync.limiter.counts() == (1, 0)
    controller, metrics = controller_of(api)
    for odd in api.pods:
        controller.pod_changed(KEY, odd, gone=False)
        controller.pod_changed(KEY, odd, gone=True)
    api.requests.clear()
    controller.sync(KEY)
    assert api.status()["phase"] == "Running"
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 1
    assert "GET events" not in api.requests


def test_a_strangers_pod_that_cannot_be_deleted_stops_no_build(api: MemoryApi) -> None:
    pod = running(api)
    api.undeletable = "stranger-0-1"
    api.pods.append({**pod, "metadata": {**pod["metadata"], "name": "stranger-0-1", "uid": "stranger"}})
    controller, _ = controller_of(api)
    end(pod)
    controller.sync(KEY)
    assert api.status()["phase"] == "Succeeded"
    assert "DELETE pods" in api.requests


def test_copies_of_ended_pods_use_up_no_limit_and_other_keys_keep_running_builds_counted(api: MemoryApi) -> None:
    pod = running(api)
    copies = [copy.deepcopy(pod) for _ in range(3)]
    for number, one in enumerate(copies):
        one["metadata"] |= {"uid": f"copy-{number}"}
    api.pods += copies
    api.pods += [{**one, "metadata": {**one["metadata"], "namespace": "theirs"}} for one in copies]
    for key in (b"k" * 32, b"another key of at least 32 bytes"):
        resync = resync_of(api, key)
        resync.resync_all()
        assert resync.limiter.counts() == (1, 0)
        resync.resync_running()
        assert resync.limiter.counts() == (1, 0)
    controller, metrics = controller_of(api)
    controller.sync(KEY)
    controller.pod_changed(KEY, copies[0], gone=True)
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 1, "that of a copy is no end"
    controller.pod_changed(KEY, pod, gone=True)
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 0


def test_a_copy_of_an_ended_pod_is_not_counted_again(api: MemoryApi) -> None:
    pod = running(api)
    controller, metrics = controller_of(api)
    before = copy.deepcopy(pod)
    end(pod)
    controller.sync(KEY)
    assert api.status()["phase"] == "Succeeded"
    before["metadata"]["uid"] = "copy"
    api.pods = [before]
    controller.pod_changed(KEY, before, gone=False)
    resync = resync_of(api)
    resync.resync_all()
    resync.resync_running()
    assert resync.limiter.counts() == (0, 0)
    assert metrics.registry.get_sample_value("imagewright_builds_running") == 0


def test_a_conflict_while_the_pod_is_recorded_makes_it_no_strangers(api: MemoryApi) -> None:
    """Also in a cluster that rewrites images: this process knows which Pod it has created."""
    api.apply()
    controller, _ = controller_of(api)

    def rewrite(pod: Json) -> None:
        api.conflicts = 1
        for one in pod["spec"]["containers"]:
            one["image"] = f"proxy.example.com/{one['image']}"

    api.webhook = rewrite
    controller.sync(KEY)
    assert "pod" not in api.status()["build"]
    (pod,) = api.pods
    controller.sync(KEY)
    assert api.status()["build"]["pod"] == {"uid": pod["metadata"]["uid"], "fingerprint": fingerprint(pod)}
    assert api.ready() == "Unknown PodPending"


@pytest.mark.parametrize("by", ["a copy", "an edit"])
def test_before_the_pod_is_recorded_only_the_one_that_was_created_counts(api: MemoryApi, by: str) -> None:
    api.apply()
    controller, _ = controller_of(api)

    def conflict(_pod: Json) -> None:
        api.conflicts = 1

    api.webhook = conflict
    controller.sync(KEY)
    (pod,) = api.pods
    other = copy.deepcopy(pod)
    resync = resync_of(api)
    resync.resync_all()
    assert resync.limiter.counts() == (1, 0), "it runs, recorded or not"
    if by == "a copy":
        other["metadata"]["uid"] = "copy"
        api.pods = [pod, other]
    else:
        other["spec"]["containers"][0]["image"] = "evil.example.com/executor"
        api.pods = [other]
    controller.sync(KEY)
    if by == "a copy":
        assert api.status()["build"]["pod"]["uid"] == pod["metadata"]["uid"]
    else:
        assert api.ready() == "False PodNameTaken"

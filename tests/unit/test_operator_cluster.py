"""An API server with malformed responses: an error, after which the operator continues."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from imagebuilds.manifests import pod
from imagebuilds.waiting import eventually
from kubernetes import client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.errors import Reason
from imagewright_operator.cluster import Cluster
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.leadership.leases import Leases
from imagewright_operator.monitoring.metrics import Metrics
from imagewright_operator.pods.observation import Observation, PodState
from imagewright_operator.reconcile.actions import CreateError
from imagewright_operator.settings import Profile, Settings
from imagewright_operator.signingkey import SigningKey
from imagewright_operator.watch.controller import Controller

BROKEN = {
    "breaks off": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"),
    "breaks off in an error": Answer(raw=b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n{"),
    "no JSON": Answer(200, {}, b"<html>"),
    "nothing": Answer(raw=b""),
    "no HTTP": Answer(raw=b"SSH-2.0\r\n"),
}
KEY = SigningKey(lambda: b"k" * 32)
SEEN = Observation(state=PodState.RUNNING, name="status", uid="1")
Serve = Callable[[Callable[[Asked], Answer]], tuple[ScriptedServer, Cluster]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def start(script: Callable[[Asked], Answer]) -> tuple[ScriptedServer, Cluster]:
        servers.append(ScriptedServer(script))
        configuration = client.Configuration(host=f"http://{servers[-1].host}")
        return servers[-1], Cluster(client.ApiClient(configuration))

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_malformed_response_is_an_error_that_is_retried(serve: Serve, answer: Answer) -> None:
    _, cluster = serve(lambda asked: answer)
    with pytest.raises(ApiError) as caught:
        cluster.imagebuild("ns", "app")
    assert caught.value.status in (0, 500)


def test_the_resync_continues_after_a_malformed_response(serve: Serve) -> None:
    answers = [*BROKEN.values(), Answer(200, {}, b'{"items": "none"}'), Answer(200, {}, b"[]")]
    empty = Answer(200, {}, b'{"items": []}')
    _, cluster = serve(lambda asked: answers.pop(0) if answers else empty)
    controller = Controller(cluster, Settings(workers=1, resync_s=1.0), Metrics(), KEY)
    controller.start()
    try:
        eventually(controller.is_ready, "a resync that works")
        assert not answers
        assert controller.is_alive()
    finally:
        controller.stop()


def test_a_missing_namespace_does_not_block_the_others(serve: Serve) -> None:
    def script(asked: Asked) -> Answer:
        if "/namespaces/gone/" in asked.path:
            return Answer(403, {}, b'{"message": "forbidden"}')
        return Answer(200, {}, b'{"items": []}')

    server, cluster = serve(script)
    controller = Controller(cluster, Settings(workers=1, resync_s=1.0, namespaces=("gone", "there")), Metrics(), KEY)
    controller.start()
    try:
        eventually(controller.is_ready, "a resync")
    finally:
        controller.stop()
    assert any("/namespaces/there/" in asked.path for asked in server.asked)


def test_requests_are_counted_by_resource_whatever_the_objects_names() -> None:
    counted: list[tuple[str, str, int]] = []
    with contextlib.closing(ScriptedServer(lambda asked: Answer(200, {}, b'{"items": []}'))) as server:
        api = client.ApiClient(client.Configuration(host=f"http://{server.host}"))
        cluster = Cluster(api, lambda *request: counted.append(request))
        cluster.imagebuild("pods", "namespaces")
        assert list(cluster.imagebuilds()) == []
        cluster.patch_status({"metadata": {"namespace": "a", "name": "nodes", "resourceVersion": "1", "uid": "u"}}, {})
        assert list(cluster.pods("events")) == []
        cluster.log("a", SEEN)
        assert cluster.nodes() == []
        Leases(api, "pods", "log", 5.0, lambda *request: counted.append(request)).read()
    assert counted == [
        ("GET", "imagebuilds", 200),
        ("GET", "imagebuilds", 200),
        ("PATCH", "imagebuilds/status", 200),
        ("GET", "pods", 200),
        ("GET", "pods/log", 200),
        ("GET", "pods", 200),
        ("GET", "nodes", 200),
        ("GET", "leases", 200),
    ]


@pytest.mark.parametrize(("uid", "read"), [("1", b"a log\n"), ("2", b""), (None, b"")])
def test_a_log_is_read_only_of_the_pod_that_is_still_there_afterwards(
    serve: Serve, uid: str | None, read: bytes
) -> None:
    def script(asked: Asked) -> Answer:
        if "/log?" in asked.path:
            return Answer(200, {}, b"a log\n")
        return Answer(404) if uid is None else Answer(200, {}, json.dumps({"metadata": {"uid": uid}}).encode())

    _, cluster = serve(script)
    assert cluster.log("a", SEEN) == read


@pytest.mark.parametrize(
    ("profile", "said", "advice"),
    [
        (
            Profile.PLAIN,
            "[minimum memory usage per Container is 64Mi, but request is 32Mi, minimum cpu usage per Container is 50m, but request is 10m]",
            ': for the container "runner" raise requests.memory in the operator\'s setting IMAGEWRIGHT_RUNNER_RESOURCES; '
            'for the container "runner" raise requests.cpu in the operator\'s setting IMAGEWRIGHT_RUNNER_RESOURCES',
        ),
        (
            Profile.HARDENED,
            "minimum memory usage per Container is 200Mi, but request is 128Mi",
            ': for the container "executor" raise requests.memory in the operator\'s setting IMAGEWRIGHT_ENGINE_RESOURCES',
        ),
        (
            Profile.PLAIN,
            "maximum memory usage per Container is 2Gi, but limit is 4Gi",
            ': for the container "runner" lower spec.podTemplate.resources.limits.memory; '
            'for the container "executor" lower spec.podTemplate.resources.limits.memory',
        ),
        (Profile.PLAIN, "minimum memory usage per Pod is 8Gi, but request is 288Mi", ""),
        (Profile.PLAIN, 'violates PodSecurity "restricted:latest"', ""),
    ],
)
def test_a_limit_range_is_told_with_the_container_and_what_sets_its_resources(
    serve: Serve, profile: Profile, said: str, advice: str
) -> None:
    message = f'pods "app-0123abcd-2" is forbidden: {said}'
    _, cluster = serve(lambda asked: Answer(403, {}, json.dumps({"kind": "Status", "message": message}).encode()))
    error = cluster.create_pod(pod(profile=profile))
    assert isinstance(error, CreateError)
    assert error.reason is Reason.POD_REJECTED
    assert error.message == f"the API server rejected the executor Pod: {message}{advice}"

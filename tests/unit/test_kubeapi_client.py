"""The Kubernetes client of operator and plugin, on a server that answers what a test scripts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from kubernetes import client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright_operator.kubeapi.client import Client, WatchEvent
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.kubeapi.paths import core, imagebuilds, resource_of

Serve = Callable[[Callable[[Asked], Answer]], Client]
PODS = core("pods", "ns")


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as servers:

        def start(script: Callable[[Asked], Answer]) -> Client:
            server = servers.enter_context(contextlib.closing(ScriptedServer(script)))
            api = client.ApiClient(client.Configuration(host=f"http://{server.host}/"))
            return Client(api, "test", urllib3.Timeout(total=10.0))

        yield start


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(body).encode())


def events(*listed: dict[str, Any], cut: bytes = b"") -> Answer:
    return Answer(body=b"".join(json.dumps(event).encode() + b"\n" for event in listed) + cut)


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


def query_of(asked: Asked) -> dict[str, list[str]]:
    return parse_qs(urlsplit(asked.path).query)


def test_a_list_is_read_page_by_page(serve: Serve) -> None:
    queries = []

    def script(asked: Asked) -> Answer:
        queries.append(query_of(asked))
        token = queries[-1].get("continue", ["0"])[0]
        return answer({"metadata": {"continue": "" if token == "2" else str(int(token) + 1)}, "items": [pod(token)]})

    found = serve(script).items(PODS, {"labelSelector": "a=b"}, page=1)
    assert [one["metadata"]["name"] for one in found] == ["0", "1", "2"]
    assert [query.get("continue") for query in queries] == [None, ["1"], ["2"]]
    assert all((query["limit"], query["labelSelector"]) == (["1"], ["a=b"]) for query in queries)


def test_a_watch_continues_from_a_version_and_yields_events(serve: Serve) -> None:
    queries = []

    def script(asked: Asked) -> Answer:
        queries.append(query_of(asked))
        return events(
            {"type": "ADDED", "object": pod("a")}, {"type": "DELETED", "object": pod("a")}, cut=b'{"type": "MO'
        )

    seen = list(serve(script).watch(PODS, {"fieldSelector": "metadata.name=a"}, "7", seconds=5))
    assert seen == [WatchEvent("ADDED", pod("a")), WatchEvent("DELETED", pod("a"))]
    expected = {
        "fieldSelector": ["metadata.name=a"],
        "watch": ["true"],
        "resourceVersion": ["7"],
        "timeoutSeconds": ["5"],
    }
    assert queries == [expected]


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (
            events({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}}),
            410,
        ),
        (answer({"code": 410, "reason": "Gone", "message": "too old resource version"}, 410), 410),
        (events({"type": "ADDED"}), 0),
        (Answer(body=b"[]\n"), 0),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"), 0),
    ],
    ids=["error event", "gone", "no object", "no event", "broken off"],
)
def test_a_watch_that_cannot_continue_is_an_error(serve: Serve, ended: Answer, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        list(serve(lambda asked: ended).watch(PODS, {}, "7", seconds=5))
    assert caught.value.status == status


def test_an_error_has_the_api_servers_message_cause_and_pause(serve: Serve) -> None:
    status = {
        "code": 403,
        "reason": "Forbidden",
        "message": "pods is forbidden",
        "details": {"causes": [{"reason": "NamespaceTerminating"}]},
    }
    with pytest.raises(ApiError) as caught:
        serve(lambda asked: answer(status, 403, **{"Retry-After": "3"})).json("GET", PODS)
    error = caught.value
    assert (error.status, error.cause, error.message) == (403, "NamespaceTerminating", "pods is forbidden")
    assert (error.retry_after_s, error.is_transient) == (3.0, False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>busy</html>", "<html>busy</html>"),
        (b"", "HTTP status 503"),
        (b"[1]", "[1]"),
        (b'{"details": 1}', "HTTP status 503"),
    ],
)
def test_an_error_that_is_not_a_status_object_keeps_its_text(serve: Serve, body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        serve(lambda asked: Answer(503, {"Retry-After": "soon"}, body)).json("GET", PODS)
    assert (caught.value.message, caught.value.retry_after_s) == (message, 0.0)


@pytest.mark.parametrize(
    ("status", "transient"),
    [(429, True), (500, True), (502, True), (503, True), (504, True), (401, False), (409, False)],
)
def test_errors_that_a_retry_may_fix(serve: Serve, status: int, transient: bool) -> None:
    with pytest.raises(ApiError) as caught:
        serve(lambda asked: answer({"message": "no"}, status)).json("GET", PODS)
    assert caught.value.is_transient is transient


def test_a_server_without_an_answer_is_named_and_may_be_retried(serve: Serve) -> None:
    api = serve(lambda asked: Answer(raw=b""))
    with pytest.raises(ApiError, match=f"no answer from the API server {api.server}: ") as caught:
        api.json("GET", PODS)
    assert (caught.value.status, caught.value.is_transient) == (0, True)


def test_only_an_object_that_is_missing_is_not_found(serve: Serve) -> None:
    assert serve(lambda asked: answer({"message": "no"}, 404)).find(PODS) is None
    with pytest.raises(ApiError):
        serve(lambda asked: answer({"message": "no"}, 403)).find(PODS)


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (imagebuilds(), "imagebuilds"),
        (imagebuilds("pods", "nodes"), "imagebuilds"),
        (core("pods", "a", "b") + "/log", "pods/log"),
        (core("nodes"), "nodes"),
        (core("namespaces"), "namespaces"),
    ],
)
def test_the_resource_of_a_path(path: str, resource: str) -> None:
    assert resource_of(path) == resource


def test_names_are_quoted_in_paths() -> None:
    assert imagebuilds("a", "b?c") == "/apis/imagewright.dev/v1alpha1/namespaces/a/imagebuilds/b%3Fc"

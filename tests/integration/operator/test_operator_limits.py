"""Limits of concurrent builds and their order, on a real API server."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.kstatus import kstatus
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually


@pytest.fixture
def other(namespaces: Callable[[], Namespace]) -> Namespace:
    return namespaces()


def held(namespace: Namespace, name: str) -> None:
    namespace.becomes("Unknown BuildQueued", name)
    assert namespace.phase("Queued", name)["build"]["queueTime"]
    assert kstatus(namespace.get("imagebuild", name)) == "InProgress"
    assert not namespace.pods(name)


def test_builds_above_the_limit_are_queued_and_the_smaller_namespace_is_next(
    namespace: Namespace, other: Namespace, operators: Callable[..., Operator]
) -> None:
    operator = operators(MAX_BUILDS="2", RESYNC_SECONDS="300")
    for name in ("a", "b"):
        namespace.apply(name)
        namespace.starts(namespace.pod(name))
    for name in ("c", "d"):
        namespace.apply(name)
        held(namespace, name)
    other.apply("e")
    held(other, "e")
    # No resync helps here: the Pod's end alone starts the next.
    namespace.pushes(namespace.pod("a"))
    namespace.phase("Succeeded", "a")
    other.pod("e")
    held(namespace, "c")
    # Killed and started again: what runs is counted before anything more begins.
    operator.kill()
    other.kubectl("delete", "imagebuild", "e")
    other.kubectl("delete", "pods", "--all", "--force")
    operator.start()
    first = namespace.pod("c")
    held(namespace, "d")
    assert len([pod for name in "bcd" for pod in namespace.pods(name)]) == 2
    metrics = f"http://127.0.0.1:{operator.port}/metrics"
    running = "imagewright_builds_running 2.0"
    eventually(
        lambda: running in urllib.request.urlopen(metrics).read().decode(), "the resync after the watches' lists"
    )
    namespace.kubectl("patch", "imagebuild", "c", "--type=merge", '--patch={"spec":{"suspend":true,"cancelled":true}}')
    namespace.phase("Cancelled", "c")
    namespace.kubectl("delete", "pod", first["metadata"]["name"], "--force", "--ignore-not-found")
    namespace.pod("d")


def test_the_limit_of_a_namespace(namespace: Namespace, other: Namespace, operators: Callable[..., Operator]) -> None:
    operators(MAX_BUILDS_PER_NAMESPACE="1", RESYNC_SECONDS="300")
    namespace.apply("a")
    namespace.pod("a")
    namespace.apply("b")
    held(namespace, "b")
    other.apply("c")
    other.pod("c")
    # One that waits and is suspended, deleted or made invalid lets the next one go.
    namespace.apply("d")
    held(namespace, "d")
    namespace.kubectl("delete", "imagebuild", "b")
    namespace.kubectl("delete", "imagebuild", "a")
    namespace.kubectl("delete", "pods", "--all", "--force")
    namespace.pod("d")


def test_the_settings_are_checked(operators: Callable[..., Operator]) -> None:
    operator = operators(MAX_BUILDS="many")
    eventually(lambda: not operator.is_running(), "the operator to end")
    assert 'invalid IMAGEWRIGHT_MAX_BUILDS value "many": must be a number' in operator.log()


def test_a_queued_build_costs_no_requests(
    api: ApiServer, namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    operator = operators(MAX_BUILDS="1", RESYNC_SECONDS="1")
    namespace.apply("a")
    namespace.pod("a")
    for number in range(5):
        namespace.apply(f"waits-{number}")
    for number in range(5):
        held(namespace, f"waits-{number}")

    def requests() -> float:
        """For ImageBuilds and Pods, so far: lists, single ones and patches."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics").read().decode()
        lines = [line for line in text.splitlines() if line.startswith("imagewright_api_requests_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if 'resource="events"' not in line)

    before, began = requests(), time.monotonic()
    eventually(lambda: requests() >= before + 20, "some resyncs")
    # Two lists every second, and the one that runs is looked at every five; those that wait would add ten a second.
    assert requests() - before <= 4 * (time.monotonic() - began) + 10

"""The operator killed (see also test_operator_kills), and an API server that is slow, gone, busy or frozen."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.proxy import CUT, PASS, Proxy

WATCH = re.compile(r"GET .*watch=true")


def test_a_build_that_ends_while_no_operator_runs(namespace: Namespace, operators: Callable[..., Operator]) -> None:
    first = operators()
    namespace.apply()
    pod = namespace.pod()
    first.kill()
    namespace.starts(pod)
    digest = namespace.pushes(pod)
    operators()
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def test_two_operators_at_once_never_build_twice(namespace: Namespace, operators: Callable[..., Operator]) -> None:
    operators()
    operators()
    names = [f"app-{number}" for number in range(12)]
    items = [namespace.imagebuild(name) for name in names]
    namespace.kubectl("apply", "--filename=-", given={"apiVersion": "v1", "kind": "List", "items": items})
    for name in names:
        namespace.starts(namespace.pod(name))
    for name in names:
        namespace.pushes(namespace.pod(name))
    for name in names:
        status = namespace.phase("Succeeded", name)
        assert (status["build"]["number"], len(status["history"])) == (1, 1)
    assert len(namespace.get("pods")["items"]) == len(names)
    events = [(one["involvedObject"]["name"], one["reason"]) for one in namespace.get("events")["items"]]
    assert len(events) == len(set(events))


@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_is_wrong_ends_no_build(
    namespace: Namespace, operators: Callable[..., Operator], hours: int
) -> None:
    program = f"""
from datetime import timedelta
from imagewright_operator import clock, main
right = clock.local_time
clock.local_time = lambda: right() + timedelta(hours={hours})
raise SystemExit(main.main())
"""
    operator = operators(program=("-c", program), RESYNC_SECONDS="1")
    namespace.apply(timeout="30m", startTimeout="30m")
    pod = namespace.pod()
    namespace.starts(pod)
    status = namespace.phase("Running")
    queued = datetime.fromisoformat(status["build"]["queueTime"])
    assert abs(datetime.now(UTC) - queued) < timedelta(minutes=5)
    time.sleep(3)  # some resyncs
    namespace.pushes(pod)
    assert namespace.phase("Succeeded")["build"]["attempt"] == 1
    assert namespace.events() == ["BuildQueued", "BuildStarted", "BuildSucceeded"]
    assert re.search(r"the local clock is 7\d{3} s " + ("ahead of" if hours > 0 else "behind"), operator.log())


@pytest.mark.parametrize("status", [429, 500, 503, 409, 410])
def test_an_api_server_that_answers_with_errors_for_a_while(
    api: ApiServer, namespace: Namespace, operators: Callable[..., Operator], proxy: Proxy, status: int
) -> None:
    left = {"GET": 3, "POST": 2, "PATCH": 2}

    def rule(line: str) -> int:
        verb = line.split(" ", 1)[0]
        if "/imagebuilds" not in line and "/pods" not in line:
            return PASS
        left[verb] = left.get(verb, 0) - 1
        return status if left[verb] >= 0 else PASS

    proxy.rule = rule
    operator = operators(api.kubeconfig("operator-token", proxy.address))
    namespace.apply()
    pod = namespace.pod()
    digest = namespace.pushes(pod)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest
    assert len(namespace.pods()) == 1
    assert operator.is_running()


def test_the_resync_makes_up_for_silent_watches(
    api: ApiServer, namespace: Namespace, operators: Callable[..., Operator], proxy: Proxy
) -> None:
    stuck = threading.Event()
    proxy.rule = lambda line: CUT if WATCH.match(line) and stuck.wait(60) else PASS
    operators(api.kubeconfig("operator-token", proxy.address))
    namespace.apply()
    digest = namespace.pushes(namespace.pod())
    assert namespace.phase("Succeeded")["image"]["digest"] == digest
    stuck.set()


def test_an_api_server_that_freezes_and_continues(api: ApiServer, namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    pod = namespace.pod()
    api.signal_api(signal.SIGSTOP)
    time.sleep(8)
    assert operator.is_running()
    api.signal_api(signal.SIGCONT)
    digest = namespace.pushes(pod)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def test_deleted_and_created_again_under_the_same_name(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    old = namespace.pod()
    namespace.kubectl("delete", "imagebuild", "app")  # its Pod stays: no controller manager collects it here
    namespace.apply()
    new = namespace.pod()
    assert new["metadata"]["name"] != old["metadata"]["name"]
    namespace.pushes(old, "e")
    digest = namespace.pushes(new)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def test_the_pod_of_a_running_build_is_deleted(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.phase("Running")
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    status = namespace.becomes("Unknown PodDeleted")
    assert status["build"]["attempt"] == 2
    namespace.becomes("Unknown PodPending")
    namespace.pushes(namespace.pod())
    namespace.phase("Succeeded")


def test_an_unreadable_log_does_not_delay_the_digest(namespace: Namespace, operator: Operator) -> None:
    """Without a kubelet there is no log at all: the API server answers 400 or 500 for the Pod on this node."""
    namespace.apply()
    pod = namespace.pod()
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
    binding["target"] = {"apiVersion": "v1", "kind": "Node", "name": "gone"}  # type: ignore[assignment]
    path = f"/api/v1/namespaces/{namespace.name}/pods/{pod['metadata']['name']}/binding"
    namespace.kubectl("create", "--raw", path, "--filename=-", given=binding)
    digest = namespace.pushes(pod)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest
    assert "tail" not in namespace.status().get("log", {})


def test_a_thousand_finished_imagebuilds_cost_two_lists_and_little_memory(
    api: ApiServer, namespace: Namespace, operators: Callable[..., Operator], proxy: Proxy
) -> None:
    items = [namespace.imagebuild(f"app-{number}", suspend=True) for number in range(1000)]
    for start in range(0, 1000, 250):
        given = {"apiVersion": "v1", "kind": "List", "items": items[start : start + 250]}
        namespace.kubectl("create", "--filename=-", given=given)
    first = operators()
    namespace.becomes("False Suspended", "app-999")
    names = namespace.get("imagebuilds")["items"]
    deadline = time.monotonic() + 120
    while any("conditions" not in item["status"] for item in names) and time.monotonic() < deadline:
        time.sleep(1)
        names = namespace.get("imagebuilds")["items"]
    first.kill()
    proxy.requests.clear()
    second = operators(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="3600")
    quiet = -1
    while quiet != len(proxy.requests) or not quiet:
        quiet = len(proxy.requests)
        time.sleep(3)
    own = [line for line in proxy.requests if "imagewright.dev/v1alpha1" in line or "/pods" in line]
    assert len(own) < 20, own
    with open(f"/proc/{second.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 256 * 1024, f"{peak} KiB"
    assert json.loads(namespace.kubectl("get", "--raw", "/api/v1/pods"))["items"] is not None


def test_a_pod_that_is_deleted_right_after_its_result(namespace: Namespace, operator: Operator) -> None:
    """As a drained node leaves it: what the last event tells is all that there is."""
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.phase("Running")
    operator.freeze()
    digest = namespace.pushes(pod)
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    operator.thaw()
    status = namespace.phase("Succeeded")
    assert status["image"]["digest"] == digest
    assert status["build"]["number"] == 1

"""The plugin with API servers that fail or break off, and with different kubeconfigs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from imagebuilds.plugin import Plugin
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright_kubectl import main
from imagewright_kubectl.kubeconfig import ConfigFlags, connect
from imagewright_kubectl.podlog import PodLog

PluginOf = Callable[[ScriptedServer], Plugin]

POD = {"metadata": {"name": "app-1", "namespace": "ns"}}
EMPTY = {"kind": "Table", "columnDefinitions": [], "rows": []}


def kubeconfig(folder: Path, server: ScriptedServer, **users: Any) -> Path:
    """A kubeconfig with a context, in a namespace of the same name, for each user."""
    content = {
        "current-context": next(iter(users)),
        "clusters": [{"name": "c", "cluster": {"server": f"http://{server.host}"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": name, "namespace": name}} for name in users],
        "users": [{"name": name, "user": user} for name, user in users.items()],
    }
    file = folder / "config"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def served() -> Iterator[Callable[[Callable[[Asked], Answer]], ScriptedServer]]:
    servers: list[ScriptedServer] = []

    def serve(script: Callable[[Asked], Answer]) -> ScriptedServer:
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def plugin_of(tmp_path: Path) -> PluginOf:
    """The plugin with a login at an API server."""
    return lambda server: Plugin(kubeconfig(tmp_path, server, a={"token": "t"}), "ns")


def log(served: Any, tmp_path: Path, *answers: Answer) -> tuple[PodLog, ScriptedServer, io.BytesIO]:
    left = list(answers)
    server = served(lambda asked: left.pop(0))
    out = io.BytesIO()
    connection = connect(ConfigFlags(kubeconfig=str(kubeconfig(tmp_path, server, a={"token": "t"}))))
    return PodLog(connection.api, POD, out), server, out


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked answer."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_broken_off_log_continues_with_the_next_line(served: Any, tmp_path: Path) -> None:
    one, two = b"2026-11-27T08:00:01.100000000Z one\n", b"2026-11-27T08:00:01.200000000Z two\n"
    same, three = b"2026-11-27T08:00:01.200000000Z two\n", b"2026-11-27T08:00:02.000000000Z three\n"
    cut = Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(one + two + same + three[:30]))
    rest = one + two + same + three + b'2026-11-27T08:00:03Z {"imagewrightResult":{}}\n'
    pod_log, server, out = log(served, tmp_path, cut, Answer(body=rest))
    assert pod_log.read(follow=True) is False
    assert out.getvalue() == b"one\ntwo\ntwo\n"
    assert pod_log.read(follow=True) is True
    assert out.getvalue() == b"one\ntwo\ntwo\nthree\n"
    assert "container=executor&follow=true" in server.asked[0].path
    assert "sinceTime=2026-11-27T08%3A00%3A01Z" in server.asked[1].path


@pytest.mark.parametrize(("status", "whole"), [(400, False), (500, False), (503, False), (404, True)])
def test_a_log_that_is_not_available_is_not_an_error(served: Any, tmp_path: Path, status: int, whole: bool) -> None:
    pod_log, _, out = log(served, tmp_path, Answer(status=status, body=b'{"message": "not now"}'))
    assert pod_log.read(follow=True) is whole
    assert out.getvalue() == b""


def test_a_forbidden_log_is_an_error(served: Any, plugin_of: PluginOf) -> None:
    words = b'{"message": "pods is forbidden"}'
    server = served(lambda asked: Answer(status=403, body=words))
    done = plugin_of(server).run("logs", "app")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: forbidden: pods is forbidden [KubernetesApiFailed]\nhint: Ask an")


def test_the_context_selects_user_and_namespace(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = served(lambda asked: Answer(body=json.dumps(EMPTY).encode()))
    helper = tmp_path / "login"
    token = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "of-helper"},
    }
    helper.write_text(f"#!{sys.executable}\nprint({json.dumps(token)!r})\n")
    helper.chmod(0o755)
    execute = {"apiVersion": token["apiVersion"], "command": str(helper), "interactiveMode": "Never"}
    file = str(kubeconfig(tmp_path, server, one={"token": "of-one"}, two={"exec": execute}))
    for words in (["get"], ["get", "--context=two"], ["--context", "two", "-n", "three", "get"], ["get", "-A"]):
        assert main.run([f"--kubeconfig={file}", *words]) == 0
    assert [(asked.path.split("/")[-2], asked.authorization) for asked in server.asked] == [
        ("one", "Bearer of-one"),
        ("two", "Bearer of-helper"),
        ("three", "Bearer of-helper"),
        ("v1alpha1", "Bearer of-one"),
    ]
    assert "No ImageBuilds found in namespace one." in capsys.readouterr().err


def test_a_cluster_without_the_resource_is_an_error_with_a_remedy(served: Any, plugin_of: PluginOf) -> None:
    words = b'{"message": "the server could not find the requested resource"}'
    server = served(lambda asked: Answer(status=404, body=words))
    plugin = plugin_of(server)
    for command in (["get"], ["get", "app"], ["wait", "app"], ["logs", "app"]):
        done = plugin.run(*command)
        assert done.stderr.startswith(
            "error: the cluster does not have the resource ImageBuild [KubernetesApiFailed]\nhint: Install the"
        )


def test_wait_retries_while_the_api_server_is_unavailable(served: Any, plugin_of: PluginOf) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "BuildSucceeded"}
    status = {"observedGeneration": 1, "phase": "Succeeded", "conditions": [ready], "image": {"reference": "r/app:1"}}
    body = {"metadata": {"name": "app", "generation": 1}, "status": status}
    answers = [Answer(status=503), Answer(raw=b"")]
    answers.append(Answer(body=json.dumps({"metadata": {"resourceVersion": "1"}, "items": [body]}).encode()))
    server = served(lambda asked: answers.pop(0))
    done = plugin_of(server).run("wait", "app")
    assert done.stdout == "imagebuild.imagewright.dev/app built: r/app:1\n"
    assert done.returncode == 0
    assert "; retrying" in done.stderr


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


@pytest.mark.parametrize(
    "watch",
    [Answer(), Answer(body=json.dumps(GONE).encode() + b"\n"), Answer(raw=b""), Answer(status=410), Answer(status=503)],
    ids=["empty", "error", "cut", "gone", "unavailable"],
)
def test_watches_that_end_at_once_are_retried_with_backoff(served: Any, plugin_of: PluginOf, watch: Answer) -> None:
    body = {"metadata": {"name": "app", "generation": 1}, "status": {}}
    page = Answer(body=json.dumps({"metadata": {"resourceVersion": "1"}, "items": [body]}).encode())
    server = served(lambda asked: watch if "watch=true" in asked.path else page)
    done = plugin_of(server).run("wait", "app", "--timeout=1s")
    assert done.returncode == 124
    assert len(server.asked) <= 6  # a list and a watch each; pauses of half a second, then of one


def test_logs_of_a_later_attempt_follow_a_pod_on_a_lost_node(served: Any, plugin_of: PluginOf) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "BuildSucceeded"}
    build = {"id": "b", "attempt": 2, "outcome": "Succeeded"}
    status = {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "conditions": [ready],
        "build": build,
        "image": {"reference": "r"},
    }
    body = {"metadata": {"name": "app", "uid": "u", "generation": 1}, "status": status}

    def pod(attempt: int, state: str) -> dict[str, Any]:
        labels = {"imagewright.dev/build": "b", "imagewright.dev/attempt": str(attempt)}
        metadata = {"name": f"app-{attempt}", "namespace": "ns", "uid": f"p{attempt}", "labels": labels}
        injected = {"name": "a-sidecar", "state": {"running": {}}}
        return {
            "metadata": metadata,
            "status": {"containerStatuses": [injected, {"name": "executor", "state": {state: {}}}]},
        }

    pods = {"app-1": pod(1, "running"), "app-2": pod(2, "terminated")}

    def script(asked: Asked) -> Answer:
        *_, before, last = asked.path.partition("?")[0].split("/")
        if last == "log":
            return Answer(body=b"2026-11-27T08:00:01Z two\n") if before == "app-2" else Answer(status=502)
        found = pods.get(last)
        if found is None:
            listed = [*pods.values()] if last == "pods" else [body]
            return Answer(body=json.dumps({"metadata": {"resourceVersion": "1"}, "items": listed}).encode())
        return Answer(body=json.dumps(found).encode())

    done = plugin_of(served(script)).run("logs", "-f", "app")
    assert (done.returncode, done.stdout) == (0, "two\n")
    assert done.stderr.splitlines()[-2:] == ["--- Pod app-2, attempt 2", "built: r"]

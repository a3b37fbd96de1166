"""A real API server with its etcd, the operator as a process of its own, and a proxy between them that makes faults.

There is no kubelet: tests write a Pod's status as one would. The operator logs in as its ServiceAccount, with no more
rights than deploy/ gives it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0  # a hang, not a measure of speed
SERVICE_ACCOUNT = "system:serviceaccount:imagewright-system:imagewright-operator"

Json = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(check: Callable[[], Any], what: str = "") -> Any:
    """The first true value that ``check`` gives."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"it never came to {what or check}; last was {value!r}")


def binaries() -> Path | None:
    """Where etcd, kube-apiserver and kubectl are."""
    given = os.environ.get("IMAGEWRIGHT_CLUSTER_BIN")
    if given:
        return Path(given)
    found = shutil.which("kube-apiserver")
    return Path(found).parent if found and shutil.which("etcd") and shutil.which("kubectl") else None


class ApiServer:
    """etcd and kube-apiserver on loopback. ``kubectl`` and ``json`` act as an administrator."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._etcd_port, self.port = free_port(), free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(["openssl", "genrsa", "-out", "sa.key", "2048"], cwd=folder, check=True, capture_output=True)
        command = ["openssl", "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        groups = "system:serviceaccounts,system:serviceaccounts:imagewright-system,system:authenticated"
        (folder / "tokens.csv").write_text(
            f'admin-token,admin,1,"system:masters"\noperator-token,{SERVICE_ACCOUNT},2,"{groups}"\n'
        )
        self.start()
        self.admin = self.kubeconfig("admin-token")
        eventually(lambda: self.try_kubectl("get", "--raw", "/readyz").stdout == "ok", "a ready API server")

    def start(self) -> None:
        loopback = "127.0.0.1"
        etcd = [
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls=http://{loopback}:{self._etcd_port}",
            f"--advertise-client-urls=http://{loopback}:{self._etcd_port}",
            f"--listen-peer-urls=http://{loopback}:{free_port()}",
            "--unsafe-no-fsync",
        ]
        api = [
            f"--etcd-servers=http://{loopback}:{self._etcd_port}",
            f"--bind-address={loopback}",
            f"--secure-port={self.port}",
            f"--cert-dir={self._folder}/certificates",
            f"--service-account-key-file={self._folder}/sa.pub",
            f"--service-account-signing-key-file={self._folder}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self._folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
        ]
        self._processes = [self._run("etcd", etcd), self._run("kube-apiserver", api)]

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def signal_api(self, number: signal.Signals) -> None:
        self._processes[1].send_signal(number)

    def kubeconfig(self, token: str, server: str = "") -> Path:
        """One for the holder of ``token``, straight to the API server or through ``server``."""
        cluster: Json = {"server": server or f"https://127.0.0.1:{self.port}"}
        if not server:
            cluster["certificate-authority"] = f"{self._folder}/certificates/apiserver.crt"
        file = self._folder / f"{uuid.uuid4().hex}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        file.write_text(json.dumps(content))
        return file

    @property
    def certificate(self) -> str:
        return f"{self._folder}/certificates/apiserver.crt"

    def try_kubectl(self, *arguments: str, given: Json | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self._programs / "kubectl"), f"--kubeconfig={self.admin}", *arguments]
        text = json.dumps(given) if given is not None else None
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    def kubectl(self, *arguments: str, given: Json | None = None) -> str:
        done = self.try_kubectl(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def watch(self, *arguments: str) -> subprocess.Popen[str]:
        command = [str(self._programs / "kubectl"), f"--kubeconfig={self.admin}", "get", "--watch", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def _run(self, program: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen([str(self._programs / program), *arguments], stdout=log, stderr=log)


class Namespace:
    """A namespace of one test's own, with what a controller manager and a kubelet would do in it."""

    def __init__(self, api: ApiServer, name: str) -> None:
        self._api, self.name = api, name
        self.api = api

    def kubectl(self, *arguments: str, given: Json | None = None) -> str:
        return self._api.kubectl("--namespace", self.name, *arguments, given=given)

    def get(self, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found

    def apply(self, name: str = "app", **spec: Any) -> None:
        self.kubectl("apply", "--filename=-", given=self.imagebuild(name, **spec))

    def imagebuild(self, name: str = "app", **spec: Any) -> Json:
        source = {"inline": {"dockerfile": "FROM scratch\n"}}
        return {
            "apiVersion": "imagewright.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"source": source, "output": {"tags": ["registry.example.com/app:1"]}, **spec},
        }

    def status(self, name: str = "app") -> Json:
        status: Json = self.get("imagebuild", name).get("status") or {}
        return status

    def pods(self, name: str = "app") -> list[Json]:
        items: list[Json] = self.get("pods", f"--selector=imagewright.dev/imagebuild={name}")["items"]
        return items

    def pod(self, name: str = "app") -> Json:
        """The Pod, once there is one and the status names it."""
        eventually(lambda: self.status(name).get("build", {}).get("podNames"), "a Pod in the status")
        return self.get("pod", self.status(name)["build"]["podNames"][0])

    def phase(self, phase: str, name: str = "app") -> Json:
        """The status, once it has this phase."""
        eventually(lambda: self.status(name).get("phase") == phase, f"phase {phase}: {self.status(name)}")
        return self.status(name)

    def ready(self, name: str = "app") -> str:
        conditions = self.status(name).get("conditions", [])
        return next((f"{one['status']} {one['reason']}" for one in conditions if one["type"] == "Ready"), "")

    def becomes(self, ready: str, name: str = "app") -> Json:
        """The status, once its Ready condition is ``ready``."""
        eventually(lambda: self.ready(name) == ready, f"Ready={ready}: {self.status(name).get('conditions')}")
        return self.status(name)

    def events(self, name: str = "app") -> list[str]:
        items = self.get("events", f"--field-selector=involvedObject.name={name}")["items"]
        return [item["reason"] for item in items]

    def starts(self, pod: Json) -> None:
        state = {"running": {"startedAt": now()}}
        self.kubelet(pod, {"phase": "Running", "startTime": now(), "containerStatuses": [container(state)]})

    def ends(self, pod: Json, report: Json, exit_code: int = 0) -> None:
        message = json.dumps({"version": 1, **report})
        terminated = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": now(),
            "finishedAt": now(),
            "message": message,
        }
        phase = "Failed" if exit_code else "Succeeded"
        self.kubelet(pod, {"phase": phase, "containerStatuses": [container({"terminated": terminated})]})

    def pushes(self, pod: Json, digit: str = "a") -> str:
        """The Pod reports a pushed image; its digest."""
        digest = "sha256:" + digit * 64
        self.ends(pod, {"digest": digest, "size": 10, "references": [f"registry.example.com/app:1@{digest}"]})
        return digest

    def kubelet(self, pod: Json, status: Json) -> None:
        """Write a Pod's status."""
        patch = json.dumps({"status": status})
        self.kubectl(
            "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def pod_event(self, pod: Json, reason: str, message: str) -> None:
        """What a kubelet has to say of a Pod."""
        metadata = pod["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": uuid.uuid4().hex, "namespace": self.name},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "namespace": self.name,
            },
            "reason": reason,
            "message": message,
            "type": "Warning",
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self.kubectl("create", "--filename=-", given=event)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def container(state: Json) -> Json:
    return {"name": "executor", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}


class Operator:
    """The operator's process."""

    def __init__(self, kubeconfig: Path, log: Path, **settings: str) -> None:
        self._kubeconfig, self._log, self._settings = kubeconfig, log, settings
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = free_port()
        settings = {"RESYNC_SECONDS": "2", **self._settings, "HTTP_PORT": str(self.port)}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("IMAGEWRIGHT_", "KUBE"))},
            **{f"IMAGEWRIGHT_{name}": value for name, value in settings.items()},
            "KUBECONFIG": str(self._kubeconfig),
        }
        with self._log.open("ab") as log:
            command = [sys.executable, "-W", "ignore:Unverified", "-m", "imagewright_operator"]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._log.parent)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    programs = binaries()
    if programs is None:
        message = "needs etcd, kube-apiserver and kubectl: scripts/test builds them (or set IMAGEWRIGHT_CLUSTER_BIN)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = ApiServer(tmp_path_factory.mktemp("api"), programs)
    try:
        server.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
        server.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
        yield server
    finally:
        server.stop()


@pytest.fixture
def namespace(api: ApiServer) -> Iterator[Namespace]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.kubectl("create", "namespace", name)
    api.kubectl("create", "serviceaccount", "default", f"--namespace={name}")
    yield Namespace(api, name)
    # No controller manager cleans up: what is left would keep the next test's operator busy.
    api.kubectl("delete", "imagebuilds", "--all", f"--namespace={name}", "--wait=false")
    api.kubectl("delete", "pods", "--all", f"--namespace={name}", "--wait=false", "--force")


@pytest.fixture
def operators(api: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Makes operators, started, that end with the test."""
    made: list[Operator] = []

    def start(kubeconfig: Path | None = None, **settings: str) -> Operator:
        operator = Operator(
            kubeconfig or api.kubeconfig("operator-token"), tmp_path / f"operator-{len(made)}.log", **settings
        )
        made.append(operator)
        operator.start()
        return operator

    yield start
    for operator in made:
        if operator.is_running():
            operator.kill()
        sys.stdout.write(operator.log())


@pytest.fixture
def operator(operators: Callable[..., Operator]) -> Operator:
    return operators()

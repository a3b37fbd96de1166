"""A real API server with its etcd, on loopback, with no kubelet and no controllers.

I/O: two processes and files in a folder that is given.
"""

from __future__ import annotations

import json
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagebuilds.waiting import PATIENCE_S, eventually
from servers.running import free_port

SERVICE_ACCOUNT = "system:serviceaccount:imagewright-system:imagewright-operator"
# Who has asked for what, of all service accounts: no bodies. A watch is told of when it begins.
_AUDITED: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}

Json = dict[str, Any]


class ApiServer:
    """etcd and kube-apiserver on loopback. ``kubectl`` and ``json`` act as an administrator.

    With ``audited`` it keeps a record of what service accounts ask for, which ``requests_of`` reads.
    """

    def __init__(self, folder: Path, programs: Path, *, audited: bool = False) -> None:
        self._folder, self._programs, self._audited = folder, programs, audited
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
        if self._audited:
            policy = self._folder / "audit-policy.json"
            policy.write_text(json.dumps(_AUDITED))
            api += [f"--audit-policy-file={policy}", f"--audit-log-path={self._audit_log}"]
        self._commands = (("etcd", etcd), ("kube-apiserver", api))
        self._processes = [self._run(*command) for command in self._commands]

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def signal_api(self, number: signal.Signals) -> None:
        self._processes[1].send_signal(number)

    def kill(self, program: str) -> Callable[[], None]:
        """SIGKILL ``etcd`` or ``kube-apiserver``; what starts it again, and waits until it is ready."""
        index = [name for name, _ in self._commands].index(program)
        self._processes[index].kill()
        self._processes[index].wait()

        def again() -> None:
            self._processes[index] = self._run(*self._commands[index])
            eventually(lambda: self.try_kubectl("get", "--raw", "/readyz").stdout == "ok", "a ready API server")

        return again

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

    def requests_of(self, user: str) -> list[Json]:
        """The audit events of all requests of this user."""
        lines = self._audit_log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["user"]["username"] == user]

    @property
    def _audit_log(self) -> Path:
        return self._folder / "audit.log"

    @property
    def certificate(self) -> str:
        return f"{self._folder}/certificates/apiserver.crt"

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self._programs / "kubectl"), f"--kubeconfig={self.admin}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    def kubectl(self, *arguments: str) -> str:
        done = self.try_kubectl(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def watch(self, *arguments: str) -> subprocess.Popen[str]:
        command = [str(self._programs / "kubectl"), f"--kubeconfig={self.admin}", "get", "--watch", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def _run(self, program: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen([str(self._programs / program), *arguments], stdout=log, stderr=log)

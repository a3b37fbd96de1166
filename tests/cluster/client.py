"""What a test holds of a running cluster: addresses, credentials, kubectl, and a handle on each component.

Nothing here starts or ends the cluster as a whole.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.api import Api
from cluster.binaries import binaries
from cluster.components import PRIVATE_PASSWORD, PRIVATE_USER
from cluster.places import NODE_NAME, PRIVATE_REGISTRY_PORT, REGISTRY_PORT, ClusterError, Places
from cluster.processes import Processes, ProcessStatus, eventually
from cluster.push import answers

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """A registry of the cluster, reachable under the same address from the machine and from Pods."""

    host: str  # host:port
    authority: Path | None = None  # PEM; None where it speaks plain HTTP
    username: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://{self.host}"


class Component:
    """One process of the cluster, for tests of faults. Every method returns when the process is in that state."""

    def __init__(self, name: str, processes: Processes, ready: Callable[[], bool]) -> None:
        self.name = name
        self._processes, self._ready = processes, ready

    @property
    def status(self) -> ProcessStatus:
        found = self._processes.status()
        if self.name not in found:
            raise ClusterError(f"no component {self.name}: there are {', '.join(found)}")
        return found[self.name]

    def kill(self) -> None:
        """As the kernel would when memory is out: SIGKILL, and it stays down."""
        self._processes.signal(self.name, signal.SIGKILL)
        eventually(lambda: not self.status.running, f"{self.name} to end")

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._processes.signal(self.name, signal.SIGTERM)
        eventually(lambda: not self.status.running, f"{self.name} to end")

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._processes.signal(self.name, signal.SIGSTOP)
        eventually(lambda: self.status.frozen, f"{self.name} to freeze")

    def thaw(self) -> None:
        self._processes.signal(self.name, signal.SIGCONT)
        eventually(lambda: not self.status.frozen, f"{self.name} to thaw")
        self.wait_ready()

    def start(self) -> None:
        """As it was started before; nothing when it runs."""
        self._processes.start(self.name)
        self.wait_ready()

    def restart(self) -> None:
        if self.status.running:
            self.kill()
        self.start()

    def wait_ready(self) -> None:
        eventually(self._ready, f"{self.name} to be ready")


class Cluster:
    """A cluster that is up. ``kubectl`` and ``json`` act as its administrator."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.programs = binaries()
        self.processes = Processes(places)
        self.kubeconfig = places.kubeconfig
        self.node = NODE_NAME
        self.node_address = places.node_address
        self.host_address = places.host_address  # the machine, as Pods see it: servers of tests listen there
        self.registry = RegistryAddress(f"{places.node_address}:{REGISTRY_PORT}")
        self.private_registry = RegistryAddress(
            f"{places.node_address}:{PRIVATE_REGISTRY_PORT}", places.pki / "ca.crt", PRIVATE_USER, PRIVATE_PASSWORD
        )
        self._api = Api(places.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Its output.

        Raises:
            ClusterError: it failed; the message is what it said.
        """
        done = self.try_kubectl(*arguments, stdin=stdin)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, check=False, input=stdin, capture_output=True, text=True)

    def json(self, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl(*arguments, "-o", "json"))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        content = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(content))

    def wait_for(self, path: str) -> None:
        """Until the API server has an object at ``path``."""
        eventually(lambda: self._api.exists(path), f"{path} to exist")

    def phase(self, pod: str, namespace: str = "default") -> str:
        """Empty when there is no such Pod."""
        path = "jsonpath={.status.phase}"
        return self.kubectl("get", "pod", pod, "-n", namespace, "--ignore-not-found", "-o", path)

    def run_pod(self, name: str, image: str, command: Sequence[str] = (), **spec: Any) -> str:
        """Run a Pod of one container to its end and give its output. ``spec`` adds to the Pod's spec.

        Raises:
            ClusterError: it failed, or never ended; the message holds its output and events.
        """
        namespace = spec.pop("namespace", "default")
        container: Json = {"name": "main", "image": image, "imagePullPolicy": "Always"}
        if command:
            container["command"] = list(command)
        container.update(spec.pop("container", {}))
        pod_spec = {"restartPolicy": "Never", "containers": [container], **spec}
        metadata = {"name": name, "namespace": namespace}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec})

        def explain() -> str:
            return self.try_kubectl("describe", "pod", name, "-n", namespace).stdout[-3000:]

        ended = ("Succeeded", "Failed")
        eventually(lambda: self.phase(name, namespace) in ended, f"Pod {name} to end", problem=explain)
        output = self.kubectl("logs", name, "-n", namespace)
        if self.phase(name, namespace) == "Failed":
            raise ClusterError(f"Pod {name} failed:\n{output}\n{explain()}")
        return output

    def component(self, name: str) -> Component:
        """By the name that ``python -m cluster status`` shows."""
        ready: dict[str, Callable[[], bool]] = {
            "etcd": lambda: self._api.ready() or not self.component("kube-apiserver").status.running,
            "containerd": self._runtime_ready,
            "kube-apiserver": self._api.ready,
            "kubelet": lambda: self._api.node_ready(NODE_NAME),
            "registry": lambda: answers(self.registry.host),
        }
        return Component(name, self.processes, ready.get(name, lambda: True))

    def _runtime_ready(self) -> bool:
        try:
            return "Server:" in self.container_tool("version")
        except ClusterError:
            return False

    def container_tool(self, *arguments: str) -> str:
        """Output of ``ctr`` on the node's containerd, in Kubernetes' namespace: what the runtime makes of an image."""
        target = ["nsenter", "--target", str(self.processes.supervisor_pid()), "--mount", "--net", "--pid", "--"]
        command = [*target, str(self.programs / "ctr"), "--namespace=k8s.io", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise ClusterError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

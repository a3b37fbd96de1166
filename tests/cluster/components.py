"""What each part of the cluster is started with: command line, configuration files, environment. Writes those files.

A component knows how it is configured, not when it is ready.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
from cluster.certificates import Authority, Identity, make_signing_key, make_tokens, write
from cluster.network import MTU, name_servers
from cluster.places import API_PORT, ETCD_PORT, NODE_NAME, PRIVATE_REGISTRY_PORT, REGISTRY_PORT, Places

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
KUBELET_PORT = 10250
PRIVATE_USER, PRIVATE_PASSWORD = "imagewright", "correct-horse-battery"
PAUSE_IMAGE = "imagewright.test/pause:1"
POD_PIDS = (
    512  # processes and threads of a Pod: nothing else bounds a hostile one's, and the machine has them only once
)
USERS = {
    "admin": "system:masters",
    # With one credential of every right for all its controllers, the controller manager makes the default
    # ServiceAccount at once instead of after five seconds.
    "system:kube-controller-manager": "system:masters",
    "system:kube-scheduler": "system:authenticated",
    "system:kube-proxy": "system:authenticated",
    f"system:node:{NODE_NAME}": "system:nodes",
}


@dataclass(frozen=True, slots=True)
class Component:
    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Configuration:
    """Everything that is written before a component starts. Making it again changes nothing that is there."""

    def __init__(self, places: Places, programs: Path) -> None:
        self._places, self._programs = places, programs

    def write_all(self) -> None:
        places = self._places
        places.config.mkdir(parents=True, exist_ok=True)
        authority = Authority(places.pki)
        node = (places.node_address, "127.0.0.1")
        service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        for identity in (
            Identity("apiserver", "kube-apiserver", "", (*service, "localhost", places.api_service_address, *node)),
            Identity("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
            Identity("kubelet", NODE_NAME, "", (NODE_NAME, *node)),
            Identity("registry", "registry", "", ("localhost", *node)),
        ):
            authority.issue(identity)
        make_signing_key(places.pki)
        tokens = make_tokens(places.pki / "tokens.csv", USERS)
        for user, token in tokens.items():
            name = "node" if user.startswith("system:node:") else user.removeprefix("system:")
            path = places.kubeconfig if user == "admin" else places.config / f"{name}.kubeconfig"
            write(path, self._kubeconfig(token).encode(), 0o600)
        write(places.config / "resolv.conf", "".join(f"nameserver {a}\n" for a in name_servers()).encode())
        self._write_registries()
        self._write_containerd()
        self._write_json("kubelet.json", self._kubelet())
        self._write_json("kube-proxy.json", self._kube_proxy())

    def components(self) -> dict[str, Component]:
        """In the order in which they are started."""
        places, pki, config = self._places, self._places.pki, self._places.config
        etcd = f"http://127.0.0.1:{ETCD_PORT}"
        quiet = {"OTEL_TRACES_EXPORTER": "none"}
        found = [
            self._component(
                "etcd",
                f"--data-dir={places.state}/etcd",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{ETCD_PORT + 1}",
                "--unsafe-no-fsync",
            ),
            Component("registry", (f"{self._programs}/registry", "serve", f"{config}/registry.json"), quiet),
            Component("private-registry", (f"{self._programs}/registry", "serve", f"{config}/private.json"), quiet),
            Component(
                "containerd",
                (f"{self._programs}/containerd", "--config", f"{config}/containerd.toml"),
                {"PATH": f"{self._programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            ),
            self._component(
                "kube-apiserver",
                f"--etcd-servers={etcd}",
                "--bind-address=0.0.0.0",
                f"--secure-port={API_PORT}",
                f"--advertise-address={places.node_address}",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                "--cert-dir=/run/kube-apiserver",
                f"--kubelet-client-certificate={pki}/kubelet-client.crt",
                f"--kubelet-client-key={pki}/kubelet-client.key",
                f"--kubelet-certificate-authority={pki}/ca.crt",
                "--kubelet-preferred-address-types=InternalIP,Hostname",
                f"--service-account-key-file={pki}/sa.pub",
                f"--service-account-signing-key-file={pki}/sa.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={pki}/tokens.csv",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                f"--service-cluster-ip-range={places.service_cidr}",
                "--allow-privileged=true",
            ),
            self._component(
                "kube-controller-manager",
                f"--kubeconfig={config}/kube-controller-manager.kubeconfig",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--root-ca-file={pki}/ca.crt",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--cert-dir=/run/kube-controller-manager",
            ),
            self._component(
                "kube-scheduler",
                f"--kubeconfig={config}/kube-scheduler.kubeconfig",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--cert-dir=/run/kube-scheduler",
            ),
            self._component(
                "kubelet",
                f"--config={config}/kubelet.json",
                f"--kubeconfig={config}/node.kubeconfig",
                "--root-dir=/var/lib/kubelet",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={places.node_address}",
                "-v=2",
            ),
            self._component("kube-proxy", f"--config={config}/kube-proxy.json"),
        ]
        return {component.name: component for component in found}

    def _component(self, name: str, *arguments: str) -> Component:
        return Component(name, (f"{self._programs}/{name}", *arguments))

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Every one of these programs reads YAML, and JSON is YAML."""
        write(self._places.config / name, json.dumps(content, indent=1).encode())

    def _kubeconfig(self, token: str) -> str:
        # The authority's certificate is inside: the file can be handed to a program that doesn't see the state folder.
        server = f"https://{self._places.node_address}:{API_PORT}"
        authority = base64_of(self._places.pki / "ca.crt")
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        return json.dumps(content, indent=1)

    def _write_registries(self) -> None:
        places = self._places
        for name, port in (("registry", REGISTRY_PORT), ("private", PRIVATE_REGISTRY_PORT)):
            (places.state / name).mkdir(exist_ok=True)
            http: dict[str, Any] = {"addr": f"0.0.0.0:{port}"}
            storage = {"filesystem": {"rootdirectory": f"{places.state}/{name}"}, "delete": {"enabled": True}}
            content: dict[str, Any] = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": http}
            if name == "private":
                http["tls"] = {"certificate": f"{places.pki}/registry.crt", "key": f"{places.pki}/registry.key"}
                content["auth"] = {"htpasswd": {"realm": "test", "path": f"{places.config}/htpasswd"}}
            self._write_json(f"{name}.json", content)
        if not (places.config / "htpasswd").exists():
            hashed = bcrypt.hashpw(PRIVATE_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
            write(places.config / "htpasswd", f"{PRIVATE_USER}:{hashed}\n".encode())

    def _write_containerd(self) -> None:
        places = self._places
        registry, private = f"{places.node_address}:{REGISTRY_PORT}", f"{places.node_address}:{PRIVATE_REGISTRY_PORT}"
        hosts = {
            # Docker Hub's names and those of the cluster's own images are served by the test registry, and by nothing
            # else.
            "docker.io": f'server = "http://{registry}"\n',
            "imagewright.test": f'server = "http://{registry}"\n',
            registry: f'server = "http://{registry}"\n',
            private: f'server = "https://{private}"\nca = "{places.pki}/ca.crt"\n',
        }
        for host, content in hosts.items():
            folder = places.config / "certs.d" / host
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / "hosts.toml", content.encode())
        routes = [{"dst": "0.0.0.0/0"}]
        ipam = {"type": "host-local", "ranges": [[{"subnet": places.pod_cidr}]], "routes": routes}
        network = {"type": "ptp", "ipMasq": False, "mtu": MTU, "ipam": ipam}
        (places.config / "cni").mkdir(exist_ok=True)
        self._write_json("cni/10-pods.conflist", {"cniVersion": "1.0.0", "name": "pods", "plugins": [network]})
        write(
            places.config / "containerd.toml",
            CONTAINERD.format(
                config=places.config, programs=self._programs, socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE
            ).encode(),
        )

    def _kubelet(self) -> dict[str, Any]:
        places = self._places
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "port": KUBELET_PORT,
            "tlsCertFile": f"{places.pki}/kubelet.crt",
            "tlsPrivateKeyFile": f"{places.pki}/kubelet.key",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{places.pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "volumePluginDir": "/var/lib/kubelet/plugins",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{places.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": False,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "podPidsLimit": POD_PIDS,
            "nodeStatusUpdateFrequency": "2s",
            "syncFrequency": "10s",
            "serializeImagePulls": False,
            # There is no DNS of the cluster's own: Pods ask the machine's name servers.
            "clusterDNS": name_servers(),
            "resolvConf": f"{places.config}/resolv.conf",
        }

    def _kube_proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": f"{self._places.config}/kube-proxy.kubeconfig"},
            "clusterCIDR": self._places.pod_cidr,
            "hostnameOverride": NODE_NAME,
            "metricsBindAddress": "127.0.0.1:10249",
            "healthzBindAddress": "127.0.0.1:10256",
            # With the default of a second, a new Service refuses connections for a while.
            "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE can't lower a score, and Pods would not start.
CONTAINERD = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{socket}"
[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "{config}/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{programs}"]
    conf_dir = "{config}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{programs}/runc"
        SystemdCgroup = false
"""

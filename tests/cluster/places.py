"""Where the cluster keeps what it makes, and which addresses it uses. No I/O but reading the environment.

Everything lies outside the checkout: a cache of what can be made again (programs, images), keyed by content, and one
folder of state for each running cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent


INTERFACE = "imagewright"  # a number follows; 15 characters at most


class ClusterError(Exception):
    """Something a person has to act on; shown without a traceback."""


def cache_root() -> Path:
    """The folder of everything that outlives a run: ``$IMAGEWRIGHT_CACHE``, else below the user's cache folder."""
    if given := os.environ.get("IMAGEWRIGHT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagewright"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one cluster, by its name. Several can live side by side when their ``number`` differs."""

    name: str = "imagewright"
    number: int = 0
    cache: Path = field(default_factory=cache_root)

    @property
    def state(self) -> Path:
        return self.cache / "run" / self.name

    @property
    def socket(self) -> Path:
        return self.state / "supervisor.sock"

    @property
    def supervisor_pid(self) -> Path:
        return self.state / "supervisor.pid"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def config(self) -> Path:
        return self.state / "etc"

    @property
    def pki(self) -> Path:
        return self.config / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def lock(self) -> Path:
        return self.cache / "run" / f"{self.name}.lock"

    @property
    def forwarding(self) -> Path:
        """What the machine's forwarding was before the first of all clusters came up."""
        return self.cache / "run" / "ip_forward"

    # The network between the machine and the node, a veth pair. 198.18.0.0/15 is set aside for tests (RFC 2544), so it
    # meets no address that a machine really uses.
    @property
    def host_address(self) -> str:
        return f"198.18.{self.number}.1"

    @property
    def node_address(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def pod_cidr(self) -> str:
        return f"198.19.{self.number}.0/24"

    @property
    def service_cidr(self) -> str:
        return "10.96.0.0/16"

    @property
    def api_service_address(self) -> str:
        return "10.96.0.1"

    @property
    def host_interface(self) -> str:
        return f"{INTERFACE}{self.number}"

    @property
    def cgroup(self) -> str:
        return f"imagewright-{self.name}"


NODE_NAME = "node1"
API_PORT = 6443
ETCD_PORT = 2379
REGISTRY_PORT = 5000
PRIVATE_REGISTRY_PORT = 5443


def places_from_environment(default: str = "imagewright") -> Places:
    """``$IMAGEWRIGHT_CLUSTER`` is the cluster's name, with ``:N`` after it when more than one runs at a time."""
    name, _, number = os.environ.get("IMAGEWRIGHT_CLUSTER", default).partition(":")
    if not name.replace("-", "").isalnum() or (number and not number.isdecimal()) or int(number or 0) > 255:
        raise ClusterError("IMAGEWRIGHT_CLUSTER is NAME or NAME:N with N up to 255")
    return Places(name=name, number=int(number or 0))

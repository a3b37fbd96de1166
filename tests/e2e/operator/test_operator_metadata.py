"""RUN and the address at which clouds give away the node's identity: the shipped NetworkPolicy closes it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cluster.client import Cluster
from cluster.policies import enforce
from imagebuilds.namespace import Json, Namespace
from imagebuilds.waiting import eventually
from quickstart.images import ROOT

pytestmark = [pytest.mark.root, pytest.mark.cluster]

METADATA = "169.254.169.254"
SERVER = """\
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"role-of-the-node")
http.server.HTTPServer(("{}", 80), Answer).serve_forever()
"""
# The gate opens when the rules are in force, as a network plugin's are before a Pod's first packet.
DOCKERFILE = """\
FROM busybox
RUN until wget -q -O- http://{0}/gate; do sleep 0.2; done
RUN echo "metadata: $(timeout 10 wget -q -O- http://169.254.169.254/latest/meta-data/iam/security-credentials/ || echo closed)"
RUN echo "download: $(timeout 10 wget -q -O- http://{0}/file)"
"""


@dataclass(frozen=True, slots=True)
class Downloads:
    """A server on the machine; ``gate`` is answered once ``opened``."""

    host: str
    opened: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def metadata_server(cluster: Cluster) -> Iterator[None]:
    """A server at the address of clouds' metadata, on the node and nowhere else."""
    inside = ("nsenter", f"--net=/proc/{cluster.processes.supervisor_pid()}/ns/net")
    subprocess.run([*inside, "ip", "address", "replace", f"{METADATA}/32", "dev", "lo"], check=True)
    with subprocess.Popen([*inside, sys.executable, "-c", SERVER.format(METADATA)]) as server:
        yield
        server.kill()
    subprocess.run([*inside, "ip", "address", "delete", f"{METADATA}/32", "dev", "lo"], check=True)


@pytest.fixture
def downloads(cluster: Cluster) -> Iterator[Downloads]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/gate" and not found.opened.is_set() else 200)
            self.end_headers()
            self.wfile.write(b"a file")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((cluster.host_address, 0), Answer) as server:
        found = Downloads(f"{cluster.host_address}:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.mark.usefixtures("metadata_server", "operator")
def test_run_asks_for_the_nodes_identity(cluster: Cluster, builds: Namespace, downloads: Downloads) -> None:
    assert _log(cluster, builds, downloads, "before", policies=0) == ["metadata: role-of-the-node", "download: a file"]
    builds.kubectl("apply", "--filename", str(ROOT / "examples/executor-networkpolicy.yaml"))
    assert _log(cluster, builds, downloads, "after", policies=1) == ["metadata: closed", "download: a file"]


def _log(cluster: Cluster, builds: Namespace, downloads: Downloads, name: str, policies: int) -> list[str]:
    """What the build's RUNs print, with the policies of its namespace enforced."""
    downloads.opened.clear()
    builds.apply(name, source={"inline": {"dockerfile": DOCKERFILE.format(downloads.host)}})

    def running() -> Json | None:
        pod = builds.pod(name)
        return pod if pod["status"].get("podIP") and pod["status"]["phase"] == "Running" else None

    assert enforce(cluster, eventually(running, "the Pod to run")) == policies
    downloads.opened.set()
    tail = builds.phase("Succeeded", name)["log"]["tail"].splitlines()
    return [line.partition("| ")[2] for line in tail if line.strip().startswith(("| metadata", "| download"))]

"""Times of workloads in Pods of the test cluster: from ``kubectl apply`` to the digest in the status.

Starts the test cluster where it isn't up, an operator, and a git server with the contexts; pushes the large base into
the cluster's registry once. Figures belong in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.client import Cluster
from cluster.lifecycle import down, up
from cluster.places import ClusterError, places_from_environment
from cluster.processes import Processes
from cluster.progress import say
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from quickstart.images import ROOT
from servers.git import GitServer, GitServerOptions
from servers.repository import Repository

from bench.bases import prepare
from bench.builders.model import BuildFailed
from bench.workloads import FULL, SMALL, TOOLBOX, Workload, workloads

_USUAL = ("w2", "w9", "w10")
_PATIENCE_S = 1800.0


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one build. ``start``: from ``kubectl apply`` to the engine's first line; ``build``: to its last one;
    ``rest``: to the digest in the status.
    """

    start: float
    build: float
    rest: float

    @property
    def whole(self) -> float:
        return self.start + self.build + self.rest


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pods", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workload", nargs="*", default=list(_USUAL), help=f"those without it: {', '.join(_USUAL)}")
    parser.add_argument("--runs", type=int, default=3, help="of each (3; the median counts)")
    parser.add_argument("--small", action="store_true", help="tiny workloads, to try it; figures say nothing")
    given = parser.parse_args(arguments)
    scale = SMALL if given.small else FULL
    known = {one.name: one for one in workloads(scale)}
    if unknown := [name for name in given.workload if name not in known]:
        parser.error(f'no workload "{unknown[0]}": scripts/bench --list prints them')
    with _site() as site:
        host = site.cluster.registry.host
        prepare(host, _made(site.cluster.places.state / "bench"), scale, TOOLBOX)  # goes with the registry
        site.build(
            replace(known["w10"], name="first"), "FROM scratch\nCOPY src /\n"
        )  # the node has the executor's image
        print("| | apply to digest | Pod's start | build | status |\n|---|--:|--:|--:|--:|", flush=True)
        for name in given.workload:
            text = known[name].dockerfile.format(host=host, scale=scale.name)
            timed = [site.build(known[name], text) for _ in range(given.runs)]
            cells = [
                statistics.median(of) for of in zip(*((t.whole, t.start, t.build, t.rest) for t in timed), strict=True)
            ]
            print(f"| {name} | " + " | ".join(f"{seconds:.1f} s" for seconds in cells) + " |", flush=True)
    return 0


@dataclass(frozen=True, slots=True)
class Site:
    """The cluster, with an operator for one namespace, and a git server that its Pods reach."""

    cluster: Cluster
    builds: Namespace
    git: GitServer

    def build(self, workload: Workload, dockerfile: str) -> Timed:
        """Build a workload, after another build has filled its cache where it has one.

        Raises:
            BuildFailed
        """
        unique = f"{workload.name}-{uuid.uuid4().hex[:6]}"
        repository = self.git.repository(f"{unique}.git")
        cache = (
            {"cache": {"repository": f"{self.cluster.registry.host}/bench/cache-{unique}"}} if workload.cache else {}
        )
        with tempfile.TemporaryDirectory() as folder:
            workload.fill(Path(folder))
            Path(folder, "Dockerfile").write_text(dockerfile)
            if workload.cache:
                self._built(f"{unique}-before", repository, Path(folder), cache)
            if workload.change is not None:
                workload.change(Path(folder))
            return self._built(unique, repository, Path(folder), cache)

    def _built(self, name: str, repository: Repository, context: Path, spec: Mapping[str, Any]) -> Timed:
        repository.commit_folder(context)
        source = {"git": {"url": self.git.url(repository.path.name), "ref": {"branch": "main"}}}
        begin = time.time()
        self.builds.apply(name, source=source, **spec)
        waited = self.builds.try_kubectl(
            "wait", f"imagebuild/{name}", "--for=jsonpath={.status.image.digest}", f"--timeout={_PATIENCE_S:.0f}s"
        )
        end = time.time()
        if waited.returncode != 0:
            raise BuildFailed(f"{name}: {json.dumps(self.builds.status(name).get('conditions'))}")
        pod = self.builds.pod(name)["metadata"]["name"]
        lines = self.builds.kubectl("logs", pod, "--timestamps").splitlines()
        first, last = (_seconds(line.partition(" ")[0]) for line in (lines[0], lines[-1]))
        return Timed(first - begin, last - first, end - last)


@contextmanager
def _site() -> Iterator[Site]:
    places = places_from_environment()
    was_up = Processes(places).supervisor_pid() != 0
    up(places)
    cluster = Cluster(places)
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        if not was_up:
            ending.callback(down, places)
        cluster.kubectl("apply", "-k", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
        settings = installation.settings(cluster)
        cluster.kubectl("create", "namespace", name)
        ending.callback(cluster.try_kubectl, "delete", "namespace", name, "--wait=false")
        cluster.wait_for(f"/api/v1/namespaces/{name}/serviceaccounts/default")
        root, state = Path(folder, "repositories"), Path(folder, "state")
        for path in (root, state):
            path.mkdir()
        address = cluster.host_address
        options = GitServerOptions(root, state, hosts=(address,), bind=address, tls=False)
        key = Path(folder, "signing.key")
        key.write_bytes(os.urandom(32))
        settings |= {"NAMESPACES": name, "SIGNING_KEY_FILE": str(key)}
        operator = Operator(cluster.kubeconfig, Path(folder, "operator.log"), **settings)
        operator.start()
        ending.callback(operator.stop)
        git = ending.enter_context(GitServer(options))
        yield Site(cluster, Namespace(cluster.try_kubectl, name, registry=cluster.registry.host), git)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _seconds(timestamp: str) -> float:
    """Of a container's log, which has nanoseconds (CRI)."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BuildFailed, ClusterError) as problem:
        say(f"bench: {problem}")
        sys.exit(1)

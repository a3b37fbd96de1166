"""From nothing to a pushed image in a cluster: what ``scripts/quickstart`` runs.

Starts a cluster of its own, or uses the one it is given; builds the project's images with the project's engine, installs
the operator, applies an example and shows it run.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import binaries
from cluster.lifecycle import down, up
from cluster.places import REGISTRY_PORT, ClusterError, Places
from cluster.progress import say, step
from quickstart.images import Target, publish
from quickstart.install import install, uninstall
from quickstart.watch import watch

NAMESPACE = "imagewright-quickstart"
PLACES = Places("quickstart", 1)  # independent of the tests' cluster
_EXAMPLE = """FROM busybox
RUN echo "Built inside Kubernetes, without a daemon, at $(date -u)" > /hello.txt
CMD ["cat", "/hello.txt"]
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where it all happens: how to call kubectl, where images go, what the operator must know of registries."""

    kubectl: tuple[str, ...]
    target: Target
    registries: tuple[dict[str, object], ...]
    login: Path | None = None  # a config.json for the registry

    def run(self, *words: str, stdin: str | None = None) -> str:
        done = subprocess.run([*self.kubectl, *words], check=False, input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--kubeconfig", metavar="FILE", help="use this cluster instead of starting one")
    parser.add_argument("--registry", metavar="HOST/REPO", help="where its images go; needed with --kubeconfig")
    parser.add_argument("--insecure", action="store_true", help="the registry speaks plain HTTP")
    parser.add_argument("--mirror", metavar="HOST", default="", help="pull Docker Hub's images from there")
    parser.add_argument("--down", action="store_true", help="stop and remove what quickstart started, nothing else")
    given = parser.parse_args(arguments)
    if bool(given.kubeconfig) != bool(given.registry) and not given.down:
        parser.error("--kubeconfig and --registry belong together")
    if given.down:
        take_down(given)
        return 0
    ground = own_ground() if not given.kubeconfig else given_ground(given.kubeconfig, given.registry, given)
    images = publish(ground.target)
    with step("Installing the operator", "ten seconds"):
        install(ground.run, images, {"REGISTRIES": list(ground.registries)})
    show(ground)
    return 0


def own_ground() -> Ground:
    """A one-node cluster with a registry."""
    up(PLACES)
    host = f"{PLACES.node_address}:{REGISTRY_PORT}"
    flags = (f"--insecure-registry={host}", f"--registry-endpoint=docker.io={host}")
    return Ground(
        (str(binaries() / "kubectl"), f"--kubeconfig={PLACES.kubeconfig}"),
        Target(f"{host}/imagewright", flags),
        ({"host": host, "insecure": True}, {"host": "docker.io", "mirrors": [host]}),
    )


def given_ground(kubeconfig: str, registry: str, given: argparse.Namespace) -> Ground:
    """The user's cluster and registry."""
    if not os.path.isfile(kubeconfig):
        raise ClusterError(f'cannot read kubeconfig "{kubeconfig}": no such file')
    program = shutil.which("kubectl") or str(binaries() / "kubectl")
    host = registry.partition("/")[0]
    login = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    flags: tuple[str, ...] = (f"--insecure-registry={host}",) if given.insecure else ()
    registries: tuple[dict[str, object], ...] = ({"host": host, "insecure": True},) if given.insecure else ()
    if given.mirror:
        flags += (f"--registry-mirror={given.mirror}",)
        registries += ({"host": "docker.io", "mirrors": [given.mirror]},)
    return Ground(
        (program, f"--kubeconfig={os.path.abspath(kubeconfig)}"),
        Target(registry, flags),
        registries,
        login if login.is_file() else None,
    )


def show(ground: Ground) -> None:
    """Apply the example, follow it, and end with what the user would type next."""
    image = f"{ground.target.repository}/hello:1.0"
    output: dict[str, object] = {"tags": [image]}
    items: list[dict[str, object]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    if ground.login is not None:
        data = {".dockerconfigjson": base64.b64encode(ground.login.read_bytes()).decode()}
        metadata = {"name": "registry-login", "namespace": NAMESPACE}
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/dockerconfigjson",
                "metadata": metadata,
                "data": data,
            }
        )
        output["pushSecretRef"] = {"name": "registry-login"}
    build = {
        "apiVersion": "imagewright.dev/v1alpha1",
        "kind": "ImageBuild",
        "metadata": {"name": "hello", "namespace": NAMESPACE},
        "spec": {"source": {"inline": {"dockerfile": _EXAMPLE}}, "output": output},
    }
    ground.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, build]}))
    say("Applied the ImageBuild hello: FROM busybox, one RUN, a CMD")
    status = watch(ground.kubectl, NAMESPACE, "hello")
    program, kubeconfig = ground.kubectl[0], ground.kubectl[1].partition("=")[2]
    print()
    print(f"$ kubectl get imagebuilds -n {NAMESPACE}")
    print(ground.run("get", "imagebuilds", "-n", NAMESPACE), end="")
    print()
    print(f"Pushed {image}")
    print(f"digest {status['image']['digest']}")
    print()
    # kubectl, and its plugin, which scripts/setup has put next to this interpreter.
    folders = dict.fromkeys((os.path.dirname(program), os.path.dirname(sys.executable)))
    print("What you would type next:")
    print(f"  export KUBECONFIG={kubeconfig} PATH=$PATH:{os.pathsep.join(folders)}")
    print(f"  kubectl logs -n {NAMESPACE} {status['build']['podNames'][-1]}")
    print(f"  kubectl describe imagebuild -n {NAMESPACE} hello")
    print(f"  kubectl apply -n {NAMESPACE} -f your-imagebuild.yaml   # examples/ has some to start from")


def take_down(given: argparse.Namespace) -> None:
    """The cluster that quickstart started, or what it installed into the given one."""
    if not given.kubeconfig:
        down(PLACES)
        say("The cluster is gone; its programs and base images stay cached for the next time.")
        return
    ground = given_ground(given.kubeconfig, given.registry or "unused", given)
    ground.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    others = imagebuilds_of_others(ground)
    if others:
        say(f"The example is gone. There are ImageBuilds of others, so the operator stays: {', '.join(others)}.")
        say("docs/uninstalling.md says how it goes without them, and how with them.")
        return
    uninstall(ground.run)
    say("The example and the operator are gone from the cluster; the images stay in the registry.")


def imagebuilds_of_others(ground: Ground) -> list[str]:
    """As NAMESPACE/NAME. Those of a namespace that is being deleted, or is gone, are nobody's any more."""
    namespaces = json.loads(ground.run("get", "namespaces", "-o", "json"))["items"]
    active = {one["metadata"]["name"] for one in namespaces if one["status"]["phase"] == "Active"}
    found = ground.run("get", "imagebuilds", "-A", "--ignore-not-found", "-o", "json")
    places = [item["metadata"] for item in json.loads(found or '{"items": []}')["items"]]
    return [f"{place['namespace']}/{place['name']}" for place in places if place["namespace"] in active]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

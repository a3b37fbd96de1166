"""From nothing to a pushed image in a cluster: what ``scripts/quickstart`` runs.

Takes the quickest way to a cluster that the machine offers: the one that is given, one by kind, k3d, minikube or k3s,
or one of its own. Builds the project's images with the project's engine, installs the operator, and runs an example.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.lifecycle import down
from cluster.places import ClusterError
from cluster.processes import Processes
from cluster.progress import say, step
from quickstart.access import ClusterAccess, given_access, own_access, own_places, users_login
from quickstart.arguments import parse
from quickstart.images import publish
from quickstart.install import install, uninstall
from quickstart.localclusters import K3s, choose, tools
from quickstart.record import forget, record, recorded
from quickstart.watch import watch

NAMESPACE = "imagewright-quickstart"
_EXAMPLE = """FROM busybox
RUN echo "Built inside Kubernetes, without a daemon, at $(date -u)" > /hello.txt
CMD ["cat", "/hello.txt"]
"""


def main(arguments: Sequence[str]) -> int:
    given = parse(arguments)
    if given.down:
        take_down(given)
        return 0
    access = access_of(given)
    images = publish(access.target)
    with step("Installing the operator", "ten seconds"):
        install(access.run, images, {"REGISTRIES": list(access.registries)})
    show(access)
    return 0


def access_of(given: argparse.Namespace) -> ClusterAccess:
    """The quickest way: the given cluster, one by a tool of this machine, or the cluster of our own."""
    if given.kubeconfig:
        say(f"Using the cluster of {given.kubeconfig} and the registry {given.registry}, as given")
        kubeconfig, login = Path(given.kubeconfig), users_login()
        return given_access(kubeconfig, given.registry, insecure=given.insecure, mirror=given.mirror, login=login)
    way = given.way or (recorded() or [""])[-1]
    if not way and Processes(own_places()).supervisor_pid():
        say("Using the cluster of our own, which is running")
        return own_access()
    tool = None if way == "own" else choose(way)
    if tool is None:
        return own_access()
    record(tool.name)  # before the start, which may fail halfway
    kubeconfig, host = tool.start()
    # No login: the registry wants none, and the cluster is to have none of the user's.
    return given_access(kubeconfig, f"{host}/imagewright", insecure=True, mirror=given.mirror)


def show(access: ClusterAccess) -> None:
    """Apply the example, follow it, and end with what the user would type next."""
    image = f"{access.target.repository}/hello:1.0"
    output: dict[str, object] = {"tags": [image]}
    items: list[dict[str, object]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    if access.login is not None:
        data = {".dockerconfigjson": base64.b64encode(access.login.read_bytes()).decode()}
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
    access.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items, build]}))
    say("Applied the ImageBuild hello: FROM busybox, one RUN, a CMD")
    status = watch(access.kubectl, NAMESPACE, "hello")
    program, kubeconfig = access.kubectl[0], access.kubectl[1].partition("=")[2]
    print()
    print(f"$ kubectl get imagebuilds -n {NAMESPACE}")
    print(access.run("get", "imagebuilds", "-n", NAMESPACE), end="")
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
    """The clusters that quickstart started, or what it installed into the given one."""
    if given.kubeconfig:
        clear(Path(given.kubeconfig))
        return
    started = [tool for tool in tools() if tool.name in recorded()]
    for tool in started:
        if isinstance(tool, K3s):
            clear(tool.kubeconfig)
        else:
            tool.delete()
            say(f"The {tool.name} cluster and its registry are gone.")
        forget(tool.name)
    if not started or Processes(own_places()).supervisor_pid():
        down(own_places())
        say("The cluster is gone; its programs and base images stay cached for the next time.")


def clear(kubeconfig: Path) -> None:
    """Remove the example from a cluster that stays, and the operator unless others use it."""
    access = given_access(kubeconfig, "unused")
    access.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    others = imagebuilds_of_others(access)
    if others:
        say(f"The example is gone. There are ImageBuilds of others, so the operator stays: {', '.join(others)}.")
        say("docs/uninstalling.md says how it goes without them, and how with them.")
        return
    uninstall(access.run)
    say("The example and the operator are gone from the cluster; the images stay in the registry.")


def imagebuilds_of_others(access: ClusterAccess) -> list[str]:
    """As NAMESPACE/NAME. Those of a namespace that is being deleted, or is gone, are nobody's any more."""
    namespaces = json.loads(access.run("get", "namespaces", "-o", "json"))["items"]
    active = {one["metadata"]["name"] for one in namespaces if one["status"]["phase"] == "Active"}
    found = access.run("get", "imagebuilds", "-A", "--ignore-not-found", "-o", "json")
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

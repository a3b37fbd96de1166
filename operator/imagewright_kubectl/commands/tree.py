"""``tree``: an ImageBuild, its builds and their Pods, each with its status.

I/O: asks the API server, writes to standard output.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field

from imagewright_kubectl import printing
from imagewright_kubectl.executorpod import attempt_of, build_of, is_poll, state_of_container
from imagewright_kubectl.kstatus import compute
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.printing import Json
from imagewright_operator.api import KIND


@dataclass(frozen=True, slots=True)
class Node:
    """A line of the tree, and the lines below it."""

    name: str
    status: str
    about: str
    children: tuple[Node, ...] = field(default=())


def run(options: argparse.Namespace) -> int:
    """Print it; 0."""
    connection = connect(config_flags(options))
    body = connection.api.imagebuild(connection.namespace, options.name)
    pods = connection.api.pods(connection.namespace, body["metadata"]["uid"])
    root = tree(body, pods)
    match options.output:
        case "":
            print(printing.columns([["NAME", "STATUS", "ABOUT"], *_rows(root)]))
        case "json":
            print(json.dumps(_json(root), indent=4, ensure_ascii=False))
        case _:
            print(printing.as_yaml(_json(root)), end="")
    return 0


def tree(body: Json, pods: list[Json]) -> Node:
    """The current or last build first, then older ones, Pods whose build is no longer in the history, and Pods that
    poll a branch."""
    status = body.get("status") or {}
    build = status.get("build") or {}
    result = compute(body)
    by_build: dict[str, list[Json]] = {}
    pods = sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))
    for pod in pods:
        if not is_poll(pod):
            by_build.setdefault(build_of(pod), []).append(pod)
    below = []
    if build:
        below.append(_current(build, result.phase, status, by_build.pop(build.get("id", ""), [])))
    for entry in status.get("history") or ():
        if entry.get("number") != build.get("number"):
            below.append(_past(entry, by_build.pop(_build_ended_at(by_build, entry.get("completionTime", "")), [])))
    for identity, remaining in by_build.items():
        below.append(Node(f"build {identity}", "Ended", "not in the history", tuple(_pod(pod) for pod in remaining)))
    below += [_pod(pod) for pod in pods if is_poll(pod)]
    about = result.summary.removeprefix(result.phase).removeprefix(": ") or result.message
    image = (status.get("image") or {}).get("reference", "")
    if result.phase == "Succeeded":
        about = image
    elif image:
        about += f" (last image: {image})"
    return Node(f"{KIND}/{body['metadata']['name']}", result.phase or "New", about, tuple(below))


def _current(build: Json, phase: str, status: Json, pods: list[Json]) -> Node:
    number, attempt = build.get("number", 1), build.get("attempt", 1)
    name = f"build {number}" + (f", attempt {attempt}" if attempt > 1 else "")
    newest: Json = next((one for one in status.get("history") or () if one.get("number") == number), {})
    about = _about(newest) if newest else " ".join(build.get("podNames") or ())
    return Node(name, build.get("outcome") or phase, about, tuple(_pod(pod) for pod in pods))


def _past(entry: Json, pods: list[Json]) -> Node:
    below = tuple(_pod(pod) for pod in pods)
    return Node(f"build {entry.get('number')}", entry.get("outcome", ""), _about(entry), below)


def _build_ended_at(by_build: dict[str, list[Json]], when: str) -> str:
    """The id of the build with a container that ended then: the history has only numbers, and Pods have only ids."""
    for identity, pods in by_build.items():
        if when and any((state_of_container(pod).get("terminated") or {}).get("finishedAt") == when for pod in pods):
            return identity
    return ""


def _about(entry: Json) -> str:
    commit = entry.get("commit", "")[:12]
    parts = (
        "" if entry.get("reason") == entry.get("outcome") else entry.get("reason", ""),
        entry.get("digest", ""),
        f"commit {commit}" if commit else "",
        f"in {entry['duration']}" if entry.get("duration") else "",
        entry.get("completionTime", ""),
    )
    return ", ".join(part for part in parts if part)


def _pod(pod: Json) -> Node:
    status = pod.get("status") or {}
    state = state_of_container(pod)
    why = (state.get("waiting") or state.get("terminated") or {}).get("reason") or status.get("reason", "")
    phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else status.get("phase", "")
    node = (pod.get("spec") or {}).get("nodeName", "")
    attempt = attempt_of(pod)
    what = "polls the branch" if is_poll(pod) else f"attempt {attempt}" if attempt else ""
    parts = (what, "" if why == "Completed" else why, f"on {node}" if node else "")
    return Node(f"Pod/{pod['metadata']['name']}", phase, ", ".join(part for part in parts if part))


def _rows(node: Node, before: str = "", own: str = "") -> list[list[str]]:
    rows = [[own + node.name, node.status, " ".join(node.about.split())]]
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        rows += _rows(child, before + ("    " if last else "│   "), before + ("└── " if last else "├── "))
    return rows


def _json(node: Node) -> Json:
    found: Json = {"name": node.name, "status": node.status, "about": node.about}
    if node.children:
        found["children"] = [_json(child) for child in node.children]
    return found

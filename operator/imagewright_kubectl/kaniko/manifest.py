"""Finds the container that runs kaniko: in a Pod, Job, CronJob, Tekton task, Argo workflow, or alone.

No I/O.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagewright.errors import Reason, UsageError
from imagewright_kubectl.kaniko import podspec
from imagewright_operator.api import KIND

Json = dict[str, Any]

_LISTS = ("containers", "initContainers", "ephemeralContainers")
_SHELLS = ("sh", "bash", "ash", "busybox", "cat")
_EXECUTOR = re.compile(r"(?:^|[\s/])executor(?:\s|$)")
_TAG = re.compile(r"[:@].*", re.DOTALL)
_SCRIPT_HINT = (
    "Pass the executor's flags, with their values, after two dashes: "
    "kubectl imagewright create NAME -- --context=git://… --destination=…"
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A container that runs kaniko, with its Pod and Job as far as the manifest has them."""

    file: str  # as messages call it; "" for flags alone
    name: str  # the manifest's
    namespace: str
    kind: str
    container: Json
    pod: Json  # the mapping that has the container
    job: Json  # a Job's spec
    volumes: tuple[Json, ...] = ()
    other_containers: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The words after the program's name, not expanded."""
        return [*_words(self.container, "command")[1:], *_words(self.container, "args")]

    @property
    def subject(self) -> str:
        """What messages call it: ``container "kaniko" of "pod.yaml"``."""
        return f'container "{_name(self.container)}" of "{self.file}"' if self.file else "the flags"

    def path(self, given: str) -> str:
        """An absolute path of the container."""
        return posixpath.normpath(posixpath.join(self.container.get("workingDir") or "/workspace", given))


@dataclass(frozen=True, slots=True)
class _Candidate:
    container: Json
    parents: tuple[Json, ...]  # the mappings around it, the innermost first


def find_workload(documents: Iterable[Any], container: str = "", file: str = "manifest") -> Workload:
    """The container that runs kaniko; ``container`` names it where there are several.

    Raises:
        UsageError: there is none, there are several, or it is run by a shell script.
    """
    scripts: list[str] = []
    found: list[tuple[Json, _Candidate, list[_Candidate]]] = []
    for document in _flatten(documents, file):
        candidates = list(_containers(document, ()))
        for candidate in candidates:
            name = _name(candidate.container)
            if container and name != container:
                continue
            if _is_executor(candidate.container):
                found.append((document, candidate, candidates))
            elif _is_script(candidate.container):
                scripts.append(name)
    if not found:
        raise _none_found(scripts, container, file)
    if len(found) > 1:
        names = ", ".join(f'"{_name(candidate.container)}"' for _, candidate, _ in found)
        raise UsageError(
            f'cannot choose a container of "{file}": {len(found)} run kaniko: {names}',
            hint="Choose one with --container NAME: an ImageBuild builds one image.",
        )
    return _workload(file, *found[0])


def workload_of_flags(words: Sequence[str]) -> Workload:
    """kaniko's flags without a manifest."""
    return Workload("", "", "", "", {"image": "executor", "name": "executor", "args": [*words]}, {}, {})


def _workload(file: str, document: Json, candidate: _Candidate, candidates: list[_Candidate]) -> Workload:
    podspec.validate(podspec.Container, candidate.container, _name(candidate.container))
    volumes: list[Json] = []
    for parent in candidate.parents:
        podspec.validate(podspec.Volumes, parent, "")
        volumes += parent.get("volumes") or ()
    metadata, kind = document.get("metadata") or {}, str(document.get("kind"))
    podspec.validate(podspec.Metadata, metadata, "metadata")
    # The Pod's spec, its template, the Job's spec.
    job = candidate.parents[2] if kind in ("Job", "CronJob") and len(candidate.parents) > 2 else {}
    podspec.validate(podspec.Job, job, "spec")
    pod = candidate.parents[0] if candidate.parents and _is_pod(candidate.parents[0]) else {}
    podspec.validate(podspec.Pod, pod, "spec")
    others = [
        one
        for one in candidates
        if one.parents[:1] == candidate.parents[:1] and one.container is not candidate.container
    ]
    return Workload(
        file=file,
        name=metadata.get("name") or "",
        namespace=metadata.get("namespace") or "",
        kind=kind,
        container=candidate.container,
        pod=pod,
        job=job,
        volumes=tuple(volumes),
        other_containers=tuple(_name(one.container) for one in others),
    )


def _flatten(documents: Iterable[Any], file: str) -> Iterator[Json]:
    """The documents, and in place of a List its items."""
    for given in documents:
        if given is None:
            continue
        # A list is an excerpt of a Tekton task or a Pod.
        document = {"steps": given} if isinstance(given, list) else given
        if not isinstance(document, dict):
            raise UsageError(f'cannot read "{file}": not a YAML mapping', hint="Use a Pod, a Job or a container.")
        if document.get("kind") == KIND:
            raise UsageError(
                f'cannot convert "{file}": it is an ImageBuild', hint="Create it with `kubectl apply -f FILE`."
            )
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from _flatten(document["items"], file)
        else:
            yield document


def _containers(node: Any, parents: tuple[Json, ...]) -> Iterator[_Candidate]:
    """Every container below a node, at any depth."""
    if isinstance(node, list):
        for item in node:
            yield from _containers(item, parents)
    elif isinstance(node, dict):
        if _is_container(node):
            yield _Candidate(node, parents)
            return
        for value in node.values():
            yield from _containers(value, (node, *parents))


def _is_container(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("image"), str) and not any(key in node for key in (*_LISTS, "spec", "steps"))


def _is_pod(node: Mapping[str, Any]) -> bool:
    return any(key in node for key in _LISTS)


def _is_executor(container: Mapping[str, Any]) -> bool:
    command = _words(container, "command")
    if container.get("script"):
        return False
    if command:
        return command[0].rpartition("/")[2] == "executor"
    place, _, last = container["image"].rpartition("/")
    name = _TAG.sub("", last, count=1)
    of_kaniko = name == "executor" or (("kaniko" in place or "kaniko" in name) and name != "warmer")
    return of_kaniko or any(word.startswith(("--destination", "--context")) for word in _words(container, "args"))


def _is_script(container: Mapping[str, Any]) -> bool:
    command = _words(container, "command")
    shell = bool(container.get("script")) or (bool(command) and command[0].rpartition("/")[2] in _SHELLS)
    text = " ".join([str(container.get("script") or ""), *command, *_words(container, "args")])
    return shell and (_EXECUTOR.search(text) is not None or "kaniko" in container["image"])


def _none_found(scripts: list[str], container: str, file: str) -> UsageError:
    if scripts:
        names = ", ".join(f'"{name}"' for name in scripts)
        return UsageError(
            f'cannot convert container {names} of "{file}": a shell script runs kaniko, and its arguments are unknown',
            reason=Reason.NOT_SUPPORTED,
            hint=_SCRIPT_HINT,
        )
    which = f'container "{container}"' if container else "container"
    return UsageError(
        f'cannot convert "{file}": no {which} runs kaniko',
        hint="Use a container with kaniko's image, this project's executor image or the command /kaniko/executor.",
    )


def _name(container: Mapping[str, Any]) -> str:
    return str(container.get("name") or container.get("image"))


def _words(container: Mapping[str, Any], key: str) -> list[str]:
    words = container.get(key) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(
            f'invalid {key} of container "{_name(container)}": not a list of strings',
            hint=f'Use, for example, {key}: ["--dockerfile=Dockerfile"].',
        )
    return words

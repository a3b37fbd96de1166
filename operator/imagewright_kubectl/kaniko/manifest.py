"""Finds the container that runs kaniko in a manifest of any kind: Pod, Job, CronJob, a Tekton task, an Argo workflow, a mere container.

No I/O. Called by ``createcommand``. What surrounds the container (volumes, the Pod's settings, the Job's) comes with it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagewright.errors import Reason, UsageError
from imagewright_kubectl.kaniko import podspec
from imagewright_operator.api import KIND

Json = dict[str, Any]

_LISTS = ("containers", "initContainers", "ephemeralContainers")
_SHELLS = ("sh", "bash", "ash", "busybox", "cat")
_EXECUTOR = re.compile(r"(?:^|[\s/])executor(?:\s|$)")
_TAG = re.compile(r"(@sha256:[0-9a-f]+|:[^/:@]+)+$")
_SCRIPT_HINT = (
    "What a script executes is known when it runs: give the executor's line, with its values, after two dashes: "
    "kubectl imagewright create NAME -- --context=git://… --destination=…"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A container that runs kaniko, and what surrounds it; what is not there is empty."""

    name: str  # the manifest's
    namespace: str
    kind: str
    container: Json
    pod: Json  # the mapping that the container is in
    job: Json  # a Job's spec
    volumes: tuple[Json, ...] = ()
    others: tuple[str, ...] = field(default=())  # containers that are not converted

    @property
    def arguments(self) -> list[str]:
        """The words after the program's name, as they are written."""
        return [*_words(self.container, "command")[1:], *_words(self.container, "args")]

    def path(self, given: str) -> str:
        """A path as the container has it, whole."""
        return posixpath.normpath(posixpath.join(self.container.get("workingDir") or "/workspace", given))


@dataclass(frozen=True, slots=True)
class _Place:
    container: Json
    around: tuple[Json, ...]  # the mappings that it is in, the innermost first
    is_main: bool  # not one of initContainers


def find(documents: Iterable[Any], wanted: str = "") -> Found:
    """The one container that runs kaniko; ``wanted`` names it where there are several.

    Raises:
        UsageError: there is none, or there are several, or it is a shell script.
    """
    scripts: list[str] = []
    found: list[tuple[Json, _Place, list[_Place]]] = []
    for document in _unpacked(documents):
        places = list(_places(document, ()))
        for place in places:
            name = _name(place.container)
            if wanted and name != wanted:
                continue
            if _is_executor(place.container):
                found.append((document, place, places))
            elif _is_script(place.container):
                scripts.append(name)
    if not found:
        raise _nothing(scripts, wanted)
    if len(found) > 1:
        names = ", ".join(_name(place.container) for _, place, _ in found)
        raise UsageError(
            f"{len(found)} containers run kaniko: {names}",
            hint="An ImageBuild makes one image: --container NAME chooses one; give each a manifest of its own.",
        )
    return _found(*found[0])


def of_words(words: Sequence[str]) -> Found:
    """kaniko's flags alone, as a script has them."""
    return Found("", "", "", {"image": "executor", "name": "executor", "args": [*words]}, {}, {})


def _found(document: Json, place: _Place, places: list[_Place]) -> Found:
    podspec.validate(podspec.Container, place.container, _name(place.container))
    volumes: list[Json] = []
    for around in place.around:
        podspec.validate(podspec.Volumes, around, "spec")
        volumes += around.get("volumes") or ()
    metadata, kind = document.get("metadata") or {}, str(document.get("kind"))
    podspec.validate(podspec.Metadata, metadata, "metadata")
    # The Pod's spec, its template, the Job's spec.
    job = place.around[2] if kind in ("Job", "CronJob") and len(place.around) > 2 else {}
    podspec.validate(podspec.Job, job, "spec")
    pod = place.around[0] if place.around and _is_pod(place.around[0]) else {}
    podspec.validate(podspec.Pod, pod, "spec")
    same_pod = [one for one in places if one.around[:1] == place.around[:1] and one.container is not place.container]
    return Found(
        name=metadata.get("name") or "",
        namespace=metadata.get("namespace") or "",
        kind=kind,
        container=place.container,
        pod=pod,
        job=job,
        volumes=tuple(volumes),
        others=tuple(_name(one.container) for one in same_pod),
    )


def _unpacked(documents: Iterable[Any]) -> Iterator[Json]:
    for given in documents:
        if given is None:
            continue
        # A list is what was cut out of a Tekton task or a Pod.
        document = {"steps": given} if isinstance(given, list) else given
        if not isinstance(document, dict):
            raise UsageError("the manifest is no YAML mapping", hint="Give a Pod, a Job or a container.")
        if document.get("kind") == KIND:
            raise UsageError("the manifest is an ImageBuild already", hint="`kubectl apply -f FILE` creates it.")
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from _unpacked(document["items"])
        else:
            yield document


def _places(node: Any, around: tuple[Json, ...], is_main: bool = True) -> Iterator[_Place]:
    """Every container below a node, wherever it is."""
    if isinstance(node, list):
        for item in node:
            yield from _places(item, around, is_main)
    elif isinstance(node, dict):
        if _is_container(node):
            yield _Place(node, around, is_main)
            return
        for key, value in node.items():
            yield from _places(value, (node, *around), key != "initContainers")


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
    image = _TAG.sub("", container["image"])
    name = image.rpartition("/")[2]
    of_kaniko = name == "executor" or ("kaniko" in image and name != "warmer")
    return of_kaniko or any(word.startswith(("--destination", "--context")) for word in _words(container, "args"))


def _is_script(container: Mapping[str, Any]) -> bool:
    command = _words(container, "command")
    shell = bool(container.get("script")) or (bool(command) and command[0].rpartition("/")[2] in _SHELLS)
    text = " ".join([str(container.get("script") or ""), *command, *_words(container, "args")])
    return shell and (_EXECUTOR.search(text) is not None or "kaniko" in container["image"])


def _nothing(scripts: list[str], wanted: str) -> UsageError:
    if scripts:
        return UsageError(
            f"the container {', '.join(scripts)} runs kaniko from a shell script, which can't be converted",
            reason=Reason.NOT_SUPPORTED,
            hint=_SCRIPT_HINT,
        )
    which = f"container {wanted}" if wanted else "container"
    return UsageError(
        f"the manifest has no {which} that runs kaniko",
        hint="Its image is kaniko's (or this project's executor), or its command is /kaniko/executor, and its args are flags.",
    )


def _name(container: Mapping[str, Any]) -> str:
    return str(container.get("name") or container.get("image"))


def _words(container: Mapping[str, Any], key: str) -> list[str]:
    words = container.get(key) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(
            f"{key} of the container {_name(container)} is no list of texts",
            hint=f'Write {key}: ["--dockerfile=Dockerfile", …], each in quotes.',
        )
    return words

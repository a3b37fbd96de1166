"""Invalid values anywhere in a manifest are errors that a user can act on."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from imagebuilds.kanikopods import GIT, pod

from imagewright.errors import ImagewrightError
from imagewright_kubectl.kaniko import convert, find_workload

WRONG: list[Any] = [None, 5, "x", [], {}, ["x"], {"a": "b"}, True, [1], [None], "", [[]]]


def nodes(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything below a node."""
    children: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        children = [*node.items()]
    elif isinstance(node, list):
        children = [*enumerate(node)]
    return [found for key, child in children for found in ((*path, key), *nodes(child, (*path, key)))]


def everything() -> Any:
    """A Job with something in every place that is read."""
    reference = {"secretKeyRef": {"name": "n", "key": "username"}}
    volumes: list[dict[str, Any]] = [
        {"name": "s", "secret": {"secretName": "s", "items": [{"key": "k", "path": "c"}]}},
        {"name": "ca", "configMap": {"name": "c"}},
        {"name": "t", "projected": {"sources": [{"secret": {"name": "t"}}]}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "c"}},
    ]
    flags = """--build-arg=A --secret=id=GIT_USERNAME --secret=id=c,src=/s/c --ssh=default=/s/c --registry-certificate=h=/ca/x
    --registry-client-cert=h=/t/tls.crt,/t/tls.key --cache-dir=/p""".split()
    spec = yaml.safe_load(
        pod(
            GIT,
            *flags,
            env=[{"name": "A", "value": "x"}, {"name": "GIT_USERNAME", "valueFrom": reference}],
            envFrom=[{"secretRef": {"name": "x"}}],
            resources={"limits": {"memory": "1Gi"}},
            securityContext={"capabilities": {"drop": ["ALL"]}},
            volumeMounts=[{"name": one["name"], "mountPath": f"/{one['name']}"} for one in volumes],
            volumes=volumes,
        )
    )["spec"]
    limits = {"activeDeadlineSeconds": 60, "backoffLimit": 2, "ttlSecondsAfterFinished": 4}
    return {"kind": "Job", "metadata": {"name": "a"}, "spec": {**limits, "template": {"spec": spec}}}


def test_invalid_values_are_errors_with_a_reason() -> None:
    convert(find_workload([everything()]), frozenset({"envFrom"}))
    for number, path in enumerate(nodes(everything())):
        for wrong in (WRONG[number % len(WRONG)], WRONG[(number * 7 + 5) % len(WRONG)]):
            manifest = everything()
            place = manifest
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = wrong
            with contextlib.suppress(ImagewrightError):  # anything else is a bug
                convert(find_workload([manifest]), frozenset({"envFrom"}))

"""Every example can be built, and the deployment has only the permissions that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.source import Source
from imagewright_operator.reconcile.validation import problems
from imagewright_operator.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def documents(*files: Path) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from yaml.safe_load_all(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_example_can_be_built(file: Path) -> None:
    for document in documents(file):
        assert "namespace" not in document["metadata"], "it is applied where the user is"
        if document["kind"] == "ImageBuild":
            assert problems(ImageBuild.parse(document), Settings()) == ()


def test_every_source_has_an_example() -> None:
    built = [document for document in documents(*EXAMPLES) if document["kind"] == "ImageBuild"]
    assert {next(iter(document["spec"]["source"])) for document in built} == {
        str(field.alias) for field in Source.model_fields.values()
    }


def deployed(kind: str) -> list[dict[str, Any]]:
    files = [file for file in sorted((ROOT / "deploy" / "base").glob("*.yaml")) if file.name != "kustomization.yaml"]
    return [document for document in documents(*files) if document["kind"] == kind]


def test_the_operator_reads_no_secrets_and_writes_only_pods_events_and_status() -> None:
    (role,) = (role for role in deployed("ClusterRole") if role["metadata"]["name"] == "imagewright-operator")
    rights = {
        f"{resource}:{verb}" for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert not {right for right in rights if "*" in right or right.startswith(("secrets", "configmaps"))}
    writes = {right for right in rights if right.split(":")[1] not in ("get", "list", "watch")}
    assert writes == {"pods:create", "pods:delete", "events:create", "imagebuilds/status:patch"}


def test_the_operators_pod_has_no_privileges_on_its_node() -> None:
    (deployment,) = deployed("Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["hostUsers"] is False
    assert spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"livenessProbe", "readinessProbe"} <= set(container)
    assert "memory" in container["resources"]["limits"]


def test_the_deployments_variables_are_settings() -> None:
    kustomization = yaml.safe_load((ROOT / "deploy" / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    literals = kustomization["configMapGenerator"][0]["literals"]
    environment = dict(literal.split("=", 1) for literal in literals)
    assert Settings.unknown(environment) == ()
    assert Settings.from_environment(environment).executor_image == environment["IMAGEWRIGHT_EXECUTOR_IMAGE"]

"""Every example can be built, and the deployment has only the permissions that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.manifests import imagebuild, pod
from imagebuilds.rendered import lets_out, selects

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.source import Source
from imagewright_operator.pods.manifests import poll_pod
from imagewright_operator.reconcile.validation import problems
from imagewright_operator.settings import Profile, Settings

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


POLICY = next(
    one for one in documents(ROOT / "examples" / "executor-networkpolicy.yaml") if one["kind"] == "NetworkPolicy"
)["spec"]


@pytest.mark.parametrize("profile", [profile for profile in Profile if profile is not Profile.AUTO])
def test_the_executors_network_policy_takes_every_pod_that_the_operator_makes(profile: Profile) -> None:
    own = {"app.kubernetes.io/component": "web", "app.kubernetes.io/managed-by": "helm", "team": "a"}
    build = pod(profile=profile, podTemplate={"labels": own})
    poll = poll_pod(imagebuild({"git": {"url": "https://git.example.com/a.git"}}), "app-probe", Settings(), profile)
    for made in (build, poll):
        assert selects(POLICY["podSelector"], made["metadata"]["labels"])
    assert build["metadata"]["labels"]["team"] == "a"
    assert not selects(POLICY["podSelector"], own)
    assert set(POLICY["policyTypes"]) == {"Ingress", "Egress"}
    assert not POLICY.get("ingress"), "nothing may connect to them"


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # Amazon, Azure, Google, Oracle, OpenStack, …
        "169.254.169.252",  # Google's, on the node
        "169.254.170.2",  # Amazon's, for tasks
        "169.254.170.23",  # Amazon's agent for the identities of Pods
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    ],
)
def test_executors_may_not_reach_the_metadata_of_clouds(address: str) -> None:
    assert not any(lets_out(POLICY, address, port) for port in (80, 443, 988))
    assert lets_out(POLICY, address, 53, "UDP"), "it may be the server of names"


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "10.0.0.7", "192.168.3.4", "100.64.0.9", "2001:db8::1", "fd12::7"]
)
def test_executors_may_reach_registries_and_git_servers(address: str) -> None:
    assert all(lets_out(POLICY, address, port) for port in (22, 80, 443, 5000))
    assert {"namespaceSelector": {}} in [peer for rule in POLICY["egress"] for peer in rule.get("to", ())]


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

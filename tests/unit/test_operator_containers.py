"""The two containers of an executor Pod: what the runner has, which resources each has, and when there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from imagebuilds.manifests import container, environment, imagebuild, mounts, pod

from imagewright.contract import REQUEST_ENV, RUNNER_SOCKET
from imagewright.contract.request import BuildRequest, RunSettings
from imagewright_operator.pods.manifests import poll_pod
from imagewright_operator.settings import Profile, Settings

WITH_CREDENTIALS: dict[str, Any] = {
    "output": {"tags": ["a/b"], "pushSecretRef": {"name": "regcred"}},
    "secrets": [{"id": "npm", "secretKeyRef": {"name": "npm", "key": "npmrc"}}],
    "ssh": [{"secretKeyRef": {"name": "ssh", "key": "key"}}],
    "cache": {"volume": {"claimName": "cache"}},
    "registries": [{"host": "r.example.com", "clientCertificateSecretRef": {"name": "tls"}}],
    "podTemplate": {
        "env": [{"name": "GIT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "git", "key": "token"}}}],
        "volumes": [{"name": "mine", "mountPath": "/mine", "secret": {"secretName": "mine"}}],
    },
}
GIT = {"git": {"url": "https://git.example.com/app.git", "secretRef": {"name": "git"}}}


def names(made: dict[str, Any]) -> list[str]:
    return [one["name"] for one in made["spec"]["containers"]]


def run_settings(made: dict[str, Any]) -> RunSettings:
    return BuildRequest.decode(environment(made)[REQUEST_ENV]).run


@pytest.mark.parametrize("profile", [profile for profile in Profile if profile is not Profile.AUTO])
def test_the_runner_has_nothing_but_the_socket(profile: Profile) -> None:
    settings = Settings(registry_ca_config_map="cas", executor_image="reg/executor:1", executor_pull_policy="Always")
    made = pod(GIT, profile, settings, **WITH_CREDENTIALS)
    assert names(made) == ["runner", "executor"], "the kubelet starts them one after the other"
    runner, executor = container(made, "runner"), container(made)
    assert runner == {
        "name": "runner",
        "image": "reg/executor:1",
        "imagePullPolicy": "Always",
        "command": ["/kaniko/executor"],
        "args": ["runner"],
        "resources": runner["resources"],
        "securityContext": executor["securityContext"],
        "volumeMounts": [{"name": "imagewright-runner", "mountPath": "/kaniko/runner", "readOnly": True}],
    }
    assert (executor["image"], executor["imagePullPolicy"]) == ("reg/executor:1", "Always")
    assert not {"shareProcessNamespace", "hostPID"} & set(made["spec"])
    assert mounts(made)["/kaniko/runner"] == {"name": "imagewright-runner", "emptyDir": {}, "readOnly": False}
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "executor"


@pytest.mark.parametrize("sandbox", ["Auto", "Root", "Chroot"])
def test_the_request_names_the_runners_socket(sandbox: str) -> None:
    made = pod(sandbox=sandbox)
    assert names(made) == ["runner", "executor"]
    assert run_settings(made).runner_socket == RUNNER_SOCKET
    assert RUNNER_SOCKET.startswith(container(made, "runner")["volumeMounts"][0]["mountPath"] + "/")


def test_a_build_that_runs_commands_in_namespaces_only_has_no_runner() -> None:
    made = pod(sandbox="Namespace")
    assert names(made) == ["executor"]
    assert run_settings(made).runner_socket == ""
    assert "imagewright-runner" not in str(made)
    assert list(made["metadata"]["annotations"]) == ["kubectl.kubernetes.io/default-container"]


def test_a_poll_pod_has_no_runner() -> None:
    source = {"git": {"url": "https://git.example.com/app.git", "poll": "5m"}}
    assert names(poll_pod(imagebuild(source), "app-1a2b-probe", Settings(), Profile.HARDENED)) == ["executor"]


@pytest.mark.parametrize(
    ("of_build", "of_all", "required"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_isolation_is_required_by_the_build_or_for_all(of_build: bool, of_all: bool, required: bool) -> None:
    made = pod(settings=Settings(require_isolation=of_all), requireIsolation=of_build)
    assert run_settings(made).require_isolation is required


SIZES = {
    "requests": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1},
    "limits": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "30Gi", "nvidia.com/gpu": 1},
}
IDLE_RUNNER = {
    "requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "0"},
    "limits": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "30Gi"},
}
SMALL_ENGINE = {
    "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "0"},
    "limits": {"cpu": "4", "memory": "1Gi", "ephemeral-storage": "30Gi"},
}


def with_disk(resources: Mapping[str, Any]) -> dict[str, Any]:
    """With the limit of ephemeral storage that containers have which name none."""
    added = {"requests": "0", "limits": "20Gi"}
    return {kind: {**resources.get(kind, {}), "ephemeral-storage": amount} for kind, amount in added.items()}


DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
LOCALHOST = {"seccompProfile": {"type": "Localhost", "localhostProfile": "imagewright.json"}}


@pytest.mark.parametrize(
    ("profile", "spec", "commands"),
    [
        (Profile.PLAIN, {}, "executor"),
        (Profile.USERNS, {}, "executor"),
        (Profile.USERNS_STRICT, {}, "executor"),  # RuntimeDefault, but with SYS_ADMIN
        (Profile.HARDENED, {}, "runner"),
        (Profile.HARDENED, {"podTemplate": {"securityContext": {"capabilities": None}}}, "runner"),
        (Profile.PLAIN, {"sandbox": "Root"}, "runner"),
        (Profile.USERNS, {"sandbox": "Chroot"}, "runner"),
        (Profile.PLAIN, {"podTemplate": {"securityContext": DEFAULT}}, "runner"),
        (Profile.PLAIN, {"podTemplate": {"securityContext": LOCALHOST}}, "executor"),
        (Profile.USERNS_STRICT, {"podTemplate": {"securityContext": {"capabilities": {"drop": ["SYS_ADMIN"]}}}}, "runner"),
        (Profile.HARDENED, {"sandbox": "Namespace"}, ""),
    ],
)  # fmt: skip
def test_the_builds_resources_are_those_of_the_container_that_runs_commands(
    profile: Profile, spec: dict[str, Any], commands: str
) -> None:
    template = {**spec.get("podTemplate", {}), "resources": SIZES}
    made = pod(profile=profile, **{**spec, "podTemplate": template})
    found = {one["name"]: one["resources"] for one in made["spec"]["containers"]}
    expected = {
        "executor": {"executor": SIZES, "runner": IDLE_RUNNER},
        "runner": {"executor": SMALL_ENGINE, "runner": SIZES},
        "": {"executor": SIZES},
    }
    assert found == expected[commands]
    assert made["metadata"]["annotations"].get("imagewright.dev/commands-container", "") == commands


def test_the_installations_resources_are_shared_out_alike() -> None:
    settings = Settings(
        resources={"limits": {"memory": "2Gi", "cpu": "4"}},
        engine_resources={"requests": {"memory": "64Mi"}, "limits": {"memory": "3Gi", "cpu": "1"}},
    )
    made = pod(profile=Profile.HARDENED, settings=settings)
    assert container(made, "runner")["resources"] == with_disk(settings.resources)
    assert container(made)["resources"] == with_disk(settings.engine_resources)
    larger = Settings(resources={"limits": {"memory": "1Gi"}}, runner_resources={"requests": {"memory": "64Mi"}})
    assert container(pod(settings=larger), "runner")["resources"] == with_disk(
        {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    )
    made = pod(settings=settings)
    assert container(made)["resources"] == with_disk(settings.resources)
    assert container(made, "runner")["resources"] == with_disk(
        {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "2Gi", "cpu": "4"}}
    )


@pytest.mark.parametrize(
    ("profile", "given", "name", "expected"),
    [
        # a request above its limit would be refused
        (Profile.PLAIN, {"limits": {"cpu": "5m"}}, "runner", {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"cpu": "5m"}}),
        (Profile.HARDENED, {"limits": {"cpu": 1}}, "executor", {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}}),
        # a quota may demand a request of each container
        (Profile.PLAIN, {"requests": {"ephemeral-storage": "1Gi"}}, "runner", {"requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": "0"}}),
    ],
)  # fmt: skip
def test_the_other_containers_requests_fit_into_its_limits(
    profile: Profile, given: dict[str, Any], name: str, expected: dict[str, Any]
) -> None:
    assert container(pod(profile=profile, podTemplate={"resources": given}), name)["resources"] == with_disk(expected)


@pytest.mark.parametrize(
    ("given", "limit", "request_"),
    [
        ({}, "20Gi", "0"),
        ({"limits": {"memory": "1Gi"}}, "20Gi", "0"),
        ({"requests": {"ephemeral-storage": "1Gi"}}, "20Gi", "1Gi"),
        ({"requests": {"ephemeral-storage": "30Gi"}}, "30Gi", "30Gi"),
        ({"limits": {"ephemeral-storage": "1Gi"}}, "1Gi", None),
    ],
)
@pytest.mark.parametrize("profile", [Profile.HARDENED, Profile.PLAIN])
def test_the_disk_of_both_containers_is_limited(
    profile: Profile, given: dict[str, Any], limit: str, request_: str | None
) -> None:
    made = pod(profile=profile, podTemplate={"resources": given} if given else {})
    commands = "runner" if profile is Profile.HARDENED else "executor"
    for name in ("runner", "executor"):
        resources = container(made, name)["resources"]
        assert resources["limits"]["ephemeral-storage"] == limit
        expected = request_ if name == commands else "0"
        assert resources.get("requests", {}).get("ephemeral-storage") == expected


@pytest.mark.parametrize(
    ("folders", "limit"),
    [
        ([{"sizeLimit": "50Gi"}, {"sizeLimit": "10Gi"}], 80 << 30),
        ([{"sizeLimit": "50Gi"}, {}], None),
        ([{"medium": "Memory"}], "20Gi"),
    ],
)
def test_the_limit_leaves_room_for_what_the_templates_own_folders_may_hold(
    folders: list[dict[str, Any]], limit: object
) -> None:
    volumes = [
        {"name": f"v{number}", "mountPath": f"/data/{number}", "emptyDir": one} for number, one in enumerate(folders)
    ]
    made = pod(profile=Profile.HARDENED, podTemplate={"volumes": volumes})
    for name in ("runner", "executor"):
        limits = container(made, name)["resources"].get("limits", {})
        assert limits.get("ephemeral-storage") == (str(limit) if limit else None)


def test_a_pod_with_the_work_folder_alone_has_the_limit_of_that() -> None:
    assert "ephemeral-storage" not in str(container(pod(sandbox="Namespace"))["resources"])


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("eks.amazonaws.com/skip-containers", None, "runner"),
        ("eks.amazonaws.com/skip-containers", "proxy, other", "proxy,other,runner"),
        ("azure.workload.identity/skip-containers", "proxy;runner;", "proxy;runner"),
        ("azure.workload.identity/skip-containers", "proxy", "proxy;runner"),
        ("pod-identity.alibabacloud.com/skip-containers", "proxy", "proxy,runner"),
    ],
)
def test_webhooks_of_cloud_identities_are_told_to_skip_the_runner(key: str, given: str | None, expected: str) -> None:
    template = {"annotations": {"team": "a", **({key: given} if given is not None else {})}}
    annotations = pod(podTemplate=template)["metadata"]["annotations"]
    assert annotations[key] == expected
    assert annotations["team"] == "a"

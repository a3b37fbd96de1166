"""Settings from the environment, and the Pod profile that follows from them and the nodes."""

from __future__ import annotations

from typing import Any

import pytest

from imagewright.errors import UsageError
from imagewright_operator.api import Spec
from imagewright_operator.pods import profile
from imagewright_operator.settings import Profile, Settings


def read(**environment: str) -> Settings:
    return Settings.from_environment({f"IMAGEWRIGHT_{name}": value for name, value in environment.items()})


def test_without_variables_the_defaults_apply() -> None:
    assert read() == Settings()
    assert read(EXECUTOR_IMAGE="", REGISTRIES=" ") == Settings()


def test_every_setting_is_read() -> None:
    settings = read(
        EXECUTOR_IMAGE="reg.example.com/executor:1",
        EXECUTOR_PULL_POLICY="Always",
        POD_PROFILE="hardened",
        REGISTRIES='[{"host": "docker.io", "endpoint": "hub.example.com", "insecure": true, "caFile": "hub.crt"}]',
        REGISTRY_CA_CONFIGMAP="ca",
        SERVICE_ACCOUNTS="default, builder",
        NAMESPACES="a b",
        RESOURCES='{"limits": {"memory": "1Gi"}}',
        ENGINE_RESOURCES='{"requests": {"cpu": "200m"}}',
        RUNNER_RESOURCES='{"requests": {"cpu": "50m"}}',
        REQUIRE_ISOLATION="true",
        WORKSPACE_SIZE="1Gi",
        RESYNC_SECONDS="5",
        WORKERS="2",
        HTTP_PORT="0",
        LEADER_ELECTION="true",
        LEASE_NAME="builds-operator",
        LEASE_SECONDS="30",
    )
    assert (settings.leader_election, settings.lease_name, settings.lease_s) == (True, "builds-operator", 30)
    assert settings.executor_image == "reg.example.com/executor:1"
    assert settings.profile is Profile.HARDENED
    assert settings.registries[0].endpoint == "hub.example.com"
    assert settings.registries[0].ca_file == "hub.crt"
    assert settings.service_accounts == {"default", "builder"}
    assert settings.namespaces == ("a", "b")
    assert settings.resources == {"limits": {"memory": "1Gi"}}
    assert settings.engine_resources == {"requests": {"cpu": "200m"}}
    assert settings.runner_resources == {"requests": {"cpu": "50m"}}
    assert settings.require_isolation
    assert (settings.resync_s, settings.workers, settings.http_port) == (5, 2, 0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("POD_PROFILE", "secure", "auto, userns, plain"),
        ("REGISTRIES", "docker.io", "invalid JSON"),
        ("REGISTRIES", "{}", "JSON list"),
        ("REGISTRIES", '[{"host": "a", "mirror": "b"}]', "mirror"),
        ("RESOURCES", "[]", "JSON object"),
        ("RESOURCES", '{"limit": {"memory": "1Gi"}}', "unknown key limit"),
        ("RESOURCES", '{"limits": {"memory": "1GB"}}', "limits.memory must be a Kubernetes quantity"),
        ("ENGINE_RESOURCES", '{"limits": {"memory": "1GB"}}', "limits.memory must be a Kubernetes quantity"),
        ("RUNNER_RESOURCES", '{"requests": {"memory": "64MB"}}', "requests.memory must be a Kubernetes quantity"),
        ("REQUIRE_ISOLATION", "yes", "true, false"),
        ("WORKSPACE_SIZE", "20GB", "such as 20Gi"),
        ("MAX_BUILDS", "1.9", "an integer"),
        ("HTTP_PORT", "99999", "from 0 to 65535"),
        ("LEADER_ELECTION", "yes", "true, false"),
        ("LEASE_NAME", "My Lease", "lower-case letters"),
        ("LEASE_SECONDS", "2", "at least 3"),
        ("WORKERS", "0", "at least 1"),
        ("WORKERS", "many", "a number"),
        ("RESYNC_SECONDS", "nan", "at least 1"),
        ("EXECUTOR_PULL_POLICY", "always", "Always, IfNotPresent, Never"),
        ("ALLOWED_LABELS", "team, [a-z]+", "in which * stands for any characters"),
        ("ALLOWED_BUILD_SECRETS", "a/b/c", "names of Secrets, or NAMESPACE/NAME"),
        ("ALLOW_HOST_USERS", "yes", "true, false"),
    ],
)
def test_an_invalid_setting_is_named_with_what_to_write(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^invalid IMAGEWRIGHT_{name} value") as caught:
        read(**{name: value})
    assert said in caught.value.message


def test_typing_mistakes_are_found() -> None:
    environment = {"IMAGEWRIGHT_EXECUTER_IMAGE": "x", "IMAGEWRIGHT_WORKERS": "2", "OTHER": "y"}
    assert Settings.unknown(environment) == ("IMAGEWRIGHT_EXECUTER_IMAGE",)


def node(*, user_namespaces: bool = True, handler: str = "", **labels: str) -> dict[str, Any]:
    handlers = [{"name": handler, "features": {"userNamespaces": user_namespaces}}]
    return {"metadata": {"labels": labels}, "spec": {}, "status": {"runtimeHandlers": handlers}}


def choose(nodes: list[dict[str, Any]], chosen: Profile = Profile.AUTO, **spec: Any) -> Profile:
    return profile.choose(Spec.model_validate(spec), Settings(profile=chosen), nodes)


def test_auto_uses_user_namespaces_if_every_node_supports_them() -> None:
    assert choose([node(), node()]) is Profile.USERNS
    assert choose([node(), node(user_namespaces=False)]) is Profile.PLAIN
    assert choose([node(), {"metadata": {}, "status": {}}]) is Profile.PLAIN
    assert choose([]) is Profile.PLAIN


def test_nodes_where_the_pod_cannot_run_do_not_count() -> None:
    nodes = [node(pool="new"), node(user_namespaces=False, pool="old")]
    assert choose(nodes, podTemplate={"nodeSelector": {"pool": "new"}}) is Profile.USERNS
    assert choose(nodes, podTemplate={"nodeSelector": {"pool": "old"}}) is Profile.PLAIN
    old = node(user_namespaces=False)
    old["spec"]["unschedulable"] = True
    assert choose([node(), old]) is Profile.USERNS


def test_auto_checks_the_handler_of_the_runtime_class() -> None:
    nodes = [node(user_namespaces=False)]
    nodes[0]["status"]["runtimeHandlers"].append({"name": "crun", "features": {"userNamespaces": True}})
    assert choose(nodes) is Profile.PLAIN
    assert choose(nodes, podTemplate={"runtimeClassName": "crun"}) is Profile.USERNS


def test_an_explicit_profile_is_used_as_it_is() -> None:
    assert choose([node(user_namespaces=False)], Profile.USERNS) is Profile.USERNS
    assert choose([node()], Profile.HARDENED) is Profile.HARDENED


def test_host_users_of_the_template_select_the_plain_profile() -> None:
    assert choose([node()], podTemplate={"hostUsers": True}) is Profile.PLAIN


@pytest.mark.parametrize(
    ("patterns", "allowed", "refused"),
    [
        ("a, b*", "a b bc", "ab c A"),
        ("*", "a a.b/c", ""),
        ("*-login, a*z*c", "x-login -login azc abzbc", "login ac azcd"),
        ("a.b/c", "a.b/c", "aXb/c c"),
        ("none", "", "none a"),
        ("a\tb", "a b", "ab"),
    ],
)
def test_patterns_of_an_allow_list(patterns: str, allowed: str, refused: str) -> None:
    labels = read(ALLOWED_LABELS=patterns).allowed.labels
    assert [name for name in allowed.split() if not labels.allows(name)] == []
    assert [name for name in refused.split() if labels.allows(name)] == []


def test_a_namespace_with_patterns_of_its_own_has_no_others() -> None:
    secrets = read(ALLOWED_BUILD_SECRETS="build-*, a/own, a/*-key, b/none").allowed.build_secrets
    setting, ask = "the operator's setting IMAGEWRIGHT_ALLOWED_BUILD_SECRETS", "; ask the cluster's administrator"
    assert secrets.allows("build-1", "c")
    assert not secrets.allows("own", "c")
    assert secrets.allows("own", "a")
    assert secrets.allows("x-key", "a")
    assert not secrets.allows("build-1", "a")
    assert not secrets.allows("build-1", "b")
    assert secrets.refusal("a") == f"{setting} allows own, *-key in namespace a{ask}"
    assert secrets.refusal("b") == f"{setting} allows none in namespace b{ask}"
    assert secrets.refusal("c") == f"{setting} allows build-*{ask}"


def test_repeated_stars_cost_no_more_than_one() -> None:
    assert not read(ALLOWED_LABELS="*" * 200 + "x").allowed.labels.allows("a" * 5000)


LISTS = [
    *(f"ALLOWED_{name}" for name in ("LABELS", "ANNOTATIONS", "ENV", "TOLERATIONS", "NODE_SELECTORS")),
    *("ALLOWED_PRIORITY_CLASSES", "ALLOWED_RUNTIME_CLASSES", "ALLOWED_LOGIN_SECRETS", "ALLOWED_BUILD_SECRETS"),
    *("SERVICE_ACCOUNTS", "NAMESPACES"),
]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("text", [",", " , ,", "a,b c,$x", "a;b", "ü"])
def test_a_list_that_says_nothing_or_what_is_no_name_is_refused_at_the_start(name: str, text: str) -> None:
    """A comma alone meant the default, which is every Secret or every namespace."""
    with pytest.raises(UsageError, match=f"^invalid IMAGEWRIGHT_{name} value "):
        read(**{name: text})


@pytest.mark.parametrize("name", [name for name in LISTS if name.startswith("ALLOWED")])
@pytest.mark.parametrize("text", ["", " ", "none,a", "a none"])
def test_an_allow_list_that_could_mean_two_things_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match="none"):
        read(**{name: text})


@pytest.mark.parametrize("name", ["SERVICE_ACCOUNTS", "NAMESPACES"])
@pytest.mark.parametrize("text", ["*", "team-*", "a,*", "Team", "a/b"])
def test_names_are_no_patterns(name: str, text: str) -> None:
    with pytest.raises(UsageError, match="is not a pattern here"):
        read(**{name: text})


@pytest.mark.parametrize("kind", ["LOGIN", "BUILD"])
@pytest.mark.parametrize("text", ["*,prod-*/none", "*/a", "/a", "a/", "a/b/c", "Prod/a", "a.b/c", "a/none,a/b"])
def test_the_namespace_of_a_pattern_is_a_namespaces_name(kind: str, text: str) -> None:
    """``prod-*/none`` was taken for a namespace of that name, so that nothing was refused."""
    with pytest.raises(UsageError, match=f"^invalid IMAGEWRIGHT_ALLOWED_{kind}_SECRETS value "):
        read(**{f"ALLOWED_{kind}_SECRETS": text})


def test_json_that_is_nested_is_refused() -> None:
    for name in ("RESOURCES", "REGISTRIES"):
        with pytest.raises(UsageError, match="invalid JSON"):
            read(**{name: "[" * 100_000})

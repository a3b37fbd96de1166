"""The chart, by the real Helm: it is what kustomize installs, refuses what it doesn't know, and can be installed."""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.rendered import Json, Name, environment, kinds, lets_out, manifest, name, objects, one, rights
from imagebuilds.waiting import eventually
from installing.helm import CHART, Helm

from imagewright_operator.settings import Settings

ROOT = Path(__file__).parents[3]
SYSTEM = "imagewright-system"
CRD = ("CustomResourceDefinition", "", "imagebuilds.imagewright.dev")

EVERYTHING: Json = {
    "image": {"repository": "registry.example.com/imagewright/operator", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "regcred"}],
    "executor": {
        "image": {
            "repository": "registry.example.com/imagewright/executor",
            "digest": "sha256:" + "a" * 64,
            "pullPolicy": "IfNotPresent",
        }
    },
    "settings": {
        "podProfile": "userns-strict",
        "registries": [{"host": "docker.io", "mirrors": ["mirror.example.com"]}],
        "registryCaConfigMap": "registry-cas",
        "serviceAccounts": ["default", "builder"],
        "resources": {"requests": {"memory": "1Gi"}},
        "engineResources": {"limits": {"memory": "2Gi"}},
        "runnerResources": {"requests": {"memory": "64Mi"}},
        "requireIsolation": False,
        "workspaceSize": "50Gi",
        "allowCsiVolumes": False,
        "allowedLabels": ["team", "example.com/*"],
        "allowedAnnotations": [],
        "allowedEnv": ["HTTPS_PROXY"],
        "allowedTolerations": ["gpu"],
        "allowedNodeSelectors": ["pool"],
        "allowedPriorityClasses": ["low"],
        "allowedRuntimeClasses": ["gvisor"],
        "allowedLoginSecrets": ["team-a/regcred"],
        "allowedBuildSecrets": ["build-*"],
        "allowHostUsers": True,
        "terminationGraceSeconds": 0,
        "logRefreshSeconds": 0,
        "resyncSeconds": 120,
        "workers": 16,
        "maxBuilds": 1000000,
        "maxBuildsPerNamespace": 5,
    },
    "replicas": 2,
    "leaderElection": {"leaseSeconds": 20},
    "podDisruptionBudget": {"enabled": True},
    "serviceAccount": {"name": "builds-operator", "annotations": {"a": "b"}},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podLabels": {"team": "platform"},
    "admissionPolicies": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {}}],
        "apiServerCidrs": ["10.0.0.1/32"],
        "apiServerPorts": [6443],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}


@pytest.fixture
def render(helm: Helm) -> Callable[..., dict[Name, Json]]:
    def template(values: Json | None = None, release: str = "imagewright") -> dict[Name, Json]:
        done = helm("template", release, str(CHART), f"--namespace={SYSTEM}", "--include-crds", values=values or {})
        assert done.returncode == 0, done.stderr
        return objects(done.stdout)

    return template


def test_lint_finds_nothing(helm: Helm) -> None:
    for values in ({}, EVERYTHING, {"namespaces": ["a", "b"]}):
        done = helm("lint", "--strict", str(CHART), values=values)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[WARNING]" not in done.stdout


def test_by_default_it_is_what_kustomize_installs_object_by_object(
    api: ApiServer, render: Callable[..., dict[Name, Json]]
) -> None:
    base = objects(api.kubectl("kustomize", str(ROOT / "deploy")))
    del base["Namespace", "", SYSTEM]  # helm --create-namespace makes it
    expected, found = ({name(one): one for one in map(plain, side.values())} for side in (base, render()))
    assert set(found) == set(expected)
    for key, document in expected.items():
        if key != CRD:
            assert found[key] == document, key
        else:
            assert found[key]["spec"] == document["spec"]


def plain(document: Json) -> Json:
    """An object without what Helm and kustomize add in their own ways: labels, and how a new ConfigMap restarts
    Pods.
    """
    ours = copy.deepcopy(document)
    ours["metadata"]["name"] = re.sub(r"^(imagewright-settings)-\w+$", r"\1", ours["metadata"]["name"])
    holders = [ours["metadata"]]
    if ours["kind"] == "Deployment":
        spec = ours["spec"]
        holders += [spec["template"]["metadata"], {"labels": spec["selector"]["matchLabels"]}]
        spec["template"]["metadata"]["annotations"].pop("checksum/settings", None)
        reference = spec["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]
        reference["name"] = re.sub(r"^(imagewright-settings)-\w+$", r"\1", reference["name"])
    for holder in holders:
        labels = holder.setdefault("labels", {})
        for key in ("app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"):
            labels.pop(key, None)
        labels.pop("helm.sh/chart", None)
    if ours["kind"] == "ConfigMap":  # kustomize's generator gives it none
        ours["metadata"].pop("labels")
    return ours


@pytest.mark.parametrize(
    "values",
    [
        {},
        EVERYTHING,
        {"serviceAccount": {"create": False, "name": "theirs"}, "rbac": {"create": False, "userRoles": False}},
        {"namespaces": ["default"], "hostUsers": True, "podSecurityContext": {"runAsNonRoot": True}},
        {"topologySpreadConstraints": [], "replicas": 3, "resources": {}, "podAnnotations": {}},
        {"fullnameOverride": "builds", "metrics": {"service": True}, "networkPolicy": {"enabled": True}},
    ],
    ids=["default", "everything", "theirs", "namespaced", "bare", "renamed"],
)
def test_the_api_server_accepts_what_it_renders(
    values: Json, api: ApiServer, render: Callable[..., dict[Name, Json]]
) -> None:
    found = render(values, release="another")
    documents = [
        document for document in found.values() if document["kind"] not in ("ServiceMonitor", "PrometheusRule")
    ]
    flags = ("--dry-run=server", "--validate=strict", "--filename=-")
    done = api.try_kubectl("apply", *flags, stdin=manifest(documents))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(documents)
    settings = environment(found)
    assert Settings.unknown(settings) == ()
    Settings.from_environment(settings)


def test_every_setting_of_the_documentation_is_a_value(render: Callable[..., dict[Name, Json]]) -> None:
    documented = set(re.findall(r"^- `(IMAGEWRIGHT_\w+)`", (ROOT / "docs/operator.md").read_text(), re.MULTILINE))
    # The Deployment's own: probes and Service name the port, the Role the Secret, and no file is mounted.
    fixed = {"IMAGEWRIGHT_HTTP_PORT", "IMAGEWRIGHT_SIGNING_KEY_FILE", "IMAGEWRIGHT_SIGNING_KEY_SECRET"}
    assert set(environment(render({**EVERYTHING, "namespaces": ["a"]}))) == documented - fixed
    settings = environment(render(EVERYTHING))
    read = Settings.from_environment(settings)
    assert read.executor_image == "registry.example.com/imagewright/executor@sha256:" + "a" * 64
    assert (read.termination_grace_s, read.workers, read.csi_volumes) == (0, 16, False)
    assert settings["IMAGEWRIGHT_MAX_BUILDS"] == "1000000", "not 1e+06"
    assert read.service_accounts == {"default", "builder"}
    assert (read.allowed.labels.patterns, read.allowed.annotations.patterns) == (("team", "example.com/*"), ())
    assert read.allowed.host_users
    judged = one(render(EVERYTHING), "ConfigMap", "imagewright-admission")["data"]
    assert Settings.from_environment(judged).allowed == read.allowed, "operator and policy have the same rules"
    assert (read.leader_election, read.lease_name, read.lease_s) == (True, "imagewright-operator", 20)


def test_values_that_the_documentation_shows_are_values(helm: Helm) -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")}
    blocks = re.findall(r"^```yaml\n(.*?)^```$", pages["gitops.md"], re.MULTILINE | re.DOTALL)
    specs = [document.get("spec", {}) for block in blocks for document in yaml.safe_load_all(block)]
    shown = [spec["source"]["helm"]["valuesObject"] for spec in specs if "source" in spec]
    shown += [spec["values"] for spec in specs if "values" in spec]
    assert len(shown) == 2
    for values in shown:
        assert helm("template", "imagewright", str(CHART), values=values).returncode == 0
    sets = [flag for name in ("installing.md", "monitoring.md") for flag in re.findall(r"--set (\S+)", pages[name])]
    assert len(sets) >= 3
    done = helm("template", "imagewright", str(CHART), *(part for flag in sets for part in ("--set", flag)))
    assert done.returncode == 0, done.stderr
    assert {"ServiceMonitor", "PrometheusRule"} <= kinds(objects(done.stdout))


def test_a_changed_setting_starts_the_operator_again(render: Callable[..., dict[Name, Json]]) -> None:
    def checksum(values: Json) -> str:
        text: str = one(render(values), "Deployment")["spec"]["template"]["metadata"]["annotations"][
            "checksum/settings"
        ]
        return text

    assert checksum({"settings": {"workers": 9}}) != checksum({}) == checksum({"podLabels": {"a": "b"}})
    assert checksum({"replicas": 2}) == checksum({"replicas": 3}) != checksum({})


@pytest.mark.parametrize(
    ("values", "elects"),
    [
        ({}, False),
        ({"replicas": 2}, True),
        ({"replicas": 2, "leaderElection": {"enabled": False}}, False),
        ({"leaderElection": {"enabled": True}}, True),
    ],
)
def test_several_replicas_elect_a_leader_unless_it_is_said_otherwise(
    values: Json, elects: bool, render: Callable[..., dict[Name, Json]]
) -> None:
    found = render(values, release="another")
    assert Settings.from_environment(environment(found)).leader_election is elects
    assert any(kind == "Role" and name.endswith("-leader") for kind, _, name in found) is elects
    key = Settings.from_environment(environment(found)).signing_key_secret
    assert key == "another-imagewright-operator-key", "two releases in one namespace have two keys"
    rules = one(found, "Role", key)["rules"]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in rules] == [(["create"], None), (["get"], [key])]
    if elects:
        called = environment(found)["IMAGEWRIGHT_LEASE_NAME"]
        assert called == "another-imagewright-operator", "two releases in one namespace have two leases"
        rules = one(found, "Role", f"{called}-leader")["rules"]
        assert [rule.get("resourceNames") for rule in rules] == [None, [called]]


def test_the_options_are_what_the_overlays_are(api: ApiServer, render: Callable[..., dict[Name, Json]]) -> None:
    def overlay(folder: str) -> dict[Name, Json]:
        return objects(api.kubectl("kustomize", str(ROOT / "deploy/overlays" / folder)))

    available = render({"replicas": 2, "podDisruptionBudget": {"enabled": True}})
    expected = overlay("high-availability")
    assert (
        without_instance(one(available, "PodDisruptionBudget")["spec"]) == one(expected, "PodDisruptionBudget")["spec"]
    )
    leader = "imagewright-operator-leader"
    assert one(available, "Role", leader)["rules"] == one(expected, "Role", leader)["rules"]
    assert one(available, "RoleBinding", leader)["subjects"] == one(expected, "RoleBinding", leader)["subjects"]
    assert environment(available)["IMAGEWRIGHT_LEADER_ELECTION"] == "true"
    pods = [one(side, "Deployment")["spec"]["template"]["spec"] for side in (available, expected)]
    spreads = [without_instance(pod["topologySpreadConstraints"]) for pod in pods]
    assert spreads[0] == spreads[1]

    policies = [
        one(side, "NetworkPolicy")["spec"]
        for side in (render({"networkPolicy": {"enabled": True}}), overlay("restricted-network"))
    ]
    assert without_instance(policies[0]) == policies[1]

    admission, expected = render({"admissionPolicies": {"enabled": True}}), overlay("admission-policies")
    assert set(admission) - set(render({})) == set(expected) - set(overlay("../../deploy"))
    for policy in ("imagewright-pods", "imagewright-imagebuilds"):
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            assert one(admission, kind, policy)["spec"] == one(expected, kind, policy)["spec"]
    parameters = [one(side, "ConfigMap", "imagewright-admission")["data"] for side in (admission, expected)]
    assert parameters[0] == parameters[1]
    here = render({"admissionPolicies": {"enabled": True}, "namespaces": ["a", "b"]})
    within = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
    for policy in ("imagewright-pods", "imagewright-imagebuilds"):
        binding = one(here, "ValidatingAdmissionPolicyBinding", policy)["spec"]
        assert binding["matchResources"] == {"namespaceSelector": {"matchExpressions": [within]}}, policy

    namespaced = render({"namespaces": ["builds"]})
    for role in ("imagewright-operator", "imagewright-operator-key"):
        assert rights(one(namespaced, "Role", role)) == rights(one(overlay("namespaced"), "Role", role))
    assert "ClusterRoleBinding" not in kinds(namespaced)

    monitored = render({"metrics": EVERYTHING["metrics"]})
    expected = overlay("monitoring")
    for kind, called in (("PrometheusRule", "imagewright-operator"), ("ServiceMonitor", "imagewright-operator")):
        assert without_instance(one(monitored, kind, called)["spec"]) == one(expected, kind, called)["spec"]
    boards = [one(side, "ConfigMap", "imagewright-dashboard") for side in (monitored, expected)]
    assert boards[0]["data"] == boards[1]["data"]


def test_the_network_policy_of_executors_is_the_components_in_each_namespace(
    api: ApiServer, render: Callable[..., dict[Name, Json]]
) -> None:
    def policies(**executors: Any) -> dict[str, Json]:
        values = {"namespaces": ["a", "b"], "networkPolicy": {"enabled": True, "executors": executors}}
        found = render(values).items()
        return {its: item["spec"] for (kind, its, _), item in found if kind == "NetworkPolicy" and its != SYSTEM}

    (component,) = objects(api.kubectl("kustomize", str(ROOT / "deploy/components/executor-network"))).values()
    assert policies() == dict.fromkeys("ab", component["spec"])
    assert policies(enabled=False) == {}
    some = policies(exceptCidrs=["100.100.100.200/32"])["a"]
    assert lets_out(some, "169.254.169.254", 80)
    assert lets_out(some, "fd00:ec2::254", 80)
    assert not lets_out(some, "100.100.100.200", 80)


def without_instance(node: Json) -> Json:
    """Helm's selectors name the release as well."""
    kept: Json = json.loads(
        json.dumps(node), object_hook=lambda one: {k: v for k, v in one.items() if k != "app.kubernetes.io/instance"}
    )
    return kept


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"replica": 2}, "replica"),
        ({"settings": {"podProfil": "auto"}}, "podProfil"),
        ({"settings": {"podProfile": "root"}}, "userns-strict"),
        ({"settings": {"workers": 0}}, "workers"),
        ({"settings": {"workers": "8"}}, "workers"),
        ({"leaderElection": {"enabled": "yes"}}, "leaderElection"),
        ({"leaderElection": {"leaseSeconds": 2}}, "leaseSeconds"),
        ({"settings": {"workspaceSize": "20 GB"}}, "workspaceSize"),
        ({"settings": {"registries": [{"mirrors": ["m"]}]}}, "host"),
        ({"settings": {"registries": {"host": "docker.io"}}}, "registries"),
        ({"namespaces": "builds"}, "namespaces"),
        ({"namespaces": ["Builds"]}, "namespaces"),
        ({"image": {"repository": ""}}, "repository"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"image": {"tag": "1.0:2"}}, "tag"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts"),
        ({"networkPolicy": {"apiServerCidrs": ["10.0.0.1"]}}, "apiServerCidrs"),
        ({"networkPolicy": {"executors": {"exceptCidrs": ["169.254.169.254"]}}}, "exceptCidrs"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name says which one to use"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(values: Json, word: str, helm: Helm) -> None:
    done = helm("template", "imagewright", str(CHART), values=values)
    assert done.returncode != 0
    assert word in done.stderr, done.stderr


def test_it_is_installed_works_with_its_rights_is_upgraded_and_goes_and_the_definition_stays(
    api: ApiServer,
    helm: Helm,
    namespace: Namespace,
    operators: Callable[..., Operator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, release = f"system-{uuid.uuid4().hex[:8]}", f"r-{uuid.uuid4().hex[:6]}"
    where = f"--namespace={system}"
    values: Json = {"namespaces": [namespace.name], "settings": {"workers": 2}}
    done = helm("install", release, str(CHART), where, "--create-namespace", values=values)
    assert done.returncode == 0, done.stderr
    assert "kubectl apply --server-side --force-conflicts -f crds/" in done.stdout
    assert f"serves {namespace.name}." in done.stdout

    called = f"{release}-imagewright-operator"
    token = api.kubectl("create", "token", called, where)

    def settings() -> dict[str, str]:
        found = json.loads(api.kubectl("get", "configmap", f"{release}-imagewright-settings", where, "--output=json"))
        return {key.removeprefix("IMAGEWRIGHT_"): value for key, value in found["data"].items()}

    operator = operators(api.kubeconfig(token), **settings())
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    digest = namespace.pushes(pod)
    assert namespace.becomes("True BuildSucceeded")["image"]["digest"] == digest
    assert "Forbidden" not in operator.log()

    done = helm("upgrade", release, str(CHART), where, values={**values, "replicas": 2})
    assert done.returncode == 0, done.stderr
    deployment = json.loads(api.kubectl("get", "deployment", called, where, "--output=json"))
    assert deployment["spec"]["replicas"] == 2
    operator.stop()
    monkeypatch.setenv("POD_NAMESPACE", system)
    leader = operators(api.kubeconfig(token), **settings())
    eventually(lambda: "became the leader" in leader.log(), "a leader, by the rights that it has")
    assert leader.stop() == 0
    assert api.kubectl("get", "lease", called, where, "--output=jsonpath={.spec.holderIdentity}") == ""

    done = helm("uninstall", release, where)
    assert done.returncode == 0, done.stderr
    assert namespace.status()["image"]["digest"] == digest, "definition and ImageBuilds are still there"
    kinds_left = "deployment,configmap,serviceaccount,clusterrole,role,rolebinding"
    selector = f"--selector=app.kubernetes.io/instance={release}"
    assert api.kubectl("get", kinds_left, "--all-namespaces", selector, "--output=name") == ""
    api.kubectl("delete", "namespace", system, "--wait=false")

"""The admission policies of deploy/ on a real API server, and that they refuse what the operator does."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Json, Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.rendered import manifest, objects, one
from imagebuilds.waiting import eventually

from imagewright_operator.api.envrules import ENGINES_OWN, RESERVED
from imagewright_operator.patterns import AllowList
from imagewright_operator.reconcile import validation
from imagewright_operator.settings import Allowed, Settings

ROOT = Path(__file__).parents[3]
COMPONENT = ROOT / "deploy" / "overlays" / "admission-policies"
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
PARAMETERS = "imagewright-admission"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


class Policies:
    """Those of deploy/, for one namespace: other tests share the API server."""

    def __init__(self, api: ApiServer, namespace: Namespace) -> None:
        self._api, self._namespace = api, namespace
        rendered = objects(api.kubectl("kustomize", str(COMPONENT)))
        self.parameters: Json = one(rendered, "ConfigMap", PARAMETERS)
        self._applied = [json.loads(json.dumps(item)) for (kind, _, _), item in rendered.items() if kind in KINDS]
        for item in self._applied:
            item["metadata"]["name"] += f"-{namespace.name}"
            if item["kind"].endswith("Binding"):
                item["spec"]["policyName"] += f"-{namespace.name}"
                here = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
                item["spec"]["matchResources"] = {"namespaceSelector": here}
                if "paramRef" in item["spec"]:
                    item["spec"]["paramRef"]["namespace"] = namespace.name
        self.parameters["metadata"]["namespace"] = namespace.name

    def apply(self) -> None:
        done = self._api.try_kubectl(
            "apply", "--validate=strict", "--filename=-", stdin=manifest([self.parameters, *self._applied])
        )
        assert done.returncode == 0, done.stderr
        probe = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "labels": {"imagewright.dev/x": "y"}}}
        spec = {"containers": [{"name": "a", "image": "x"}]}
        eventually(lambda: self.refuses({**probe, "spec": spec}), "a policy for Pods that is in force")
        bad = self._namespace.imagebuild("probe", podTemplate={"labels": {"a": "b"}})
        eventually(lambda: self.refuses(bad), "a policy for ImageBuilds that is in force")

    def refuses(self, body: Json) -> str:
        """Why, "" if they don't; nothing is stored."""
        done = self._namespace.try_kubectl("create", "--dry-run=server", "--filename=-", given=body)
        return done.stderr if done.returncode else ""

    def set(self, **parameters: str) -> None:
        self.parameters["data"].update({f"IMAGEWRIGHT_{name}": value for name, value in parameters.items()})
        self._namespace.kubectl("apply", "--filename=-", given=self.parameters)

    def delete(self) -> None:
        for item in self._applied:
            self._api.kubectl("delete", item["kind"].lower(), item["metadata"]["name"])


@pytest.fixture
def policies(api: ApiServer, namespace: Namespace) -> Iterator[Policies]:
    made = Policies(api, namespace)
    made.apply()
    yield made
    made.delete()


def pod_with(labels: Json | None = None, annotations: Json | None = None) -> Json:
    metadata = {"name": "a-pod", "labels": labels or {}, "annotations": annotations or {}}
    containers = [{"name": "executor", "image": "x"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def test_only_the_operator_creates_and_nobody_changes_a_builds_pod(
    policies: Policies, namespace: Namespace, operator: Operator
) -> None:
    """The operator logs in as its ServiceAccount, which the policy names; the test is an administrator."""
    words = "only the operator may create Pods with labels, annotations or owners of imagewright.dev, not admin"
    assert words in policies.refuses(pod_with({"imagewright.dev/uid": "x"}))
    assert words in policies.refuses(pod_with(annotations={"imagewright.dev/signature": "x"}))
    assert words in policies.refuses(pod_with({"app.kubernetes.io/managed-by": "imagewright"}))
    owner = {
        "apiVersion": "imagewright.dev/v1alpha1",
        "kind": "ImageBuild",
        "name": "app",
        "uid": "u",
        "controller": True,
    }
    owned = pod_with()
    owned["metadata"]["ownerReferences"] = [owner]
    assert words in policies.refuses(owned)
    assert policies.refuses(pod_with({"app": "x"}, {"example.com/imagewright.dev": "x"})) == ""

    namespace.apply()
    pod = namespace.pod()
    name = pod["metadata"]["name"]

    def patched(patch: Json, *flags: str) -> str:
        return namespace.try_kubectl(
            "patch", "pod", name, "--type=merge", f"--patch={json.dumps(patch)}", *flags
        ).stderr

    label, signature = "imagewright.dev/imagebuild", "imagewright.dev/signature"
    for changed in (
        {"labels": {label: "other"}}, {"labels": {label: None}}, {"labels": {"imagewright.dev/x": "y"}},
        {"annotations": {signature: "x"}}, {"annotations": {signature: None}},
    ):  # fmt: skip
        assert "labels and annotations of imagewright.dev cannot be added" in patched({"metadata": changed})
    for changed in (
        {"labels": {"app.kubernetes.io/component": None}}, {"labels": {"app.kubernetes.io/managed-by": "helm"}},
        {"labels": {"app.kubernetes.io/name": None}},
    ):  # fmt: skip
        assert "labels and annotations of imagewright.dev cannot be" in patched({"metadata": changed})
    assert "the owner of a build's Pod cannot be changed" in patched({"metadata": {"ownerReferences": None}})
    assert "cannot be added" in patched({"metadata": {"labels": {label: "x"}}}, "--subresource=status")
    assert "cannot be added" in patched({"metadata": {"annotations": {signature: "x"}}}, "--subresource=status")
    images = [{**one, "image": "evil"} for one in pod["spec"]["containers"]]
    assert "the images of a build's Pod cannot be changed" in patched({"spec": {"containers": images}})
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "x"}]}}
    assert "gets no ephemeral containers" in patched(debug, "--subresource=ephemeralcontainers")
    assert patched({"metadata": {"labels": {"team": "a"}, "annotations": {"a": "b"}}}) == ""
    plain = pod_with()
    namespace.kubectl("create", "--filename=-", given=plain)
    adopted = json.dumps({"metadata": {"labels": {label: "app"}}})
    done = namespace.try_kubectl("patch", "pod", "a-pod", "--type=merge", f"--patch={adopted}")
    assert "cannot be added" in done.stderr
    namespace.starts(pod)  # a kubelet's part: pods/status
    digest = namespace.pushes(pod)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def variable(name: str) -> Json:
    return {"env": [{"name": name, "value": "x"}]}


def affinity(**terms: Any) -> Json:
    return {"affinity": {"nodeAffinity": terms}}


POOL = {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}
NODE = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}
REFUSED: dict[str, tuple[Json, str, str]] = {  # by which setting, "" for none, and the pattern that allows it
    "labels": ({"labels": {"app": "web"}}, "LABELS", "app"),
    "annotations": ({"annotations": {"example.com/role": "x"}}, "ANNOTATIONS", "example.com/*"),
    "env": (variable("NODE_OPTIONS"), "ENV", "NODE_*"),
    "reserved env": (variable("GIT_EXEC_PATH"), "", ""),
    "tolerations": ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, "TOLERATIONS", "gpu"),
    "account": ({"serviceAccountName": "admin"}, "", ""),
    "own label": ({"labels": {"imagewright.dev/uid": "x"}}, "", ""),
    "cluster's annotation": ({"annotations": {"a.kubernetes.io/b": "x"}}, "", ""),
    "cluster's priority": ({"priorityClassName": "system-node-critical"}, "", ""),
    "csi": ({"volumes": [{"name": "a", "mountPath": "/a", "csi": {"driver": "x"}}]}, "", ""),
    "every taint": ({"tolerations": [{"operator": "Exists"}]}, "TOLERATIONS", "*"),
    "node selector": ({"nodeSelector": {"pool": "a"}}, "NODE_SELECTORS", "p*l"),
    "node affinity": (affinity(**{REQUIRED: {"nodeSelectorTerms": [POOL]}}), "NODE_SELECTORS", "pool"),
    "node by name": (affinity(**{REQUIRED: {"nodeSelectorTerms": [NODE]}}), "NODE_SELECTORS", "metadata.name"),
    "preferred": (affinity(**{PREFERRED: [{"weight": 1, "preference": POOL}]}), "NODE_SELECTORS", "pool"),
    "other Pods": ({"affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": "a", "namespaceSelector": {}}]}}}, "", ""),
    "other namespaces": (
        {"affinity": {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": {"topologyKey": "a", "namespaces": ["a"]}}]}}}, "", "",
    ),
    "priority": ({"priorityClassName": "high"}, "PRIORITY_CLASSES", "high"),
    "runtime": ({"runtimeClassName": "gvisor"}, "RUNTIME_CLASSES", "gvisor"),
}  # fmt: skip


def secret_volume(**source: Any) -> Json:
    return {"podTemplate": {"volumes": [{"name": "v", "mountPath": "/v", **source}]}}


def reference() -> Json:
    return {"name": "s", "key": "k"}


LOGINS: list[Json] = [
    {"output": {"tags": ["a/b:1"], "pushSecretRef": {"name": "s"}}},
    {"source": {"git": {"url": "https://a.example.com/b.git", "secretRef": {"name": "s"}}}},
    {"registries": [{"host": "a", "clientCertificateSecretRef": {"name": "s"}}]},
    {"podTemplate": {"imagePullSecrets": [{"name": "s"}]}},
    {"podTemplate": {"env": [{"name": "GIT_TOKEN", "valueFrom": {"secretKeyRef": reference()}}]}},
    secret_volume(secret={"secretName": "s"}),
    secret_volume(projected={"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "s"}}]}),
    secret_volume(csi={"driver": "x", "nodePublishSecretRef": {"name": "s"}}),
]
BUILDS: list[Json] = [
    {"secrets": [{"id": "npm", "secretKeyRef": reference()}]},
    {"ssh": [{"id": "key", "secretKeyRef": reference()}]},
]


def test_it_refuses_what_the_operator_refuses_and_allows_what_the_settings_allow(
    policies: Policies, namespace: Namespace
) -> None:
    allowing: dict[str, list[str]] = {}
    for name, (template, setting, pattern) in REFUSED.items():
        said = policies.refuses(namespace.imagebuild(podTemplate=template))
        assert "forbidden: " in said.lower() or (not setting and "is invalid: " in said), f"{name}: {said}"
        assert not setting or f"IMAGEWRIGHT_ALLOWED_{setting}" in said, f"{name}: {said}"
        if setting:
            allowing.setdefault(setting, ["GIT_TOKEN"]).append(pattern)
    assert "IMAGEWRIGHT_ALLOW_HOST_USERS" in policies.refuses(namespace.imagebuild(podTemplate={"hostUsers": True}))
    allowed = {f"ALLOWED_{setting}": ", ".join(patterns) for setting, patterns in allowing.items()}
    policies.set(**allowed, ALLOW_HOST_USERS="true")
    host = namespace.imagebuild(podTemplate={"hostUsers": True})
    eventually(lambda: not policies.refuses(host), "the new parameters to be known")
    for name, (template, setting, _) in REFUSED.items():
        said = policies.refuses(namespace.imagebuild(podTemplate=template))
        assert bool(said) is not bool(setting), f"{name}: {said}"

    for setting, uses in (("LOGIN_SECRETS", LOGINS), ("BUILD_SECRETS", BUILDS)):
        for patterns, fine in (
            ("x*, s", True), ("none", False), ("ss", False), (f"x,{namespace.name}/s", True),
            (f"s {namespace.name}/x", False), ("s,other/x", True),
        ):  # fmt: skip
            policies.set(**{f"ALLOWED_{setting}": patterns, "ALLOW_CSI_VOLUMES": "true"})
            bodies = [namespace.imagebuild(**spec) for spec in uses]
            eventually(lambda: bool(policies.refuses(bodies[0])) is not fine, f"{patterns} to be known")  # noqa: B023
            for body in bodies:
                said = policies.refuses(body)
                assert bool(said) is not fine, f"{patterns}: {body['spec']}: {said}"
                assert fine or f"IMAGEWRIGHT_ALLOWED_{setting}" in said
        policies.set(**{f"ALLOWED_{setting}": "*"})


EXISTS = {"operator": "Exists"}
PARTS: list[Json] = [
    *({"tolerations": [one]} for one in (EXISTS, {**EXISTS, "key": ""}, {"key": "gpu"}, {"key": "builds"})),
    *({kind: {key: "x"}} for kind in ("labels", "annotations") for key in (
        "app", "imagewright.dev/uid", "x.kubernetes.io/a", "xkubernetes.io/a", "a.b/c", "a/k8s.io/b", "k8s.io")),
    *({"env": [{"name": name, "value": "x"}]} for name in (
        "NODE_OPTIONS", "GIT_TOKEN", "GIT_EXEC_PATH", "AWS_ENDPOINT_URL", "HTTP_PROXY", "IMAGEWRIGHT_A", "DOCKER_a_USR")),
    *({"env": [{"name": "GIT_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]} for name in "sx"),
    *({"nodeSelector": {key: "a"}} for key in ("pool", "kubernetes.io/arch", "kubernetes.io/other", "builds")),
    affinity(**{REQUIRED: {"nodeSelectorTerms": [POOL]}}), affinity(**{PREFERRED: [{"weight": 1, "preference": NODE}]}),
    affinity(**{REQUIRED: {"nodeSelectorTerms": [{}]}}), affinity(**{REQUIRED: {"nodeSelectorTerms": [{"matchFields": None}]}}),
    *({"affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": "a", **one}]}}} for one in (
        {}, {"namespaces": []}, {"namespaces": ["a"]}, {"namespaceSelector": {}}, {"labelSelector": {"matchLabels": {"a": "b"}}})),
    *({"priorityClassName": name} for name in ("high", "system-node-critical")), {"runtimeClassName": "gvisor"},
    *({"serviceAccountName": name} for name in ("default", "builder", "admin")),
    {"hostUsers": True}, {"hostUsers": False},
    *({"securityContext": one} for one in (
        {}, {"privileged": True}, {"privileged": False}, {"procMount": "Default"}, {"seLinuxOptions": {}}, {"runAsUser": 1},
        {"capabilities": {"add": ["A"]}}, {"capabilities": {"add": [], "drop": ["ALL"]}},
        {"appArmorProfile": {"type": "Unconfined"}}, {"appArmorProfile": {"type": "Localhost", "localhostProfile": "a"}})),
    *({"securityContext": {"seccompProfile": {"type": kind}}} for kind in (
        "RuntimeDefault", "Localhost", "Unconfined", "None")),
    *({"volumes": [{"name": "v", "mountPath": path, "emptyDir": {}}]} for path in (
        "/data", "/data//x/", "/data/./x", "/usr/bin", "/usrlocal", "/var", "/var/lib", "/var//run/", "/./etc", "//root/", "/a/../etc",
        "/kaniko", "/.", "//", "/run", "/run/x", "/run/secrets", "/var/run/./secrets/a", "/etc2", "/lib64/a")),
    *({"volumes": [{"name": "v", "mountPath": "/v", **one}]} for one in (
        {}, {"csi": {"driver": "x"}}, {"csi": {"driver": "x", "nodePublishSecretRef": {"name": "s"}}},
        {"secret": {"secretName": "s"}}, {"secret": {"secretName": "x"}}, {"emptyDir": {}, "configMap": {"name": "a"}},
        {"projected": {"sources": [{"secret": {"name": "s"}}]}}, {"projected": {"sources": [{}]}})),
    {"volumes": [{"name": "imagewright-work", "mountPath": "/v", "emptyDir": {}}]},
    {"imagePullSecrets": [{"name": "s"}]}, {"resources": {"limits": {"cpu": "1"}}},
]  # fmt: skip
INSTALLATIONS = [
    {},
    {"ALLOWED_TOLERATIONS": "none", "ALLOWED_LABELS": "*", "ALLOWED_ANNOTATIONS": "*", "ALLOWED_PRIORITY_CLASSES": "*",
     "SERVICE_ACCOUNTS": "default, builder", "POD_PROFILE": "hardened", "ALLOW_CSI_VOLUMES": "true", "ALLOWED_ENV": "*"},
    {"ALLOWED_TOLERATIONS": ",gpu\n\tbuilds,", "ALLOWED_LABELS": "a*\tk8s.io", "ALLOWED_ENV": "NODE_*\r\nGIT_*", "POD_PROFILE": "userns",
     "ALLOWED_LOGIN_SECRETS": "x,,s-*", "ALLOW_HOST_USERS": "true", "ALLOWED_NODE_SELECTORS": "pool\nkubernetes.io/*",
     "SERVICE_ACCOUNTS": "builder\nother", "ALLOWED_PRIORITY_CLASSES": "system-*"},
    {"ALLOWED_TOLERATIONS": "*", "ALLOWED_NODE_SELECTORS": "metadata.*", "ALLOW_HOST_USERS": "true", "ALLOWED_RUNTIME_CLASSES": "g*r"},
]  # fmt: skip


@pytest.mark.parametrize("given", INSTALLATIONS, ids=["defaults", "hardened", "lists", "everything"])
def test_operator_and_policy_judge_the_same_specs_alike(
    policies: Policies, namespace: Namespace, given: dict[str, str]
) -> None:
    """Each part alone, and some together: what either lets pass the other does, too."""
    chance = random.Random(str(given))
    policies.set(**given)
    settings = Settings.from_environment(policies.parameters["data"])
    together = [chance.choice(PARTS) | chance.choice(PARTS) | chance.choice(PARTS) for _ in range(30)]
    bodies = [namespace.imagebuild(f"app-{number}", podTemplate=one) for number, one in enumerate([*PARTS, *together])]

    def judge(body: Json) -> bool:
        imagebuild, problem = validation.read({**body, "metadata": {**body["metadata"], "uid": "u"}})
        return not problem and not validation.problems(imagebuild, settings)

    expected = {body["metadata"]["name"] for body in bodies if judge(body)}
    assert 20 < len(expected) < len(bodies) - 20

    def allowed() -> set[str]:
        done = namespace.try_kubectl(
            "create",
            "--dry-run=server",
            "--filename=-",
            "--output=name",
            given={"apiVersion": "v1", "kind": "List", "items": bodies},
        )
        said.append(done.stderr)
        return {line.rpartition("/")[2] for line in done.stdout.splitlines()}

    said: list[str] = []
    found: set[str] = set()
    for _ in range(4):  # until the API server knows the new parameters
        found = allowed()
        if found == expected:
            break
        time.sleep(0.5)
    by_name = {body["metadata"]["name"]: body["spec"]["podTemplate"] for body in bodies}
    assert [by_name[name] for name in expected - found] == [], said[-1]
    assert [by_name[name] for name in found - expected] == [], "only the operator refuses these"


def test_every_example_passes(policies: Policies) -> None:

    for file in sorted((ROOT / "examples").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if document["kind"] == "ImageBuild":
                assert policies.refuses(document) == "", file.name


def test_labels_of_what_was_there_before_can_be_edited(
    api: ApiServer, namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    namespace.apply(podTemplate={"labels": {"app": "web"}})
    policies = Policies(api, namespace)
    policies.apply()
    try:
        namespace.kubectl("label", "imagebuild", "app", "a=b")
        done = namespace.try_kubectl("patch", "imagebuild", "app", "--type=merge", '--patch={"spec":{"target":"x"}}')
        assert "IMAGEWRIGHT_ALLOWED_LABELS: app" in done.stderr
        namespace.kubectl("patch", "imagebuild", "app", "--type=merge", '--patch={"spec":{"podTemplate":null}}')
    finally:
        policies.delete()


def test_the_policies_have_the_operators_defaults_and_rules(api: ApiServer) -> None:
    rendered = objects(api.kubectl("kustomize", str(COMPONENT)))
    data = one(rendered, "ConfigMap", PARAMETERS)["data"]
    assert Settings.unknown(data) == ()
    assert Settings.from_environment(data).allowed == Allowed()
    listed = {value.setting for value in (getattr(Allowed(), name) for name in Allowed.__slots__)
              if isinstance(value, AllowList)}  # fmt: skip
    others = ("ALLOW_HOST_USERS", "ALLOW_CSI_VOLUMES", "SERVICE_ACCOUNTS", "POD_PROFILE")
    assert set(data) == listed | {f"IMAGEWRIGHT_{name}" for name in others}
    assert Settings.from_environment(data) == Settings()
    policy = json.dumps(one(rendered, KINDS[0], "imagewright-imagebuilds"))
    assert RESERVED in policy
    assert ENGINES_OWN in policy
    assert all(name in policy for name in data)

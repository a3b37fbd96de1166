"""deploy/ and its overlays: each renders, the API server accepts it, and the operator works with what it gives."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.rendered import Json, Name, environment, kinds, manifest, name, objects, one, renamed, rights, selects

from imagewright_operator.settings import Settings

ROOT = Path(__file__).parents[3]
OVERLAYS = sorted(path.parent for path in (ROOT / "deploy" / "overlays").glob("*/kustomization.yaml"))
SYSTEM = "imagewright-system"


@pytest.fixture
def render(api: ApiServer) -> Callable[[Path], dict[Name, Json]]:
    return lambda folder: objects(api.kubectl("kustomize", str(folder)))


@pytest.fixture
def base(render: Callable[[Path], dict[Name, Json]]) -> dict[Name, Json]:
    return render(ROOT / "deploy")


@pytest.mark.parametrize("folder", [ROOT / "deploy", *OVERLAYS], ids=lambda path: path.name)
def test_the_api_server_accepts_every_object_as_it_is_written(
    folder: Path, api: ApiServer, namespace: Namespace, render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(folder)
    documents = [
        document
        for document in renamed(
            found, lambda text: namespace.name if text in ("builds", "imagewright-seccomp") else text
        )
        if document["kind"] not in ("ServiceMonitor", "PrometheusRule")  # kinds that this API server hasn't
    ]
    flags = ("--dry-run=server", "--validate=strict", "--filename=-")
    done = api.try_kubectl("apply", *flags, stdin=manifest(documents))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(documents)
    settings = environment(found)
    assert Settings.unknown(settings) == ()
    Settings.from_environment(settings)


def test_the_api_server_accepts_what_installs_the_seccomp_profile(
    api: ApiServer, namespace: Namespace, render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(ROOT / "deploy/seccomp")
    documents = renamed(found, lambda text: namespace.name if text == "imagewright-seccomp" else text)
    flags = ("--dry-run=server", "--validate=strict", "--filename=-")
    done = api.try_kubectl("apply", *flags, stdin=manifest(documents))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(found) == 3


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_leaves_the_operators_pod_what_it_is(
    folder: Path, base: dict[Name, Json], render: Callable[[Path], dict[Name, Json]]
) -> None:
    pods = [one(found, "Deployment")["spec"]["template"]["spec"] for found in (base, render(folder))]
    for pod in pods:
        pod.pop("topologySpreadConstraints", None)
        pod["containers"][0]["envFrom"][0]["configMapRef"].pop("name")  # a hash of its content
    assert pods[0] == pods[1]


def test_high_availability_is_two_operators_on_two_nodes_of_which_a_drain_takes_one(
    base: dict[Name, Json], render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(ROOT / "deploy/overlays/high-availability")
    (settings,) = (key for key in set(found) - set(base) if key[0] == "ConfigMap")
    leader = "imagewright-operator-leader"
    assert set(found) - set(base) == {
        ("PodDisruptionBudget", SYSTEM, "imagewright-operator"),
        ("Role", SYSTEM, leader),
        ("RoleBinding", SYSTEM, leader),
        settings,
    }
    assert Settings.from_environment(environment(found)).leader_election
    assert not Settings.from_environment(environment(base)).leader_election
    rules = one(found, "Role", leader)["rules"]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in rules] == [
        (["create"], None),
        (["get", "update"], [Settings().lease_name]),
    ]
    spec = one(found, "Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    budget = one(found, "PodDisruptionBudget")["spec"]
    assert spec["replicas"] - budget["maxUnavailable"] == 1
    assert selects(budget["selector"], labels)
    spread = spec["template"]["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(selects(one["labelSelector"], labels) for one in spread)


def test_the_network_policy_lets_in_the_probes_and_out_to_names_and_the_api_server(
    base: dict[Name, Json], render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(ROOT / "deploy/overlays/restricted-network")
    assert set(found) - set(base) == {("NetworkPolicy", SYSTEM, "imagewright-operator")}
    template = one(found, "Deployment")["spec"]["template"]
    policy = one(found, "NetworkPolicy")["spec"]
    assert selects(policy["podSelector"], template["metadata"]["labels"])
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = {port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    assert out == {("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 6443)}


def test_the_api_server_accepts_the_network_policy_of_executors_which_is_the_examples(
    api: ApiServer, namespace: Namespace, render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(ROOT / "deploy/components/executor-network")
    assert set(found) == {("NetworkPolicy", "builds", "imagewright-executors")}
    example = objects((ROOT / "examples/executor-networkpolicy.yaml").read_text())
    assert one(found, "NetworkPolicy", "imagewright-executors")["spec"] == next(iter(example.values()))["spec"]
    documents = renamed(found, lambda text: namespace.name if text == "builds" else text)
    flags = ("--dry-run=server", "--validate=strict", "--filename=-")
    done = api.try_kubectl("apply", *flags, stdin=manifest(documents))
    assert done.returncode == 0, done.stderr


def test_namespaced_rights_are_the_clusters_less_what_only_a_cluster_has(
    base: dict[Name, Json], render: Callable[[Path], dict[Name, Json]]
) -> None:
    found = render(ROOT / "deploy/overlays/namespaced")
    namespaced = one(found, "Role", "imagewright-operator")
    missing = rights(one(base, "ClusterRole")) - rights(namespaced)
    assert {resource for _, resource, _ in missing} == {"nodes", "customresourcedefinitions"}
    assert not rights(namespaced) - rights(one(base, "ClusterRole"))
    assert "ClusterRoleBinding" not in kinds(found)
    assert one(found, "Role")["metadata"]["namespace"] == environment(found)["IMAGEWRIGHT_NAMESPACES"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with users' overlays next to deploy/."""
    for part in ("deploy", "crds"):
        shutil.copytree(ROOT / part, tmp_path / part)
    return tmp_path


def test_the_overlay_of_the_documentation_renders(checkout: Path, render: Callable[[Path], dict[Name, Json]]) -> None:
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n# my-overlay/kustomization.yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (checkout / "my-overlay").mkdir()
    (checkout / "my-overlay" / "kustomization.yaml").write_text(text)
    found = render(checkout / "my-overlay")
    assert {"PodDisruptionBudget", "NetworkPolicy"} <= kinds(found)
    assert Settings.from_environment(environment(found)).leader_election
    (container,) = one(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/imagewright/operator:0.1.0"
    settings = Settings.from_environment(environment(found))
    assert settings.executor_image == "registry.example.com/imagewright/executor:0.1.0"


def test_nodes_without_user_namespaces_start_the_operator_with_the_patch_of_the_documentation(
    checkout: Path, render: Callable[[Path], dict[Name, Json]]
) -> None:
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    (patch,) = re.findall(r"^```yaml\n(patches:\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (checkout / "mine").mkdir()
    (checkout / "mine" / "kustomization.yaml").write_text(f"resources: [../deploy]\n{patch}")
    pods = [one(render(checkout / where), "Deployment")["spec"]["template"]["spec"] for where in ("deploy", "mine")]
    assert pods[0].pop("hostUsers") is False
    assert pods[1].pop("hostUsers") is True
    assert pods[0] == pods[1]


def test_the_definition_that_is_not_pruned_is_otherwise_the_same(
    checkout: Path, base: dict[Name, Json], render: Callable[[Path], dict[Name, Json]]
) -> None:
    page = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    (patch,) = re.findall(r"^```yaml\n(patches:\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (checkout / "mine").mkdir()
    (checkout / "mine" / "kustomization.yaml").write_text(f"resources: [../deploy]\n{patch}")
    crd = ("CustomResourceDefinition", "imagebuilds.imagewright.dev")
    kept, plain = (one(found, *crd) for found in (render(checkout / "mine"), base))
    annotations = kept["metadata"].pop("annotations")
    assert annotations.pop("argocd.argoproj.io/sync-options") == "Prune=false,Delete=false"
    assert annotations.pop("kustomize.toolkit.fluxcd.io/prune") == "disabled"
    assert annotations == plain["metadata"].pop("annotations", {})
    assert kept == plain


def test_several_namespaces_are_served_by_the_overlay_that_the_file_shows(
    checkout: Path, render: Callable[[Path], dict[Name, Json]]
) -> None:
    head = (ROOT / "deploy/overlays/namespaced/kustomization.yaml").read_text(encoding="utf-8").split("\napiVersion")[0]
    shown = "\n".join(line.removeprefix("#   ") for line in head.splitlines() if line.startswith("#   "))
    team, mine = shown.split("# kustomization.yaml\n")
    texts = {"team-a": team, "team-b": team.replace("team-a", "team-b"), ".": mine}
    for path, text in texts.items():
        folder = checkout / "mine" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kustomization.yaml").write_text(text)
    found = render(checkout / "mine")
    served = {namespace for kind, namespace, called in found if (kind, called) == ("Role", "imagewright-operator")}
    assert served == {"team-a", "team-b"} == set(Settings.from_environment(environment(found)).namespaces)
    for kind, namespace, called in found:
        if kind == "RoleBinding":
            (subject,) = found[kind, namespace, called]["subjects"]
            assert (subject["namespace"], subject["name"]) == (SYSTEM, "imagewright-operator")
    assert "ClusterRoleBinding" not in kinds(found)


def test_an_operator_installed_by_the_namespaced_overlay_builds_there_and_has_no_rights_elsewhere(
    api: ApiServer,
    namespace: Namespace,
    operators: Callable[..., Operator],
    render: Callable[[Path], dict[Name, Json]],
) -> None:
    system = f"system-{uuid.uuid4().hex[:8]}"
    names = {"builds": namespace.name, SYSTEM: system}
    found = {
        name(document): document
        for document in renamed(render(ROOT / "deploy/overlays/namespaced"), lambda text: names.get(text, text))
        if document["kind"] not in ("CustomResourceDefinition", "ClusterRole")  # the same as those that are there
    }
    done = api.try_kubectl("apply", "--filename=-", stdin=manifest(found.values()))
    assert done.returncode == 0, done.stderr
    token = api.kubectl("create", "token", "imagewright-operator", f"--namespace={system}")
    settings = {key.removeprefix("IMAGEWRIGHT_"): value for key, value in environment(found).items()}
    operator = operators(api.kubeconfig(token), **settings)

    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    digest = namespace.pushes(pod)
    assert namespace.becomes("True BuildSucceeded")["image"]["digest"] == digest
    assert "Forbidden" not in operator.log()
    account = f"--as=system:serviceaccount:{system}:imagewright-operator"
    for verb, resource, where in [
        ("list", "imagebuilds", "--all-namespaces"),
        ("list", "imagebuilds", "--namespace=default"),
        ("create", "pods", "--namespace=default"),
        ("get", "secrets", f"--namespace={namespace.name}"),
        ("list", "nodes", ""),
    ]:
        assert api.try_kubectl("auth", "can-i", verb, resource, account, *filter(None, [where])).stdout == "no\n"
    api.kubectl("delete", "namespace", system, "--wait=false")

"""Objects that are nested as deep as the API server stores them: each costs itself only, never the operator's work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

Json = dict[str, Any]

CRD = "imagebuilds.imagewright.dev"
DEPTH = 2_000
HOLE = "@"  # in a manifest, where the nested value goes


def deep(body: Json, level: str = '{"a":', end: str = "}") -> str:
    """The manifest as JSON, which Python's encoder would not write, with a nested value at HOLE."""
    return json.dumps(body).replace(f'"{HOLE}"', level * DEPTH + "{}" + end * DEPTH)


@pytest.fixture
def older_definition(api: ApiServer) -> Iterator[Callable[[], None]]:
    """An older release's definition, which kept an affinity as it is; what it returns puts the present one back."""
    now = json.loads(api.kubectl("get", "crd", CRD, "--output=json"))
    now["metadata"] = {"name": CRD, "labels": now["metadata"]["labels"]}
    older = json.loads(json.dumps(now))
    spec = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    template = spec["properties"]["podTemplate"]["properties"]
    template["affinity"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    def replace(definition: Json) -> None:
        done = api.try_kubectl("replace", "--filename=-", stdin=json.dumps(definition))
        assert done.returncode == 0, done.stderr

    replace(older)
    yield lambda: replace(now)
    replace(now)


def reason(namespace: Namespace, name: str) -> str:
    """Not from the whole object, which this test could not parse either."""
    return namespace.kubectl(
        "get", "imagebuild", name, "--output=jsonpath={.status.conditions[?(@.type=='Ready')].message}"
    )


def builds(namespace: Namespace, name: str) -> None:
    namespace.apply(name)
    namespace.pushes(namespace.pod(name))
    namespace.phase("Succeeded", name)


def test_an_object_of_an_older_definition_is_refused_alone_and_all_others_are_built(
    api: ApiServer,
    namespaces: Callable[[], Namespace],
    operators: Callable[..., Operator],
    older_definition: Callable[[], None],
) -> None:
    hostile, other = namespaces(), namespaces()
    body = hostile.imagebuild("deep", podTemplate={"affinity": {"nodeAffinity": HOLE}})

    def stored() -> bool:
        api.try_kubectl("create", "--filename=-", stdin=deep(body))
        nested = api.try_kubectl("get", "imagebuild", "deep", "--output=json", f"--namespace={hostile.name}").stdout
        if nested.count('"a":') >= DEPTH:
            return True
        api.try_kubectl("delete", "imagebuild", "deep", f"--namespace={hostile.name}")
        return False

    eventually(stored, "the older definition to be in force")
    operator = operators(RESYNC_SECONDS="3600")
    builds(other, "before")  # the watches have begun with a list that has it
    said = eventually(lambda: reason(hostile, "deep"), "a condition")
    assert said.startswith("spec.podTemplate.affinity.nodeAffinity.a.a")
    assert said.endswith("is nested more than 24 levels deep: remove it")
    hostile.kubectl("annotate", "imagebuild", "deep", "a=b")  # an event of a watch
    builds(other, "after")
    assert "RecursionError" not in operator.log()
    assert "watches ended" not in operator.log()
    older_definition()
    builds(other, "upgraded")
    hostile.kubectl("delete", "imagebuild", "deep")


def test_managed_fields_that_anyone_may_write_cost_nothing(
    api: ApiServer, namespaces: Callable[[], Namespace], operators: Callable[..., Operator]
) -> None:
    """The API server keeps them as they are, for objects of every kind."""
    hostile, other = namespaces(), namespaces()
    managed = {"manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": HOLE}
    one = hostile.imagebuild("deep")
    one["metadata"]["managedFields"] = [{**managed, "apiVersion": one["apiVersion"]}]
    labels = {"app.kubernetes.io/component": "executor", "app.kubernetes.io/managed-by": "imagewright"}
    labels["imagewright.dev/imagebuild"] = "deep"
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "deep", "namespace": hostile.name, "labels": labels, "managedFields": [managed]},
        "spec": {"containers": [{"name": "a", "image": "x"}]},
    }
    operator = operators(RESYNC_SECONDS="3600")
    builds(other, "before")
    for body in (one, pod):
        done = api.try_kubectl("create", "--filename=-", stdin=deep(body, '{"f:a":'))
        assert done.returncode == 0, done.stderr
        kind = body["kind"].lower()
        shown = hostile.kubectl("get", kind, "deep", "--output=json", "--show-managed-fields")
        assert shown.count('"f:a"') >= DEPTH, "the attack is none"
    digest = hostile.pushes(hostile_pod(hostile))
    assert digest
    builds(other, "after")
    operator.kill()
    operator = operators(RESYNC_SECONDS="3600")
    builds(other, "again")
    assert "RecursionError" not in operator.log()
    assert "watches ended" not in operator.log()


def hostile_pod(namespace: Namespace) -> Json:
    """The Pod of "deep", without a look at the ImageBuild as a whole."""
    path = "--output=jsonpath={.status.build.podNames[0]}"
    name = eventually(lambda: namespace.kubectl("get", "imagebuild", "deep", path), "a Pod")
    return namespace.get("pod", name)


@pytest.mark.parametrize("field", ["affinity", "securityContext", "volumes", "resources", "tolerations", "env"])
def test_the_definition_keeps_nothing_that_is_nested(api: ApiServer, namespace: Namespace, field: str) -> None:
    value: Any = {"x": HOLE}
    if field in ("volumes", "tolerations", "env"):
        value = [{"name": "a", "mountPath": "/a", "emptyDir": {"x": HOLE}, "x": HOLE, "value": "a"}]
    body = namespace.imagebuild("deep", podTemplate={field: value})
    done = api.try_kubectl("create", "--filename=-", stdin=deep(body))
    assert done.returncode != 0
    assert "unknown field" in done.stderr or "Invalid value" in done.stderr or "Invalid" in done.stderr
    api.try_kubectl("create", "--validate=ignore", "--filename=-", stdin=deep(body))
    shown = api.try_kubectl("get", "imagebuild", "deep", "--output=json", f"--namespace={namespace.name}").stdout
    assert '"a": {' not in shown

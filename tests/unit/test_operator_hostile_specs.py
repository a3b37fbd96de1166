"""Whatever an ImageBuild holds, it is judged: no spec makes the operator fail, and a failure is this object's own."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build
from imagewright_operator.pods import logtail
from imagewright_operator.pods.manifests import executor_pod, poll_pod
from imagewright_operator.reconcile import validation
from imagewright_operator.reconcile.actions import ReconcileInput
from imagewright_operator.reconcile.reconciler import reconcile
from imagewright_operator.schema.crd import definition
from imagewright_operator.settings import Profile, Settings

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SCHEMA = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
DEFECT = "cannot be read by this version of the operator"
WORDS = (
    "",
    "a",
    "default",
    "linux/amd64",
    "1h",
    "5m",
    "NaN",
    "Infinity",
    "1e99",
    "9" * 32,
    "\x00",
    "é" * 9,
    "../..",
    "/",
    "$(A)",
)
NUMBERS = (0, 1, -1, 2**31, 2**63, 10**400, 1.5, 1e308, -1e308)


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def junk(chance: random.Random) -> Any:
    """Of any type: what an open field or an older definition may hold."""
    return chance.choice([None, True, "x", [], {}, [None], {"a": None}, [[]], chance.choice(NUMBERS), nested(400)])


def some(schema: Mapping[str, Any], chance: random.Random, oddness: float) -> Any:
    """A value of the schema's form, of which a part isn't."""
    if chance.random() < oddness:
        return junk(chance)
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if "properties" in schema:
        return {
            name: some(below, chance, oddness)
            for name, below in schema["properties"].items()
            if name in schema.get("required", ()) or chance.random() < 0.3
        }
    if "additionalProperties" in schema:
        return {
            chance.choice(WORDS): some(schema["additionalProperties"], chance, oddness)
            for _ in range(chance.randrange(3))
        }
    if "items" in schema:
        return [some(schema["items"], chance, oddness) for _ in range(chance.randrange(3))]
    if schema.get("type") == "boolean":
        return chance.random() < 0.5
    if schema.get("type") == "integer" or ("anyOf" in schema and chance.random() < 0.5):
        return chance.choice(NUMBERS[:5])
    return chance.choice(WORDS)


def body(spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "app", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec}


@pytest.mark.parametrize("oddness", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_every_spec_is_judged_without_a_failure(seed: int, oddness: float) -> None:
    """Also one that makes a Pod is made into one: nothing is left to fail later, again and again."""
    chance = random.Random(f"{seed} {oddness}")
    built = 0
    for _ in range(60):
        spec = some(SCHEMA, chance, oddness)
        if isinstance(spec, dict) and chance.random() < 0.8:
            spec |= {"source": {"inline": {"dockerfile": "FROM a"}}, "output": {"tags": ["a/b"]}}
            spec |= {name: "1h" for name in ("timeout", "startTimeout") if name in spec}
        imagebuild, problem = validation.read(body(spec))
        assert DEFECT not in problem
        found = validation.problems(imagebuild, Settings())
        assert not any(DEFECT in one for one in found), found
        reconcile(ReconcileInput(imagebuild, (), NOW), Settings())
        if not validation.defects(imagebuild, Settings()) and not problem:
            built += 1
            json.dumps(executor_pod(imagebuild, Build(id="a", inputs_hash=""), Settings(), Profile.HARDENED))
            json.dumps(poll_pod(imagebuild, "a", Settings(), Profile.PLAIN))
    assert oddness or built


def valid(**template: Any) -> dict[str, Any]:
    return {"source": {"inline": {"dockerfile": "FROM a"}}, "output": {"tags": ["a/b"]}, "podTemplate": template}


@pytest.mark.parametrize("depth", [30, 200, 2_000])
@pytest.mark.parametrize("field", ["affinity", "volumes", "securityContext", "resources", "labels"])
def test_a_nested_spec_is_refused_by_its_path(field: str, depth: int) -> None:
    imagebuild, problem = validation.read(body(valid(**{field: nested(depth)})))
    assert problem.startswith(f"spec.podTemplate.{field}.a.a.")
    assert problem.endswith("is nested more than 24 levels deep: remove it")
    assert len(problem) < 200
    assert imagebuild.metadata.name == "app"


def test_looking_for_nested_fields_takes_no_more_memory_than_the_object() -> None:
    """Many lists below a long key: a path for each would take a gigabyte."""
    given = body(valid(affinity={"k" * 40_000: [[] for _ in range(40_000)]}))
    tracemalloc.start()
    try:
        validation.read(given)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_nested_field_is_found_behind_others_that_are_not_nested() -> None:
    given = valid(labels={"a": {"b": {}}, "c": [[], {"d": nested(30)}]})
    assert validation.read(body(given))[1].startswith("spec.podTemplate.labels.c[1].d.a.a.")


@pytest.mark.parametrize("spec", [None, [], "x", 3, {"source": None}])
def test_what_is_no_spec_is_refused(spec: Any) -> None:
    _, problem = validation.read(body(spec))
    assert problem
    assert DEFECT not in problem


def test_a_failure_while_judging_is_a_problem_of_the_object(caplog: pytest.LogCaptureFixture) -> None:
    """Settings that no environment gives stand for a defect."""
    imagebuild = ImageBuild.parse(body(valid(serviceAccountName="a")))
    for broken, judged in (
        (Settings(resources={"limits": {"x": {1, 2}}}, service_accounts=frozenset({"a"})), validation.defects),
        (Settings(service_accounts=None), validation.refusals),  # type: ignore[arg-type]
    ):
        problem = f"spec {DEFECT}, whose log has the details: TypeError"
        assert judged(imagebuild, broken) == (problem,)
        actions = reconcile(ReconcileInput(imagebuild, (), NOW), broken)
        assert actions.create is None
        assert problem in [one.message for one in actions.status.conditions]
    assert "not JSON serializable" in caplog.text


def test_a_last_line_of_a_log_that_is_nested_is_no_result() -> None:
    line = '{"imagewright-result":' + "[" * 30_000 + "]" * 30_000 + "}"
    start = logtail._RESULT_START
    assert logtail.result((start + line[len('{"imagewright-result"') :]).encode()) is None


def open_fields(path: str, schema: Mapping[str, Any]) -> list[str]:
    below = {f"{path}.{name}": child for name, child in schema.get("properties", {}).items()}
    below |= {
        f"{path}{mark}": schema[key] for key, mark in (("items", "[]"), ("additionalProperties", "{}")) if key in schema
    }
    inside = [field for where, child in below.items() for field in open_fields(where, child)]
    is_open = "x-kubernetes-preserve-unknown-fields" in schema or (schema.get("type") == "object" and not below)
    return [*([path] if is_open else []), *inside]


def test_no_field_of_the_definition_is_open() -> None:
    """The API server drops what it doesn't have; in an open field it keeps whatever is given, however deep."""
    root = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert open_fields("", root) == [".metadata"]

"""What the installation's files have to agree on with others, without a cluster: definition, schema, rights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from imagebuilds.rendered import objects, one, rights

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "imagewright"
Json = dict[str, Any]


def test_the_charts_definition_is_the_one_of_crds() -> None:
    file = "imagewright.dev_imagebuilds.yaml"
    same = (CHART / "crds" / file).read_bytes() == (ROOT / "crds" / file).read_bytes()
    assert same, f"run cp crds/{file} deploy/helm/imagewright/crds/"


def test_the_table_of_rights_is_the_role() -> None:
    text = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| (?:`(?P<group>[\w.]+)`)? ?\| `(?P<resource>[\w/]+)` \| (?P<verbs>[a-z, ]+) \|", re.MULTILINE)
    told = {
        (match["group"] or "", match["resource"], verb)
        for match in row.finditer(text)
        for verb in match["verbs"].split(", ")
    }
    found = objects((ROOT / "deploy" / "base" / "rbac.yaml").read_text(encoding="utf-8"))
    leader = objects((ROOT / "deploy/components/high-availability/role.yaml").read_text(encoding="utf-8"))
    key, elected = "imagewright-operator-key", "imagewright-operator-leader"
    roles = [one(found, "ClusterRole"), one(found, "Role", key), one(leader, "Role", elected)]
    assert told == {right for role in roles for right in rights(role)}


def test_every_default_is_of_the_schema_and_every_name_of_the_schema_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    del schema["properties"]["global"]
    assert paths(schema) == named(schema, values)


def paths(schema: Json, at: str = "") -> set[str]:
    if not schema.get("properties") or "additionalProperties" not in schema:
        return {at}
    return {path for key, part in schema["properties"].items() for path in paths(part, f"{at}.{key}")}


def named(schema: Json, values: Json, at: str = "") -> set[str]:
    if not schema.get("properties") or "additionalProperties" not in schema:
        return {at}
    return {
        path for key, value in values.items() for path in named(schema["properties"].get(key, {}), value, f"{at}.{key}")
    }

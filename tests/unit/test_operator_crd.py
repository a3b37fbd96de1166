"""The committed CRD matches the models, and its schema is structural."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagewright_operator.schema import crd

ROOT = Path(__file__).parents[2]
FILE = ROOT / "crds" / "imagewright.dev_imagebuilds.yaml"


def schema() -> dict[str, Any]:
    result: dict[str, Any] = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return result


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[{key}]")


def test_the_committed_crd_matches_the_models() -> None:
    assert FILE.read_text(encoding="utf-8") == crd.render(), "run python -m imagewright_operator.schema.crd"


def test_check_reports_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "crd.yaml"
    file.write_text(crd.render().replace("maxLength: 512", "maxLength: 511"), encoding="utf-8")
    assert crd.main(["--check", str(file)]) == 1
    assert "differs from the models" in capsys.readouterr().err
    assert crd.main([str(file)]) == 0
    assert crd.main(["--check", str(file)]) == 0


def test_a_missing_folder_gives_a_message_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crd.main([str(tmp_path / "nowhere" / "crd.yaml")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_schema_is_structural() -> None:
    for path, node in nodes(schema()):
        assert not {"$ref", "allOf", "oneOf", "const", "title", "exclusiveMinimum", "examples"} & set(node), path
        if "anyOf" in node:
            assert node["x-kubernetes-int-or-string"], path
        assert "type" in node or "x-kubernetes-int-or-string" in node, path


def test_every_string_with_a_rule_and_every_list_of_the_spec_is_bounded() -> None:
    """The API server multiplies lengths into the cost that it allows a rule."""
    for path, node in nodes(schema()["properties"]["spec"]):
        if "x-kubernetes-validations" in node and node.get("type") == "string":
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if isinstance(node.get("additionalProperties"), dict):
            assert "maxProperties" in node, path


def test_kstatus_does_not_read_a_new_object_as_done() -> None:
    """kstatus takes an object without conditions for a finished one."""
    assert schema()["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_no_status_field_is_required_so_that_empty_ones_can_be_omitted() -> None:
    for path, node in nodes(schema()["properties"]["status"]):
        assert "default" not in node or path == "", path
        assert node.get("required") in (None, ["type"]), path


def test_the_columns_of_kubectl_get() -> None:
    columns = yaml.safe_load(FILE.read_text(encoding="utf-8"))["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [c["name"] for c in columns if not c.get("priority")]
    assert shown == ["Phase", "Reason", "Image", "Digest", "Duration", "Age"]
    assert [c["name"] for c in columns if c.get("priority")] == ["Full-Digest", "Commit", "Pod", "Message"]


def test_every_column_shows_a_field_that_the_schema_has() -> None:
    columns = crd.definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    known = {path for path, _ in nodes(schema())}
    for column in columns:
        path = re.sub(r"\[\?[^]]*\]|\[0\]", "[items]", column["jsonPath"])
        assert path in known or path == ".metadata.creationTimestamp", column


FRAGMENT = re.compile(r"(?i)(?:Of|As|Its?|For|In|From|Since|With|That|These|Where|When|Whose|Which|One)\b")


def test_every_description_stands_alone_in_kubectl_explain() -> None:
    undocumented = {".apiVersion", ".kind", ".metadata"}  # as in every resource
    for path, node in nodes(schema()):
        description = node.get("description", "")
        if description:
            assert not FRAGMENT.match(description), f"{path}: {description}"
            assert re.fullmatch(r"[A-Z].*\.", description, re.S), f"{path}: {description}"
        else:
            assert path.endswith("]") or path in undocumented, f"{path} has no description"

"""docs/imagebuild.md says what the resource's definition says, and no field of it is left without a word."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagewright_operator.schema.crd import definition
from imagewright_operator.schema.fielddocs import markdown

PAGE = Path(__file__).parents[2] / "docs/imagebuild.md"


def fields(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, child in schema.get("items", schema).get("properties", {}).items():
        yield from fields(f"{path}.{name}", child)


def test_page_is_what_the_definition_gives() -> None:
    assert PAGE.read_text() == markdown(), "run `python -m imagewright_operator.schema.fielddocs > docs/imagebuild.md`"


def test_kubectl_explain_has_a_word_for_every_field() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    found = [*fields("spec", schema["spec"]), *fields("status", schema["status"])]
    assert len(found) > 100
    assert [path for path, field in found if not field.get("description") and "items" not in field] == []

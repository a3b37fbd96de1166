"""The CustomResourceDefinition, generated from the pydantic models and the table of conditions.

I/O: ``python -m imagewright_operator.schema.crd`` writes the file, or compares it with ``--check``; the rest is pure.
pydantic's JSON schema is not a structural schema: references are inlined, ``anyOf`` with null becomes an optional
field, titles are dropped, and only scalar defaults are kept (GitOps tools should not see empty lists appear in an
object).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from imagewright_operator.api import GROUP, KIND, PLURAL, VERSION, ImageBuild, Spec, Status
from imagewright_operator.api.base import Json
from imagewright_operator.status.conditions import CONDITIONS

_HEADER = (
    "# Generated from operator/imagewright_operator/api by python -m imagewright_operator.schema.crd; do not edit.\n"
)
_FILE = Path("crds") / f"{GROUP}_{PLURAL}.yaml"
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
_COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Phase", "string", ".status.phase", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Image", "string", ".spec.output.tags[0]", 0),
    ("Digest", "string", ".status.image.shortDigest", 0),
    ("Duration", "string", ".status.duration", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Full-Digest", "string", ".status.image.digest", 1),
    ("Commit", "string", ".status.build.source.commit", 1),
    ("Pod", "string", ".status.build.podNames[0]", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
)


def definition() -> Json:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/name": "imagewright"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ib"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
                        for name, kind, path, priority in _COLUMNS
                    ],
                }
            ],
        },
    }


def render() -> str:
    """The CRD as YAML, as it is committed."""
    return _HEADER + yaml.safe_dump(definition(), sort_keys=False, width=140, allow_unicode=True)


def structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Json:
    """Convert a node of pydantic's JSON schema to a node of a structural schema."""
    node = _resolved(schema, definitions)
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if {option.get("type") for option in options} == {"integer", "string"}:
        text = next(option for option in options if option["type"] == "string")
        form = {key: text[key] for key in ("pattern", "maxLength") if key in text}
        both = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
        return {**{key: node[key] for key in ("description",) if key in node}, **both, **form}
    if len(options) == 1:
        node = {**_resolved(options[0], definitions), **{key: value for key, value in node.items() if key != "anyOf"}}
    result: Json = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if isinstance(node.get("default"), (bool, int, str)) and node["default"] != "":
        result["default"] = node["default"]
    if "properties" in node:
        result["properties"] = {name: structural(child, definitions) for name, child in node["properties"].items()}
        if node.get("required"):
            result["required"] = list(node["required"])
    elif isinstance(node.get("additionalProperties"), Mapping):
        result["additionalProperties"] = structural(node["additionalProperties"], definitions)
    if "items" in node:
        result["items"] = structural(node["items"], definitions)
    result.update({key: value for key, value in node.items() if key.startswith("x-kubernetes-")})
    return result


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Json:
    """Replace a reference by its target, overridden by the node's other keys."""
    node = dict(schema)
    reference = node.pop("$ref", None)
    if reference is None:
        return node
    return {**_resolved(definitions[reference.rpartition("/")[2]], definitions), **node}


def _root() -> Json:
    spec = Spec.model_json_schema(by_alias=True)
    status = Status.model_json_schema(by_alias=True, mode="serialization")
    outer = ImageBuild.model_json_schema(by_alias=True)
    status_schema = _without_defaults(structural(status, status.get("$defs", {})))
    condition = status_schema["properties"]["conditions"]["items"]["properties"]
    condition["type"]["enum"] = [row.name for row in CONDITIONS]
    # kstatus reads an object without conditions as done, unless its observed generation is older.
    status_schema["default"] = {"observedGeneration": -1}
    return {
        "description": outer["description"],
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec, spec.get("$defs", {})),
            "status": status_schema,
        },
        "x-kubernetes-validations": outer["x-kubernetes-validations"],
    }


def _without_defaults(schema: Json) -> Json:
    """The status: the operator omits empty fields, so nothing has a default or is required."""
    result = {key: value for key, value in schema.items() if key not in ("default", "required")}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(child) for name, child in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    if result.get("x-kubernetes-list-type") == "map":
        result["items"]["required"] = list(result["x-kubernetes-list-map-keys"])
    return result


def main(arguments: list[str] | None = None) -> int:
    """Write or check the committed file. Returns 1 if it has drifted or cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m imagewright_operator.schema.crd", description="Generate the CRD.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if FILE differs from the models")
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", default=_FILE, help=f"default: {_FILE}")
    given = parser.parse_args(arguments)
    file: Path = given.file
    try:
        if not given.check:
            file.write_text(render(), encoding="utf-8")
        elif file.read_text(encoding="utf-8") != render():
            sys.stderr.write(f"{file} differs from the models: run python -m imagewright_operator.schema.crd\n")
            return 1
    except OSError as error:
        sys.stderr.write(
            f"error: cannot access {error.filename}: {error.strerror}\nhint: Run it at the top of the repository.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

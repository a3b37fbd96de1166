"""docs/imagebuild.md, generated from the CRD: ``python -m imagewright_operator.schema.fielddocs > docs/imagebuild.md``.

I/O: prints when run as a program.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from imagewright_operator.api import MAX_NAME
from imagewright_operator.schema.crd import definition
from imagewright_operator.status.conditions import CONDITIONS

_HEAD = f"""# The fields of an ImageBuild

Generated from the resource's definition by `python -m imagewright_operator.schema.fielddocs`; do not edit.
`kubectl explain imagebuild.spec --recursive` prints the same for the installed version.
[examples/](../examples) has ImageBuilds to start from.

`apiVersion: imagewright.dev/v1alpha1`, `kind: ImageBuild`, namespaced; `kubectl get imagebuilds`, or `ib`. A name has
at most {MAX_NAME} characters, because Pods are named after it.

**Bold** fields are required in their object. `kubectl apply` refuses what the definition itself can check, and any
field that isn't in this list (strict validation, its default). The operator refuses the rest with the reason
`InvalidSpec`, including fields that are not supported yet.

The annotation `imagewright.dev/requestedAt`, any text, asks for a build of the same inputs once more when it changes.
"""
_STATUS = """
Written by the operator alone; [guide.md](guide.md#status) explains phases, conditions and reasons.
"""
_WIDTH = 120
_NOT_YET = "Not supported yet"
_KUBERNETES = "as in a Pod."  # its reference has the fields
_UNSAID_HINTS = ("write lower-case letters", "put it into")  # every name of an object has it; the description says it
_OBJECT_NAME_FIELDS = {"name"}
_NAME_AND_KEY = {"name", "key"}


def markdown() -> str:
    """The whole file."""
    version = definition()["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    columns = version["additionalPrinterColumns"]
    parts = [_HEAD]
    parts += _section("spec", properties["spec"])
    parts += _section("status", properties["status"], _STATUS)
    parts += ["\n## Conditions\n\n| type | meaning |\n|---|---|\n"]
    parts += [f"| `{row.name}` | {_sentence(row.meaning)}. |\n" for row in CONDITIONS]
    parts += ["\n## Columns\n\n| column | is | shown with |\n|---|---|---|\n"]
    parts += [
        f"| {column['name'].upper()} | `{column['jsonPath'].replace('|', '&#124;')}` | "
        f"{'`-o wide`' if column.get('priority') else ''} |\n"
        for column in columns
    ]
    return "".join(parts)


def _section(path: str, schema: Mapping[str, Any], intro: str = "") -> Iterator[str]:
    """One table for an object, then one for each object below it."""
    yield f"\n## {path}\n"
    yield intro or f"\n{_wrapped(_description(schema))}\n"
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        sentences = (f"It {rule}" if _continues(rule) else _sentence(rule) for rule in rules)
        yield "\nRules:\n\n" + "".join(_item(f"{sentence}.") for sentence in sentences)
    yield "\nFields:\n\n"
    required = schema.get("required", ())
    below = []
    for name, child in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        yield _item(f"{shown} ({_kind(child)}{_default(child)}): {_meaning(child)}")
        inner = child.get("items", child)
        known = _NOT_YET in _description(child) or _description(child).endswith(_KUBERNETES)
        if _has_own_section(inner) and not known:
            below.append((f"{path}.{name}" + ("[]" if "items" in child else ""), inner, child))
    for where, inner, child in below:
        yield from _section(where, {"description": _description(child), **inner})


def _item(text: str) -> str:
    return _wrapped(f"- {text}", "  ") + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    if not isinstance(value, (str, int, bool)):
        return ""
    return f"; default `{str(value).lower() if isinstance(value, bool) else value}`"


def _has_own_section(schema: Mapping[str, Any]) -> bool:
    """References to another object and its key need no table of their own."""
    return "properties" in schema and set(schema["properties"]) not in (_OBJECT_NAME_FIELDS, _NAME_AND_KEY)


def _kind(schema: Mapping[str, Any]) -> str:
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value else "empty" for value in schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return "integer or string"
    if set(schema.get("properties", ())) == _OBJECT_NAME_FIELDS:
        return "`{name}`"
    if set(schema.get("properties", ())) == _NAME_AND_KEY:
        return "`{name, key}`"
    if "additionalProperties" in schema:
        return f"map of {_kind(schema['additionalProperties'])}"
    return str(schema.get("type", "object"))


def _meaning(schema: Mapping[str, Any]) -> str:
    """Its description, its bounds, and what its last rule, the one about its form, says to write."""
    parts = [_description(schema)]
    bounds = [
        f"{word} {schema[key]}" + (" bytes" if key == "maxLength" else "")
        for key, word in (("minimum", "at least"), ("maximum", "at most"))
        if key in schema
    ]
    if bounds:
        parts.append(_sentence(", ".join(bounds)) + ".")
    rules = schema.get("items", schema).get("x-kubernetes-validations", ())
    hint = rules[-1]["message"].partition(": ")[2] if rules else ""
    if hint and "properties" not in schema.get("items", schema) and not hint.startswith(_UNSAID_HINTS):
        parts.append(_sentence(hint) + ".")
    return " ".join(parts)


def _description(schema: Mapping[str, Any]) -> str:
    text = str(schema.get("description") or schema.get("items", {}).get("description", ""))
    return " ".join(text.replace("``", "`").split())


def _continues(rule: str) -> bool:
    """Whether a rule's message is what follows a field's name in the API server's answer."""
    return rule.startswith(("names ", "has ", "is ", "must "))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


if __name__ == "__main__":
    print(markdown(), end="")

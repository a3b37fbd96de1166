"""docs/imagebuild.md, made from the CustomResourceDefinition: ``python -m imagewright_operator.api.fielddocs > docs/imagebuild.md``.

Prints when run as a program. Read by the test that keeps the file true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imagewright_operator.api import MAX_NAME
from imagewright_operator.api.crd import definition

_HEAD = f"""# The fields of an ImageBuild

Made from the resource's definition by `python -m imagewright_operator.api.fielddocs`; don't edit. `kubectl explain imagebuild.spec --recursive`
says the same of the version that is installed. [examples/](../examples) has ImageBuilds to start from.

`apiVersion: imagewright.dev/v1alpha1`, `kind: ImageBuild`, namespaced; `kubectl get imagebuilds`, or `ib`. A name has at most
{MAX_NAME} characters, because Pods are named after it.

**Bold** fields must be given where their object is. What the definition itself can check, `kubectl apply` refuses; what is left,
the operator refuses with the reason `InvalidSpec`, "not supported yet" among it. A field that isn't in this list is an error of
`kubectl apply`, too (strict validation, its default).

The annotation `imagewright.dev/requestedAt`, any text, asks for a build of the same inputs once more when it changes.
"""
_STATUS = """
Written by the operator alone; [operator.md](operator.md#status) explains phases, conditions and reasons.
"""
_NOT_YET = "Not supported yet"
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
    yield intro or f"\n{_description(schema)}\n"
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        yield "\n" + "".join(f"- It {rule}.\n" if _continues(rule) else f"- {_sentence(rule)}.\n" for rule in rules)
    yield "\n| field | is | default | |\n|---|---|---|---|\n"
    required = schema.get("required", ())
    below = []
    for name, child in schema["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        default = f"`{child['default']}`" if isinstance(child.get("default"), (str, int, bool)) else ""
        if isinstance(child.get("default"), bool):
            default = default.lower()
        yield f"| {shown} | {_kind(child)} | {default} | {_meaning(child)} |\n"
        inner = child.get("items", child)
        if _has_own_section(inner) and _NOT_YET not in _description(child):
            below.append((f"{path}.{name}" + ("[]" if "items" in child else ""), inner, child))
    for where, inner, child in below:
        yield from _section(where, {"description": _description(child), **inner})


def _has_own_section(schema: Mapping[str, Any]) -> bool:
    """References to another object and its key need no table of their own."""
    return "properties" in schema and set(schema["properties"]) not in (_OBJECT_NAME_FIELDS, _NAME_AND_KEY)


def _kind(schema: Mapping[str, Any]) -> str:
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value else "empty" for value in schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return "number or text"
    if set(schema.get("properties", ())) == _OBJECT_NAME_FIELDS:
        return "`{name}`"
    if set(schema.get("properties", ())) == _NAME_AND_KEY:
        return "`{name, key}`"
    if "additionalProperties" in schema:
        return f"names with {_kind(schema['additionalProperties'])}"
    return {"integer": "number", "boolean": "true or false", "string": "text"}.get(schema.get("type", ""), "object")


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
    return " ".join(parts).replace("|", "\\|")


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

"""What the resource's own rules say of an ImageBuild, as far as that can be told without an API server.

No I/O. Called by ``createcommand`` for ``--dry-run=client``. The rules stand in the operator's models once, in CEL, for the
CRD. Of CEL this reads what most of them are made of: patterns of texts, durations, whether a field is there. A rule that holds
anything else is left to the API server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import parse_duration

Json = dict[str, Any]
Test = Callable[[Any], bool]

# The API server's own rule for names, which stands in no CRD.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def problems(body: Json) -> list[str]:
    """Each with the field that it is about; values aren't shown, an address may hold a login."""
    schema = ImageBuild.model_json_schema()
    found = [*_broken(schema, schema["$defs"], {"spec": body["spec"]}, "")]
    if not _NAME.fullmatch(body["metadata"]["name"]):
        found.insert(0, "metadata.name: is not a name: write lower-case letters, digits, '-' and '.'")
    return found


def read(rule: str) -> Test | None:
    """What a rule asks of a value; None where only the API server knows."""
    try:
        return _Rule(rule).whole()
    except _OtherCelError:
        return None


def _broken(schema: Json, definitions: Json, value: Any, place: str) -> Iterator[str]:
    """The rules of a schema, and of those below it, that a value breaks."""
    if value is None:
        return
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for one in schema.get("x-kubernetes-validations", ()):
        holds = read(one["rule"])
        if place and holds is not None and not holds(value):
            yield f"{place}: {one['message']}"
    for one in schema.get("anyOf", ()):  # the type, or null
        if one.get("type") != "null":
            yield from _broken(one, definitions, value, place)
    if isinstance(value, dict):
        for key, child in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(below, dict):
                yield from _broken(below, definitions, child, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _broken(schema.get("items", {}), definitions, child, f"{place}[{index}]")


class _OtherCelError(Exception):
    """A rule holds what isn't read here."""


class _Rule:
    """Reads a rule from its beginning to its end; ``&&`` binds closer than ``||``."""

    def __init__(self, text: str) -> None:
        self._rest = text.strip()

    def whole(self) -> Test:
        test = self._either()
        if self._rest:
            raise _OtherCelError
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._takes("||"):
            tests.append(self._both())
        return lambda value: any(test(value) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._takes("&&"):
            tests.append(self._one())
        return lambda value: all(test(value) for test in tests)

    def _one(self) -> Test:
        if self._takes("!"):
            test = self._one()
            return lambda value: not test(value)
        if self._takes("("):
            test = self._either()
            if not self._takes(")"):
                raise _OtherCelError
            return test
        for pattern, made in _ATOMS.items():
            found = pattern.match(self._rest)
            if found is not None:
                self._rest = self._rest[found.end() :].lstrip()
                return made(*found.groups())
        raise _OtherCelError

    def _takes(self, sign: str) -> bool:
        is_next = self._rest.startswith(sign)
        if is_next:
            self._rest = self._rest[len(sign) :].lstrip()
        return is_next


def _matches(pattern: str) -> Test:
    compiled = re.compile(pattern.replace("\\\\", "\\"))
    return lambda value: compiled.search(value) is not None


def _lasts(sign: str, limit: str) -> Test:
    least = parse_duration(limit)
    match sign:
        case ">":
            return lambda value: parse_duration(value) > least
        case ">=":
            return lambda value: parse_duration(value) >= least
        case _:
            return lambda value: parse_duration(value) <= least


def _has(path: str) -> Test:
    *around, last = path.split(".")

    def is_there(value: Any) -> bool:
        for name in around:
            value = value.get(name) or {}
        return value.get(last) is not None

    return is_there


_TEXT = r"'((?:[^'\\]|\\.)*)'"
_ATOMS: Mapping[re.Pattern[str], Callable[..., Test]] = {
    re.compile(rf"self\.matches\({_TEXT}\)"): _matches,
    re.compile(rf"self\.contains\({_TEXT}\)"): lambda text: lambda value: text in value,
    re.compile(rf"self\.startsWith\({_TEXT}\)"): lambda text: lambda value: value.startswith(text),
    re.compile(rf"self != {_TEXT}"): lambda text: lambda value: value != text,
    re.compile(r"self\.size\(\) > 0"): lambda: bool,
    re.compile(r"bytes\(self\)\.size\(\) <= ([0-9]+)"): lambda most: lambda value: len(value.encode()) <= int(most),
    re.compile(r"duration\(self\) (>=|<=|>) duration\('([0-9hms]+)'\)"): _lasts,
    re.compile(r"has\(self\.([A-Za-z.]+)\)"): _has,
    re.compile(rf"self\.([A-Za-z]+) == {_TEXT}"): lambda name, text: lambda value: value.get(name) == text,
}

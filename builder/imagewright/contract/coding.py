"""Records of the contract as JSON: written, and read with every field's type checked.

No I/O. Without pydantic, which took a quarter of a build's start (docs/adr/0046). A field is a text, a whole number, a
boolean, an enumeration, one of several literals, a tuple, a map of texts, another record, or one of several records
told apart by their ``kind``. Errors don't quote values, which may hold secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class InvalidValue(ValueError):
    """A value that doesn't fit its field. The text begins with the field's path in JSON."""


def read(cls: type[T], value: object) -> T:
    """The record in a JSON object, whose names are camelCase or the fields' own.

    Raises:
        InvalidValue: an unknown or missing field, or a value of another type.
    """
    record: T = _record(cls, value, ())
    return record


def write(record: Any, *, defaults: bool) -> dict[str, Any]:
    """The JSON object of a record, with or without the fields that have their defaults.

    Names of files need not be UTF-8, and JSON must be: such bytes are written with backslashes.
    """
    return {
        camel_case(field.name): _written(value, defaults=defaults)
        for field in fields(record)
        if (value := getattr(record, field.name)) != _default(field) or defaults
    }


def camel_case(name: str) -> str:
    """A field's name in JSON."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _written(value: Any, *, defaults: bool) -> Any:
    match value:
        case Enum():
            return value.value
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case tuple():
            return [_written(each, defaults=defaults) for each in value]
        case dict():
            return {name: _written(each, defaults=defaults) for name, each in value.items()}
        case None | int():
            return value
        case _:
            return write(value, defaults=defaults)


def _record(cls: Any, value: object, path: tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        raise _invalid(path, "not an object")
    types, names = _types(cls), _names(cls)
    given = {}
    for name, each in value.items():
        if name not in names:
            raise _invalid((*path, str(name)), "unknown field")
        given[names[name]] = _checked(types[names[name]], each, (*path, name))
    for field in fields(cls):
        if field.name not in given and _default(field) is MISSING:
            raise _invalid((*path, camel_case(field.name)), "field required")
    try:
        return cls(**given)
    except ValueError as error:  # of __post_init__
        raise _invalid(path, str(error)) from None


def _checked(kind: Any, value: object, path: tuple[str, ...]) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if not any(value == each and type(value) is type(each) for each in arguments):
            raise _invalid(path, f"not {' or '.join(map(json.dumps, arguments))}")
        return value
    if origin in (Union, UnionType):
        return _alternative(arguments, value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _invalid(path, "not a list")
        return tuple(_checked(arguments[0], each, (*path, str(index))) for index, each in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _invalid(path, "not an object")
        return {
            _checked(str, name, path): _checked(arguments[1], each, (*path, str(name))) for name, each in value.items()
        }
    if is_dataclass(kind):
        return value if isinstance(value, kind) else _record(kind, value, path)  # type: ignore[arg-type]
    if issubclass(kind, Enum):
        known = {each.value: each for each in kind}
        if not isinstance(value, str) or value not in known:
            raise _invalid(path, f"not {' or '.join(map(json.dumps, known))}")
        return known[value]
    if type(value) is not kind:  # a boolean is an int in Python, not in JSON
        raise _invalid(path, f"not {_TYPES[kind]}")
    return value


def _alternative(kinds: tuple[Any, ...], value: object, path: tuple[str, ...]) -> Any:
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return _checked(others[0], value, path)
    if type(value) in others:
        return value
    by_kind = {kind_name(each): each for each in others}
    named = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(named, str) or named not in by_kind:
        raise _invalid((*path, "kind"), f"not {' or '.join(map(json.dumps, by_kind))}")
    return _record(by_kind[named], value, path)


def kind_name(cls: Any) -> str:
    """What the field ``kind`` of a record says in JSON."""
    return str(next(field.default for field in fields(cls) if field.name == "kind"))


@cache
def _types(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _names(cls: Any) -> dict[str, str]:
    own = [field.name for field in fields(cls)]
    return {camel_case(name): name for name in own} | {name: name for name in own}


def _invalid(path: tuple[str, ...], why: str) -> InvalidValue:
    return InvalidValue(": ".join(filter(None, (".".join(path), why))))


_TYPES = {str: "a text", int: "a whole number", bool: "a boolean"}

"""``dataclass``, for a program that must start soon: the standard library's, without compiling anything at import.

The standard library writes the methods of each class as text and compiles it: half a millisecond a class, and a build
imports hundreds of classes. Here the methods are shared, or compiled when the first object is made. docs/adr/0044. No
I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, slots: bool, frozen: bool = False, kw_only: bool = False) -> Callable[[Any], Any]:
        """As ``dataclasses.dataclass``, for classes with slots, without order and without InitVar."""
        if not slots:
            raise TypeError("a record has slots")
        return lambda cls: _record(cls, frozen=frozen, kw_only=kw_only)


_MADE = object()  # the default of a parameter whose field has a factory


def _record(cls: Any, *, frozen: bool, kw_only: bool) -> Any:
    own = set(vars(cls))
    if "__eq__" in own and cls.__hash__ is None:
        own.discard("__hash__")  # Python set it, since there is an own __eq__
    cls.__doc__ = cls.__doc__ or cls.__name__  # otherwise a signature is made up, which takes long
    record = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    values = _values([field.name for field in dataclasses.fields(record) if field.compare])

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        record.__init__ = _compiled_init(record, frozen=frozen)
        record.__init__(self, *arguments, **named)

    def eq(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    methods: dict[str, Any] = {"__init__": init, "__repr__": _repr, "__eq__": eq, "__hash__": None}
    if frozen:
        methods |= {"__hash__": lambda self: hash(values(self)), "__setattr__": _set, "__delattr__": _delete}
        methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in own:
            setattr(record, name, method)
    return record


def _values(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple(getattr(self, name) for name in names)


def _compiled_init(record: Any, *, frozen: bool) -> Any:
    names: dict[str, Any] = {"__made": _MADE}  # names that no field has
    parameters, named, body = ["self"], ["*"], []
    for field in dataclasses.fields(record):
        name, value = field.name, field.name
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            names[f"__make_{name}"] = field.default_factory
            value = f"__make_{name}() if {name} is __made else {name}" if field.init else f"__make_{name}()"
            default = _MADE
        if field.init:
            names[f"__default_{name}"] = default
            parameter = name if default is dataclasses.MISSING else f"{name}=__default_{name}"
            (named if field.kw_only else parameters).append(parameter)
        elif default is dataclasses.MISSING:
            continue
        elif default is not _MADE:
            names[value := f"__default_{name}"] = default
        names[f"__set_{name}"] = getattr(record, name).__set__  # the slot's, which asks no __setattr__
        body.append(f"__set_{name}(self, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(record, "__post_init__"):
        body.append("self.__post_init__()")
    parameters += named if len(named) > 1 else []
    text = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"])
    exec(text, names)  # noqa: S102 -- as the standard library does: the text has nothing but names of fields
    names["__init__"].__qualname__ = f"{record.__qualname__}.__init__"
    return names["__init__"]


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)

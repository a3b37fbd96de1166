"""``RUN --mount=…``: its options as written, and which type takes which (Dockerfile reference, "RUN --mount").

No I/O. Values may hold variables: ``plan.mounts`` expands and checks them.
"""

from __future__ import annotations

import csv

from imagewright.dockerfile.flags import FlagError
from imagewright.dockerfile.source import did_you_mean
from imagewright.records import dataclass

_OWNED = ("cache", "secret", "ssh")
TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")


@dataclass(frozen=True, slots=True)
class OptionKind:
    """An option by its name. ``types`` are the mounts that take it; ``switch``: it may stand without a value.

    BuildKit accepts a few more on some types and ignores them.
    """

    name: str
    types: tuple[str, ...]
    spellings: tuple[str, ...] = ()
    switch: bool = False


OPTIONS: tuple[OptionKind, ...] = (
    OptionKind("type", TYPES),
    OptionKind("target", TYPES, ("dst", "destination")),
    OptionKind("from", ("bind", "cache")),
    OptionKind("source", ("bind", "cache", "secret"), ("src",)),
    OptionKind("readonly", ("bind", "cache", "secret", "ssh"), ("ro",), switch=True),
    OptionKind("readwrite", ("bind", "cache", "tmpfs"), ("rw",), switch=True),
    OptionKind("id", ("cache", "secret", "ssh")),
    OptionKind("sharing", ("cache",)),
    OptionKind("size", ("tmpfs",)),
    OptionKind("required", ("secret", "ssh"), switch=True),
    OptionKind("env", ("secret",)),
    OptionKind("mode", _OWNED),
    OptionKind("uid", _OWNED),
    OptionKind("gid", _OWNED),
)
_BY_SPELLING = {spelling: option for option in OPTIONS for spelling in (option.name, *option.spellings)}


def options_of(kind: str) -> tuple[str, ...]:
    """The names of the options that a type of mount takes besides ``type``."""
    return tuple(option.name for option in OPTIONS if kind in option.types and option.name != "type")


@dataclass(frozen=True, slots=True)
class MountOption:
    """One option of a ``--mount``: its long name, its raw value (None where it stands alone), how it is written."""

    name: str
    value: str | None
    written: str


@dataclass(frozen=True, slots=True)
class RunMount:
    """One ``--mount``, as written and its options in order."""

    written: str
    options: tuple[MountOption, ...]

    @property
    def from_(self) -> str:
        """The stage or image that it reads, ``""`` without."""
        return next((o.value or "" for o in reversed(self.options) if o.name == "from"), "")


def read_mount(text: str) -> RunMount:
    """The value of one ``--mount``: comma-separated options, which may be quoted.

    Raises:
        FlagError: an unknown option, one without its value, a ``from`` with a variable.
    """
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        hint = """Quote an option that has a comma, and the whole value: --mount='type=cache,"target=/a,b"'."""
        raise FlagError("mismatched quotes", hint=hint) from error
    return RunMount(text, tuple(_option(field) for field in fields))


def _option(field: str) -> MountOption:
    key, equals, value = field.partition("=")
    option = _BY_SPELLING.get(key.lower())
    if option is None:
        hint = did_you_mean(key, _BY_SPELLING, f"Use one of {', '.join(option.name for option in OPTIONS)}.")
        raise FlagError(f'unknown option "{key}"' if key else "empty option", field or "--mount", hint)
    if not equals and not option.switch:
        raise FlagError(f'option "{key}" needs a value', field, f"Use {key}=value.")
    if option.name == "from" and "$" in value[:-1]:
        hint = f"Add a stage 'FROM {value} AS name' with a global ARG, and use from=name."
        raise FlagError('variables are not expanded in "from"', field, hint)
    return MountOption(option.name, value if equals else None, field)

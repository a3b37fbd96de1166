"""The ``--name=value`` flags of instructions, each declared with the field that holds its value.

No I/O. ``switch``, ``value`` and ``values`` declare a field of an instruction in ``dockerfile.model``; ``flags_in``
marks a field with a record of such fields that several instructions share. Which flags an instruction takes and how
they are parsed follows from its fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace
from enum import Enum
from typing import Any

from imagewright.dockerfile.duration import parse_duration
from imagewright.dockerfile.source import SourceText, did_you_mean
from imagewright.errors import Location
from imagewright.records import dataclass

_MIN_INTERVAL_NS = 1_000_000  # Docker refuses shorter ones
_MAX_RETRIES = 2**31 - 1
_OCTAL = re.compile(r"0*[0-7]{1,4}")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")
_FLAG, _GROUP = "flag", "flags"  # keys of a field's metadata


class FlagKind(Enum):
    """SWITCH may stand alone, VALUE takes one value, LIST may be repeated."""

    SWITCH = "switch"
    VALUE = "value"
    LIST = "list"


class FlagError(Exception):
    """An invalid value. ``word`` is the part of it to point at."""

    def __init__(self, reason: str, word: str = "", hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.word, self.hint = reason, word, hint


@dataclass(frozen=True, slots=True)
class Flag:
    """``name`` is without dashes. ``field`` holds the value, within the ``record`` of the field ``group`` where there
    is one.

    ``read`` parses the raw value and may raise ``FlagError``, as may ``check``, which gets the value with variables
    expanded. ``only`` lists the instructions that take a flag of a shared record, empty for all. ``in_history``: the
    history of the image shows the flag, as in BuildKit.
    """

    name: str
    kind: FlagKind
    read: Callable[[str], Any] = str
    check: Callable[[str], None] | None = None
    hint: str = ""
    only: tuple[str, ...] = ()
    in_history: bool = False
    field: str = ""
    group: str = ""
    record: type[Any] | None = None

    def as_written(self, value: Any) -> tuple[str, ...]:
        """The flag as in a Dockerfile, once for each value; nothing for a value that is the same as no flag."""
        match value:
            case None | "" | False:
                return ()
            case bool():
                return (f"--{self.name}",)
            case tuple():
                return tuple(f"--{self.name}={one}" for one in value)
            case _:
                return (f"--{self.name}={value}",)


def switch(name: str, *, default: bool | None = False, **options: Any) -> Any:
    """A ``bool`` field, or ``bool | None`` with the default None where it matters whether the flag is given."""
    return field(default=default, metadata={_FLAG: Flag(name, FlagKind.SWITCH, **options)})


def value(name: str, *, default: str | int = "", **options: Any) -> Any:
    """A field with the result of ``read``, by default the ``str`` itself."""
    return field(default=default, metadata={_FLAG: Flag(name, FlagKind.VALUE, **options)})


def values(name: str, **options: Any) -> Any:
    """A tuple field with one item for each time the flag is given."""
    return field(default=(), metadata={_FLAG: Flag(name, FlagKind.LIST, **options)})


def flags_in(record: type[Any]) -> Mapping[str, Any]:
    """The metadata of a field with a record whose fields are flags."""
    return {_GROUP: record}


def flags_of(record: Any) -> Mapping[str, Flag]:
    """The flags that a dataclass declares, by name."""
    found: dict[str, Flag] = {}
    for each in fields(record):
        if _FLAG in each.metadata:
            flag = replace(each.metadata[_FLAG], field=each.name)
            found[flag.name] = flag
        elif _GROUP in each.metadata:
            shared = each.metadata[_GROUP]
            inner = flags_of(shared).values()
            found |= {flag.name: replace(flag, group=each.name, record=shared) for flag in inner}
    return found


def flags_of_instruction(name: str, cls: type[Any]) -> Mapping[str, Flag]:
    """As ``flags_of``, without those that only other instructions take."""
    return {flag.name: flag for flag in flags_of(cls).values() if not flag.only or name in flag.only}


def read_flags(
    instruction: str,
    known: Mapping[str, Mapping[str, Flag]],
    words: Sequence[str],
    source: SourceText,
    location: Location,
) -> dict[str, Any]:
    """The fields that the flags of one instruction set. ``known`` has the flags of each instruction.

    Raises:
        DockerfileError: an unknown flag, a missing or invalid value, a flag given twice.
    """
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word[2:].partition("=")
        flag = known[instruction].get(name)
        shown = f"--{name}"
        if flag is None:
            message, hint = f"unknown flag {shown} for {instruction}", _unknown_hint(instruction, name, known)
            raise source.error(message, location, word=shown, hint=hint)
        if name in given and flag.kind is not FlagKind.LIST:
            raise source.error(f"flag {shown} can be given only once", location, word=shown)
        if flag.kind is FlagKind.SWITCH:
            given[name] = _read_switch(word, text if equals else "true", source, location)
            continue
        if not equals:
            raise source.error(f"flag {shown} needs a value", location, word=shown, hint=f"Use {shown}=value.")
        item = _read_value(flag, text, source, location)
        given[name] = (*given.get(name, ()), item) if flag.kind is FlagKind.LIST else item
    return _as_fields(known[instruction], given)


def _read_switch(word: str, text: str, source: SourceText, location: Location) -> bool:
    if text.lower() not in ("true", "false"):
        shown = word.partition("=")[0]
        message = f'invalid {shown} value "{text}": must be true or false'
        raise source.error(message, location, word=shown, hint=f"Use {shown} alone, or {shown}=false.")
    return text.lower() == "true"


def _read_value(flag: Flag, text: str, source: SourceText, location: Location) -> Any:
    try:
        return flag.read(text)
    except FlagError as error:
        message = f'invalid --{flag.name} value "{text[:100]}": {error.reason}'
        word, hint = error.word or text, error.hint or flag.hint
        raise source.error(message, location, word=word, hint=hint) from error


def _as_fields(known: Mapping[str, Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in given.items():
        flag = known[name]
        if flag.record is None:
            found[flag.field] = item
        else:
            found[flag.group] = replace(found.get(flag.group, flag.record()), **{flag.field: item})
    return found


def _unknown_hint(instruction: str, name: str, known: Mapping[str, Mapping[str, Flag]]) -> str:
    own = [f"--{flag}" for flag in known[instruction]]
    if hint := did_you_mean(f"--{name}", own):
        return hint
    owners = [owner for owner, flags in known.items() if name in flags]
    if owners:
        return f"Use --{name} with {' or '.join(owners)}."
    if not own:
        return f"Remove it: {instruction} takes no flags."
    return f"Use one of {', '.join(own)}."


# --- values


def read_interval(text: str) -> int:
    """A time of HEALTHCHECK in nanoseconds, 0 if empty."""
    nanoseconds = parse_duration(text) if text else 0
    if nanoseconds is None:
        raise FlagError("not a duration")
    if nanoseconds != 0 and nanoseconds < _MIN_INTERVAL_NS:
        raise FlagError("shorter than 1ms")
    return nanoseconds


def read_retries(text: str) -> int:
    """A number of retries, 0 if empty."""
    if text and not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_RETRIES):
        raise FlagError(f"not a number from 0 to {_MAX_RETRIES}")
    return int(text or "0")


def check_mode(text: str) -> None:
    """Check an octal or symbolic file mode, which may be empty."""
    if text and not _OCTAL.fullmatch(text) and not _SYMBOLIC.fullmatch(text):
        raise FlagError("not a file mode")

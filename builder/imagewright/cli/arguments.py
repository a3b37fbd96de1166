"""Reads a command line by the rules of Go's pflag, which kaniko uses, so that the same words mean the same.

No I/O; the environment is an argument. Called by ``cli.commands``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imagewright.cli.flags import BUILD_FLAGS, DOCKER_FLAGS, Flag, Kind
from imagewright.errors import UsageError
from imagewright.plan.gotext import parse_bool

_FEATURE_FLAG = "FF_KANIKO_"
_LISTED = "`imagewright build --help` lists the flags."
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)


@dataclass(slots=True)
class Arguments:
    """The values that were given; flags that weren't are absent and read as empty."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)  # those that are no flags, where a command takes any
    earlier: dict[str, str] = field(default_factory=dict)  # names given that kaniko gave up, and those of today

    def text(self, name: str, default: str = "") -> str:
        """The last value given for a flag (pflag: the last one wins)."""
        given = self.values.get(name)
        return given[-1] if given else default

    def all(self, name: str) -> tuple[str, ...]:
        """Every value given for a flag, in order."""
        return tuple(self.values.get(name, ()))

    def flag(self, name: str) -> bool:
        """A boolean flag's value."""
        return parse_bool(self.text(name, "false")) is True

    def number(self, name: str) -> int | None:
        """A number's value, None where it wasn't given."""
        text = self.text(name)
        return int(text) if text else None

    def is_on(self, name: str) -> bool:
        """A boolean flag's value, where it is on unless it is turned off."""
        return parse_bool(self.text(name, "true")) is True

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """The values of a ``KEY=VALUE`` flag.

        Raises:
            UsageError: for one without ``=`` or without a key.
        """
        result = []
        for value in self.all(name):
            key, separator, rest = value.partition("=")
            if not separator or not key:
                raise UsageError(f"--{name}={value}: not KEY=VALUE", hint=f"Write --{name} key=value.")
            result.append((key, rest))
        return tuple(result)


def parse(
    words: Sequence[str],
    environment: Mapping[str, str],
    flags: Sequence[Flag] = BUILD_FLAGS,
    *,
    takes_words: bool = False,
) -> Arguments:
    """Parse flags.

    Args:
        words: the command line after the command's name.
        environment: consulted for flags that have a variable and are not on the command line.
        takes_words: whether the command has arguments that are no flags; ``-`` is one of them.

    Raises:
        UsageError: unknown flag (with the nearest name), missing or bad value, stray word.
    """
    by_name = {flag.name: flag for flag in flags} | {flag.earlier: flag for flag in flags if flag.earlier}
    by_short = {flag.short: flag for flag in flags if flag.short}
    arguments = Arguments()
    _check_text(words)
    remaining = list(reversed(words))
    while remaining:
        word = remaining.pop()
        if word.startswith("--") and len(word) > 2:
            name, separator, value = word[2:].partition("=")
            flag = _find(by_name, name)
            if name != flag.name:
                arguments.earlier[name] = flag.name
        elif takes_words and not (word.startswith("-") and len(word) > 1):
            arguments.words.append(word)
            continue
        elif word.startswith("-") and len(word) > 1:
            name, value = word[1], word[2:].removeprefix("=")
            separator = "=" if value else ""
            if name not in by_short:
                raise UsageError(f"unknown flag -{name}", hint=_kanikos(name) or _LISTED)
            flag = by_short[name]
        else:
            raise unexpected(word)
        if flag.kind is Kind.BOOLEAN:
            value = value if separator else "true"
        elif not separator:
            if not remaining:
                raise UsageError(f"--{flag.name} needs a value", hint=f"Write --{flag.name}={flag.value}.")
            value = remaining.pop()
        _check_value(flag, value, f"--{flag.name}={value}")
        arguments.values.setdefault(flag.stands_for or flag.name, []).append(value)
    for flag in flags:
        value = environment.get(flag.environment, "") if flag.environment else ""
        if value and flag.name not in arguments.values:
            _check_text([f"{flag.environment}={value}"])
            _check_value(flag, value, f"{flag.environment}={value}")
            arguments.values[flag.name] = [value]
    return arguments


def unexpected(word: str) -> UsageError:
    """For a word that is neither a flag nor the value of one."""
    hint = "Every setting is a flag; a value with spaces needs quotes, and a boolean is --flag or --flag=false."
    return UsageError(f"unexpected word {word!r}", hint=hint)


def outdated(arguments: Arguments, environment: Mapping[str, str], flags: Sequence[Flag] = BUILD_FLAGS) -> list[str]:
    """One line for each of the command's ``flags`` that was given by its earlier name or has no meaning here, and one for
    kaniko's feature flags."""
    warnings = [f"--{name} is now --{today}" for name, today in arguments.earlier.items()]
    warnings += [
        f"--{flag.name} has no meaning here: {flag.pointless}"
        for flag in flags
        if flag.pointless and flag.name in arguments.values
    ]
    features = sorted(name for name in environment if name.startswith(_FEATURE_FLAG))
    if features:
        warnings.append(f"{', '.join(features)}: kaniko's feature flags have no meaning here")
    return warnings


def _check_value(flag: Flag, value: str, written: str) -> None:
    if flag.kind is Kind.BOOLEAN and parse_bool(value) is None:
        raise UsageError(f"{written}: neither true nor false", hint="A boolean is --flag or --flag=false.")
    if flag.kind is Kind.NUMBER and not _NUMBER.fullmatch(value):
        raise UsageError(f"{written}: not a whole number", hint=f"Write --{flag.name}=2, say.")
    if flag.choices and value not in flag.choices:
        raise UsageError(f"{written}: not one of {', '.join(flag.choices)}")


def _check_text(words: Sequence[str]) -> None:
    """Everything goes into JSON sooner or later, which knows no bytes that aren't UTF-8."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            # Not the value: it may be a secret.
            name = word.partition("=")[0].encode("utf-8", "backslashreplace").decode()
            raise UsageError(f"{name}: not UTF-8", hint="Arguments, names and values must be UTF-8 text.") from None


def _find(by_name: Mapping[str, Flag], name: str) -> Flag:
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1)
    hint = _kanikos(name) or (f"Did you mean --{near[0]}?" if near else _LISTED)
    raise UsageError(f"unknown flag --{name}", hint=hint)


def _kanikos(name: str) -> str:
    """For a flag that has another name in kaniko's executor."""
    meant = next((flag.stands_for for flag in DOCKER_FLAGS if name in (flag.name, flag.short)), "")
    return f"Did you mean --{meant}?" if meant else ""

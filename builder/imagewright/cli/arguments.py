"""Parses a command line by the rules of Go's pflag, which kaniko uses, so that the same arguments mean the same.

No I/O; the environment is passed in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from imagewright.cli.command import Flag, Kind
from imagewright.cli.flags import BUILD_FLAGS, COMMAND_FLAGS, DOCKER_FLAGS
from imagewright.errors import UsageError
from imagewright.plan.gotext import parse_bool
from imagewright.records import dataclass

_FEATURE_FLAG = "FF_KANIKO_"
_LISTED = "Run `imagewright build --help` for a list of flags."
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)


@dataclass(slots=True)
class Arguments:
    """The values of the flags that were given; others read as empty."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)  # positional arguments, where a command takes any
    deprecated_names: dict[str, str] = field(default_factory=dict)  # as given, to the current names

    def text(self, name: str, default: str = "") -> str:
        """A flag's last value, as in pflag."""
        given = self.values.get(name)
        return given[-1] if given else default

    def all(self, name: str) -> tuple[str, ...]:
        """A flag's values, in order."""
        return tuple(self.values.get(name, ()))

    def flag(self, name: str) -> bool:
        """A boolean flag's value."""
        return parse_bool(self.text(name, "false")) is True

    def number(self, name: str) -> int | None:
        """A number, None if it wasn't given."""
        text = self.text(name)
        return int(text) if text else None

    def is_on(self, name: str) -> bool:
        """The value of a boolean flag whose default is true."""
        return parse_bool(self.text(name, "true")) is True

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """The values of a ``KEY=VALUE`` flag.

        Raises:
            UsageError: no ``=``, or no key.
        """
        result = []
        for value in self.all(name):
            key, separator, rest = value.partition("=")
            if not separator or not key:
                raise UsageError(f'invalid --{name} value "{value}": not KEY=VALUE', hint=f"Write --{name} key=value.")
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
        environment: the variables of flags that are not on the command line.
        takes_words: whether the command takes positional arguments; ``-`` is one.

    Raises:
        UsageError: an unknown flag, a missing or invalid value, an unexpected argument.
    """
    by_name = {flag.name: flag for flag in flags} | {
        flag.deprecated_name: flag for flag in flags if flag.deprecated_name
    }
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
                arguments.deprecated_names[name] = flag.name
        elif takes_words and not (word.startswith("-") and len(word) > 1):
            arguments.words.append(word)
            continue
        elif word.startswith("-") and len(word) > 1:
            name, value = word[1], word[2:].removeprefix("=")
            separator = "=" if value else ""
            if name not in by_short:
                raise UsageError(f"unknown flag -{name}", hint=_suggested_alias(name) or _LISTED)
            flag = by_short[name]
        else:
            raise unexpected(word)
        if flag.kind is Kind.BOOLEAN:
            value = value if separator else "true"
        elif not separator:
            if not remaining:
                raise UsageError(f"flag --{flag.name} needs a value", hint=f"Write --{flag.name}={flag.value}.")
            value = remaining.pop()
        _check_value(flag, value, f"--{flag.name}")
        arguments.values.setdefault(flag.alias_of or flag.name, []).append(value)
    for flag in flags:
        value = environment.get(flag.environment, "") if flag.environment else ""
        if value and flag.name not in arguments.values:
            _check_text([f"{flag.environment}={value}"])
            _check_value(flag, value, flag.environment)
            arguments.values[flag.name] = [value]
    return arguments


def parse_build(
    words: Sequence[str], environment: Mapping[str, str], flags: Sequence[Flag] = COMMAND_FLAGS
) -> Arguments:
    """Parse the words after ``build`` or ``plan``; a positional argument is read as ``--context``.

    Raises:
        UsageError: as ``parse``; more than one context.
    """
    arguments = parse(words, environment, flags, takes_words=True)
    contexts, arguments.words = arguments.words, []
    for word in contexts:
        if word.lower() in ("true", "false"):
            raise unexpected(word)  # after a boolean, written as --flag true
    if len(contexts) > 1:
        raise UsageError(
            f"{len(contexts)} contexts given, and a build takes one",
            hint="Use flags for all other settings, and quote values with spaces.",
        )
    if contexts and "context" in arguments.values:
        raise UsageError("context given twice: as an argument and with --context", hint="Leave one of them out.")
    if contexts:
        arguments.values["context"] = contexts
    return arguments


def unexpected(word: str) -> UsageError:
    """The error for a word that is neither a flag nor the value of one."""
    hint = "Use flags for all settings, quote values with spaces, and write a boolean as --flag or --flag=false."
    return UsageError(f'unexpected argument "{word}"', hint=hint)


def deprecation_warnings(
    arguments: Arguments, environment: Mapping[str, str], flags: Sequence[Flag] = BUILD_FLAGS
) -> list[str]:
    """A line for each given flag that has a deprecated name or no effect here, and one for kaniko's feature flags."""
    warnings = [f"--{name} is deprecated: use --{current}" for name, current in arguments.deprecated_names.items()]
    warnings += [
        f"--{flag.name} has no effect here: {flag.no_effect}"
        for flag in flags
        if flag.no_effect and flag.name in arguments.values
    ]
    features = sorted(name for name in environment if name.startswith(_FEATURE_FLAG))
    if features:
        warnings.append(f"{', '.join(features)}: kaniko's feature flags have no effect here")
    return warnings


def _check_value(flag: Flag, value: str, where: str) -> None:
    if flag.kind is Kind.BOOLEAN and parse_bool(value) is None:
        raise UsageError(f'invalid {where} value "{value}": not a boolean', hint="Write --flag or --flag=false.")
    if flag.kind is Kind.NUMBER and not _NUMBER.fullmatch(value):
        raise UsageError(
            f'invalid {where} value "{value}": not a whole number', hint=f"Use, for example, --{flag.name}=2."
        )
    if flag.choices and value not in flag.choices:
        raise UsageError(f'invalid {where} value "{value}"', hint=f"Use {' or '.join(flag.choices)}.")


def _check_text(words: Sequence[str]) -> None:
    """Everything ends up in JSON, which is UTF-8."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            # The value may be a secret: it isn't shown.
            name = word.partition("=")[0].encode("utf-8", "backslashreplace").decode()
            raise UsageError(f"invalid value of {name}: not UTF-8", hint="Use UTF-8 for names and values.") from None


def _find(by_name: Mapping[str, Flag], name: str) -> Flag:
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1)
    hint = _suggested_alias(name) or (f"Did you mean --{near[0]}?" if near else _LISTED)
    raise UsageError(f"unknown flag --{name}", hint=hint)


def _suggested_alias(name: str) -> str:
    """The hint for docker's name of a flag, where only kaniko's are taken."""
    meant = next((flag.alias_of for flag in DOCKER_FLAGS if name in (flag.name, flag.short)), "")
    return f"Did you mean --{meant}?" if meant else ""

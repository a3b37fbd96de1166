"""The ``--name=value`` flags of instructions: which exist, of what kind, and their values.

No I/O. Called by ``dockerfile.instructions``. Every flag of the reference is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from imagewright.dockerfile.source import SourceText, did_you_mean
from imagewright.errors import Location


class FlagKind(Enum):
    """BOOL may stand alone, VALUE needs one value, LIST may be given again."""

    BOOL = "bool"
    VALUE = "value"
    LIST = "list"


_COPYING = {
    "chown": FlagKind.VALUE,
    "chmod": FlagKind.VALUE,
    "link": FlagKind.BOOL,
    "exclude": FlagKind.LIST,
}
FLAGS: Mapping[str, Mapping[str, FlagKind]] = {
    "FROM": {"platform": FlagKind.VALUE},
    "RUN": {
        "mount": FlagKind.LIST,
        "network": FlagKind.VALUE,
        "security": FlagKind.VALUE,
        "device": FlagKind.LIST,
    },
    "COPY": _COPYING | {"from": FlagKind.VALUE, "parents": FlagKind.BOOL},
    "ADD": _COPYING | {"checksum": FlagKind.VALUE, "keep-git-dir": FlagKind.BOOL, "unpack": FlagKind.BOOL},
    "HEALTHCHECK": {
        "interval": FlagKind.VALUE,
        "timeout": FlagKind.VALUE,
        "start-period": FlagKind.VALUE,
        "start-interval": FlagKind.VALUE,
        "retries": FlagKind.VALUE,
    },
}


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that were given, by name without dashes, each with its values in order."""

    given: Mapping[str, tuple[str, ...]]

    def value(self, name: str) -> str:
        """The value, ``""`` where the flag was not given."""
        return self.given.get(name, ("",))[0]

    def all(self, name: str) -> tuple[str, ...]:
        return self.given.get(name, ())

    def switch(self, name: str) -> bool | None:
        """Of a BOOL flag: what it says, None where it was not given."""
        return None if name not in self.given else self.given[name][0] == "true"


def read_flags(instruction: str, words: Sequence[str], source: SourceText, location: Location) -> Flags:
    """Check and take the flags of one instruction.

    Raises:
        DockerfileError: an unknown flag, a missing value, a value that is no boolean, a flag given twice.
    """
    known = FLAGS.get(instruction, {})
    given: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, value = word[2:].partition("=")
        kind = known.get(name)
        shown = f"--{name}"
        if kind is None:
            raise source.error(
                f"{instruction} has no flag {shown}", location, word=shown, hint=_unknown_hint(instruction, name)
            )
        if name in given and kind is not FlagKind.LIST:
            raise source.error(f"{shown} is given twice", location, word=shown)
        if kind is FlagKind.BOOL:
            value = value.lower() if equals else "true"
            if value not in ("true", "false"):
                raise source.error(f"{word} is neither true nor false", location, word=shown, hint=f"Write {shown}.")
        elif not equals:
            raise source.error(f"{shown} needs a value", location, word=shown, hint=f"Write {shown}=value.")
        given[name] = (*given.get(name, ()), value)
    return Flags(given)


def _unknown_hint(instruction: str, name: str) -> str:
    known = FLAGS.get(instruction, {})
    if hint := did_you_mean(f"--{name}", [f"--{k}" for k in known]):
        return hint
    owners = [owner for owner, flags in FLAGS.items() if name in flags]
    if owners:
        return f"--{name} is a flag of {' and '.join(owners)}."
    if not known:
        return f"{instruction} takes no flags."
    return f"{instruction} takes {', '.join(f'--{k}' for k in known)}."

"""What a command of the command line is: how it is typed, its flags, and what runs it.

``cli.commands`` define the commands, ``cli.flags`` the flags of builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from imagewright.records import dataclass

Prepare = Callable[[], None]  # runs before anything connects; may raise an ImagewrightError


class Kind(Enum):
    """How a flag takes its value. A BOOLEAN never takes the next word (pflag): ``--x`` or ``--x=false``."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``environment`` names the variable that is used where the command line doesn't set it, as in kaniko.

    ``choices`` are the only values, where there are few. ``no_effect`` says why a flag of kaniko's has none here: it is
    accepted with a warning. ``deprecated_name`` is one that kaniko still takes. ``alias_of`` is the flag that this one
    sets.
    """

    name: str
    kind: Kind
    value: str  # how the value is shown in the help
    help: str
    short: str = ""
    environment: str = ""
    choices: tuple[str, ...] = ()
    no_effect: str = ""
    deprecated_name: str = ""
    alias_of: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """``usage`` is how it is typed, without flags; ``run`` gets the words after the command and gives the exit code."""

    usage: str
    flags: Sequence[Flag]
    run: Callable[[Sequence[str], Mapping[str, str], Prepare], int]


def connecting(run: Callable[[Sequence[str], Mapping[str, str]], int]) -> Callable[..., int]:
    """What runs a command that connects to servers: mounted certificates are trusted first."""

    def prepared(words: Sequence[str], environment: Mapping[str, str], prepare: Prepare) -> int:
        from imagewright.cli.interrupts import repeated_to_first_process  # noqa: PLC0415 -- version needs no sockets

        prepare()
        with repeated_to_first_process():
            return run(words, environment)

    return prepared

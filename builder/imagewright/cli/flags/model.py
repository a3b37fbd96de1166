"""What a flag is: its name, how it takes its value, what it means, or why it has no meaning here.

No I/O. The tables beside this module are made of it; ``cli.arguments`` reads a command line by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a flag takes its value. A BOOLEAN never takes the next word (pflag): ``--x`` or ``--x=false``."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``environment`` names the variable that sets it where the command line doesn't, as in kaniko.

    ``choices`` are the only values, where there are but some. ``pointless`` says why a flag of kaniko's has no meaning
    here: it is accepted, and the user is told. ``earlier`` is the name that kaniko gave up and still takes.
    ``stands_for`` is the flag that is meant by this one, which has no values of its own.
    """

    name: str
    kind: Kind
    value: str  # how the value is shown in the help
    help: str
    short: str = ""
    environment: str = ""
    choices: tuple[str, ...] = ()
    pointless: str = ""
    earlier: str = ""
    stands_for: str = ""

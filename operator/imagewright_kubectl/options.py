"""The command line: commands, their flags, and what kubectl's own flags say.

No I/O. Called by ``main`` and, for the names of commands and flags, by ``completion``.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from imagewright.errors import UsageError
from imagewright_kubectl.kubeconfig import Place

PROGRAM = "kubectl imagewright"

_WRONG_COMMAND = re.compile(r"argument COMMAND: invalid choice: (.+) \(choose from (.+)\)")
_PLACE = (
    (("-n",), "--namespace", "NAME", "the context's if not given"),
    ((), "--context", "NAME", "of the kubeconfig; the current one if not given"),
    ((), "--kubeconfig", "FILE", "KUBECONFIG, or ~/.kube/config, if not given"),
)


class Parser(argparse.ArgumentParser):
    """argparse, with errors like all others, and without abbreviations."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; what no flag is, is said with the command that it was given to."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            hint = f"`{PROGRAM} {options.command} --help` lists the flags."
            raise UsageError(f"{options.command} doesn't know {' '.join(rest)}", hint=hint)
        return options

    def error(self, message: str) -> NoReturn:
        wrong = _WRONG_COMMAND.match(message)
        if wrong is not None:
            raise UsageError(f"unknown command {wrong[1]}", hint=f"The commands are {wrong[2]}.")
        raise UsageError(message, hint=f"`{self.prog} --help` says what there is.")


def place_of(options: argparse.Namespace) -> Place:
    """kubectl's flags."""
    return Place(options.kubeconfig, options.context, options.namespace)


def add_place(parser: Parser, default: str = argparse.SUPPRESS) -> None:
    """The flags that kubectl has everywhere: before the command, where they have a default, and after it."""
    group = parser.add_argument_group("as in kubectl")
    for short, name, value, about in _PLACE:
        group.add_argument(*short, name, metavar=value, default=default, help=about)


def add_output(parser: Parser, *choices: str) -> None:
    """``--output``."""
    parser.add_argument(
        "-o", "--output", metavar="|".join(choices), choices=choices, default="", help="how it is shown"
    )


def add_name(parser: Parser, *, optional: bool = False) -> None:
    """The ImageBuild that is meant."""
    parser.add_argument("name", metavar="NAME", nargs="?" if optional else None, default="", help="of an ImageBuild")

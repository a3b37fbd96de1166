"""The argument parser of all commands, and the flags that several of them have.

No I/O.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from imagewright.errors import UsageError
from imagewright_kubectl.kubeconfig import ConfigFlags

PROGRAM = "kubectl imagewright"

_WRONG_COMMAND = re.compile(r"argument COMMAND: invalid choice: (.+) \(choose from (.+)\)")
_CONFIG_FLAGS = (
    (("-n",), "--namespace", "NAME", "namespace (default: the context's)"),
    ((), "--context", "NAME", "context of the kubeconfig (default: the current one)"),
    ((), "--kubeconfig", "FILE", "kubeconfig (default: $KUBECONFIG or ~/.kube/config)"),
)


class Parser(argparse.ArgumentParser):
    """argparse without abbreviated flags, and with the errors of all commands."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more, allow_abbrev=False)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but an error about an unknown argument names the command."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            hint = f"See `{PROGRAM} {options.command} --help`."
            raise UsageError(f"unknown argument of {options.command}: {' '.join(rest)}", hint=hint)
        return options

    def error(self, message: str) -> NoReturn:
        wrong = _WRONG_COMMAND.match(message)
        if wrong is not None:
            choices = wrong[2].replace("'", "")  # argparse's quotes
            raise UsageError(f'unknown command "{wrong[1][1:-1]}"', hint=f"Use one of {choices}.")
        raise UsageError(message, hint=f"See `{self.prog} --help`.")


def config_flags(options: argparse.Namespace) -> ConfigFlags:
    """kubectl's flags that choose a cluster."""
    return ConfigFlags(options.kubeconfig, options.context, options.namespace)


def add_config_flags(parser: Parser, default: str = argparse.SUPPRESS) -> None:
    """``--namespace``, ``--context``, ``--kubeconfig``: before the command, where they have a default, and after it."""
    group = parser.add_argument_group("flags as in kubectl")
    for short, name, value, about in _CONFIG_FLAGS:
        group.add_argument(*short, name, metavar=value, default=default, help=about)


def add_output(parser: Parser, *choices: str) -> None:
    """``--output``."""
    parser.add_argument("-o", "--output", metavar="|".join(choices), choices=choices, default="", help="output format")


def add_name(parser: Parser, *, optional: bool = False) -> None:
    """The name of an ImageBuild."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?" if optional else None, default="", help="name of the ImageBuild"
    )

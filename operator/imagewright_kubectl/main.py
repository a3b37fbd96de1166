"""The program ``kubectl-imagewright``, which kubectl runs as ``kubectl imagewright``: a command, an exit code.

I/O: standard output and error; the commands do the rest.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata

from imagewright.errors import ImagewrightError, Reason, exit_code
from imagewright_kubectl import changes, getcommand, waitcommand
from imagewright_kubectl.options import PROGRAM, Parser, add_name, add_output, add_place

_ABOUT = "Builds container images in the cluster: what people do with ImageBuilds."
_END = "Every command: kubectl imagewright COMMAND --help. docs/kubectl.md has examples and exit codes."
_DEBUG = "IMAGEWRIGHT_DEBUG"


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command; its exit code (docs/kubectl.md)."""
    try:
        options = parser().parse_args(list(words) or ["--help"])
        code: int = options.run(options)
        sys.stdout.flush()
    except ImagewrightError as error:
        print(error.render(), file=sys.stderr)
        return exit_code(error.reason)
    except BrokenPipeError:
        # Nobody reads any more; without this the interpreter complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return exit_code(Reason.CANCELLED)
    except Exception as failure:  # noqa: BLE001 -- a bug, said as all other errors are
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        hint = f"This is a bug: report it, with what {_DEBUG}=1 adds."
        bug = ImagewrightError(f"the plugin failed: {type(failure).__name__}: {failure}", hint=hint)
        print(bug.render(), file=sys.stderr)
        return exit_code(bug.reason)
    return code


def parser() -> Parser:
    """All commands."""
    made = Parser(prog=PROGRAM, description=_ABOUT, epilog=_END)
    made.add_argument("--version", action="version", version=f"imagewright {metadata.version('imagewright')}")
    add_place(made, default="")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, about: str) -> Parser:
        one = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        add_place(one)
        return one

    one = command("get", "show ImageBuilds")
    add_name(one, optional=True)
    add_output(one, "wide")
    one.add_argument("-A", "--all-namespaces", action="store_true", help="those of all namespaces")
    one.add_argument("-l", "--selector", metavar="LABELS", default="", help="only those with these labels")
    one.set_defaults(run=getcommand.run)
    for name, about, run_it in (
        ("rebuild", "build the same inputs once more", changes.rebuild),
        ("cancel", "end the running build, and start none until resumed", changes.cancel),
        ("suspend", "start no new build; one that runs goes on", changes.suspend),
        ("resume", "take back suspend and cancel", changes.resume),
    ):
        one = command(name, about)
        add_name(one)
        add_output(one)
        one.set_defaults(run=run_it)
    one = command("wait", "wait until the image is built (exit code 0) or has failed (1)")
    add_name(one)
    add_output(one)
    one.add_argument(
        "--timeout", metavar="DURATION", default="", help="then the exit code is 124; endless if not given"
    )
    one.set_defaults(run=waitcommand.run)
    return made

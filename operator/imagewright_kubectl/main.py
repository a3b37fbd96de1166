"""The program ``kubectl-imagewright``, which kubectl runs as ``kubectl imagewright``: a command, an exit code.

I/O: standard output and error; the commands do the rest.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

from imagewright.errors import ImagewrightError, Reason, UsageError, exit_code
from imagewright_kubectl.parser import parser

_DEBUG = "IMAGEWRIGHT_DEBUG"


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal need not know every character
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command; its exit code (docs/kubectl.md)."""
    try:
        code = _run(list(words) or ["--help"])
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


def _run(words: list[str]) -> int:
    """``create NAME -- FLAGS`` takes kaniko's flags after two dashes, as no other command does."""
    own = words[: words.index("--")] if "--" in words else words
    given = len(own)
    # As kubectl: its value follows =, never as a word of its own, which would be the name.
    own = ["--dry-run=client" if word == "--dry-run" else word for word in own]
    options = parser().parse_args(own)
    options.kaniko = words[given + 1 :]
    if given < len(words) and not options.takes_kaniko:
        raise UsageError("-- is for the command create alone", hint="Leave it out.")
    code: int = options.run(options)
    return code

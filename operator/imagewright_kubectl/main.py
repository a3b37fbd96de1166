"""The program ``kubectl-imagewright``, which kubectl runs as ``kubectl imagewright``.

I/O: standard output and error.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

from imagewright.errors import ImagewrightError, Reason, UsageError, exit_code
from imagewright_kubectl.errors import explain
from imagewright_kubectl.parser import parser
from imagewright_operator.kubeapi.errors import ApiError

_DEBUG = "IMAGEWRIGHT_DEBUG"


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a terminal need not know every character
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run a command; its exit code, by docs/kubectl.md."""
    try:
        code = _run(list(words) or ["--help"])
        sys.stdout.flush()
    except (ImagewrightError, ApiError) as failure:
        error = explain(failure) if isinstance(failure, ApiError) else failure
        print(error.render(), file=sys.stderr)
        return exit_code(error.reason)
    except BrokenPipeError:
        # Without this the interpreter reports the closed pipe when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return exit_code(Reason.CANCELLED)
    except Exception as failure:  # noqa: BLE001 -- a bug, reported like other errors
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        hint = f"Report this bug, with the output of {_DEBUG}=1."
        bug = ImagewrightError(f"internal error: {type(failure).__name__}: {failure}", hint=hint)
        print(bug.render(), file=sys.stderr)
        return exit_code(bug.reason)
    return code


def _run(words: list[str]) -> int:
    """``create NAME -- FLAGS`` takes kaniko's flags after two dashes; no other command does."""
    own = words[: words.index("--")] if "--" in words else words
    given = len(own)
    # As in kubectl, its value follows =: a separate word is the name.
    own = ["--dry-run=client" if word == "--dry-run" else word for word in own]
    options = parser().parse_args(own)
    options.kaniko = words[given + 1 :]
    if given < len(words) and not options.takes_kaniko:
        raise UsageError("-- is only valid for create", hint="Remove it.")
    code: int = options.run(options)
    return code

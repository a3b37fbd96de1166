"""What a runner answers, as the engine reads it.

No I/O. A runner in another container may have been replaced by a command: its answers are taken for what they must be,
numbers in their ranges and short texts, or for nothing.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection

from imagewright.errors import Reason, SandboxError, printable
from imagewright.sandbox.model import PROCESSES_HINT, Counts, MemoryUse, RunnerLost

_MAX_TEXT = 1000  # characters; the longest honest text names a path
_MAX_CODE = 255
_MAX_ERRNO = 4095  # MAX_ERRNO of Linux
_MAX_COUNT = (1 << 63) - 1
# Errors caused by the image or the Dockerfile: a target where nothing can be mounted.
_REASONS = dict.fromkeys(
    (errno.ELOOP, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS), Reason.PATH_NOT_ALLOWED
) | dict.fromkeys((errno.ENOSPC, errno.EDQUOT), Reason.DISK_FULL)
_FULL = (
    "Give the build a larger work directory with --work-dir (ImageBuild: the operator's setting "
    "IMAGEWRIGHT_WORKSPACE_SIZE)."
)


def exit_code(answer: bytes) -> int:
    """The command's exit code.

    Raises:
        SandboxError: it could not be started.
        RunnerLost: the answer is invalid.
    """
    told = _object(answer)
    if "error" not in told:
        _expect(told, ("code",))
        return _number(told["code"], _MAX_CODE)
    _expect(told, ("error", "errno", "hint"))
    number = None if told["errno"] is None else _number(told["errno"], _MAX_ERRNO)
    reason = None if number is None else _REASONS.get(number)
    hint = _text(told["hint"]) or _FULL * (reason is Reason.DISK_FULL) or PROCESSES_HINT * (number == errno.EAGAIN)
    raise SandboxError(_text(told["error"]), reason=reason, hint=hint)


def counts(answer: bytes) -> Counts:
    """The counters of the group that the runner is in.

    Raises:
        RunnerLost: the answer is invalid.
    """
    told = _object(answer)
    _expect(told, ("group", "machine_kills"))
    group = told["group"]
    use = None
    if group is not None:
        if not isinstance(group, dict):
            raise _invalid()
        _expect(group, ("kills", "peak", "limit"))
        use = MemoryUse(_number(group["kills"], _MAX_COUNT), _size(group["peak"]), _size(group["limit"]))
    return Counts(use, _size(told["machine_kills"]))


def _object(answer: bytes) -> dict[str, object]:
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        raise _invalid() from None
    if not isinstance(told, dict):
        raise _invalid()
    return told


def _expect(told: dict[str, object], names: Collection[str]) -> None:
    if set(told) != set(names):
        raise _invalid()


def _number(told: object, most: int) -> int:
    if type(told) is not int or not 0 <= told <= most:  # JSON's true would be an int, too
        raise _invalid()
    return told


def _size(told: object) -> int | None:
    return None if told is None else _number(told, _MAX_COUNT)


def _text(told: object) -> str:
    if not isinstance(told, str):
        raise _invalid()
    return printable(told, _MAX_TEXT)


def _invalid() -> RunnerLost:
    return RunnerLost("the process that runs commands sent an invalid answer")

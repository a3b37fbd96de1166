"""What a build ends with, and how errors of any kind are reported in it.

No I/O.
"""

from __future__ import annotations

import errno

from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import ImagewrightError, Reason, StepError
from imagewright.fs.rootfs.errors import DISK_FULL, DISK_FULL_HINT
from imagewright.records import dataclass
from imagewright.sandbox.model import PROCESSES_HINT

_NO_THREAD = "can't start new thread"  # CPython's words: a RuntimeError, without the number of the kernel's error


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error`` is None if the build succeeded; ``result`` is the same for machines."""

    result: BuildResult
    error: ImagewrightError | None = None


def as_failure(error: ImagewrightError) -> Failure:
    """The error for machines."""
    location = error.location
    return Failure(
        reason=error.reason.value,
        message=error.message,
        hint=error.hint,
        instruction=error.instruction,
        file=location.file if location else "",
        line=location.line if location else 0,
        exit_code=error.exit_code if isinstance(error, StepError) else None,
    )


def explain(failure: Exception) -> ImagewrightError | None:
    """The error for one of the operating system that no part expected; None if it is a bug of the engine.

    A command of another stage may have used up what this process needs as well: disk space, processes, threads.
    """
    if isinstance(failure, RuntimeError) and str(failure) == _NO_THREAD:
        return _no_process("a thread")
    if not isinstance(failure, OSError):
        return None
    if failure.errno in DISK_FULL:
        return ImagewrightError("no space left for the build's files", reason=Reason.DISK_FULL, hint=DISK_FULL_HINT)
    if failure.errno == errno.EAGAIN and not failure.filename:
        return _no_process("a process")
    what = f"{failure.filename}: " if failure.filename else ""
    return ImagewrightError(
        f"{what}{failure.strerror or failure}", hint="Report it with the whole log if it happens again."
    )


def _no_process(what: str) -> ImagewrightError:
    return ImagewrightError(
        f"cannot start {what} of the engine: the limit of processes and threads is reached",
        reason=Reason.LIMIT_EXCEEDED,
        hint=PROCESSES_HINT,
    )

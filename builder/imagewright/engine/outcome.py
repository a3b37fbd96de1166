"""What a build ends with, and how errors of any kind are reported in it.

No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import ImagewrightError, Reason, StepError
from imagewright.fs.rootfs.errors import DISK_FULL, DISK_FULL_HINT


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


def from_os_error(error: OSError) -> ImagewrightError:
    """An error of the operating system that was not expected."""
    if error.errno in DISK_FULL:
        return ImagewrightError("no space left for the build's files", reason=Reason.DISK_FULL, hint=DISK_FULL_HINT)
    what = f"{error.filename}: " if error.filename else ""
    return ImagewrightError(
        f"{what}{error.strerror or error}", hint="Report it with the whole log if it happens again."
    )

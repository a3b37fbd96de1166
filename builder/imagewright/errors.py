"""The error tree: every failure that users see, with a reason code, a hint and, where it applies, a location in a file.

No I/O. The command line, the termination message and, through the contract, the ImageBuild's conditions show the same
message, reason and hint.

::

    ImagewrightError            any failure with a reason code
    ├── UsageError              invalid flags or an invalid request (exit code 2)
    ├── UnsupportedError        a feature that this version doesn't have
    ├── DockerfileError         an invalid Dockerfile or .dockerignore
    ├── SourceError             the build context can't be fetched, or contains something forbidden
    ├── RegistryError           a registry refused, sent an invalid answer or can't be reached
    ├── FileSystemError         a layer or a copy can't be applied to the root file system
    ├── SandboxError            no sandbox, or one that can't do what is required
    └── StepError               a RUN ended with a non-zero exit code or a signal
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from imagewright.logins import without_logins
from imagewright.records import dataclass


class Reason(StrEnum):
    """Reason codes, shared by engine and operator; CamelCase, as the Kubernetes API conventions require."""

    # user input
    INVALID_SPEC = "InvalidSpec"
    USAGE_INVALID = "UsageInvalid"
    NOT_SUPPORTED = "NotSupported"
    REFERENCE_INVALID = "ReferenceInvalid"
    DIGEST_INVALID = "DigestInvalid"
    DOCKERFILE_NOT_FOUND = "DockerfileNotFound"
    DOCKERFILE_INVALID = "DockerfileInvalid"
    # sources
    SOURCE_FETCH_FAILED = "SourceFetchFailed"
    SOURCE_AUTH_FAILED = "SourceAuthFailed"
    GIT_AUTH_FAILED = "GitAuthFailed"
    GIT_REPOSITORY_NOT_FOUND = "GitRepositoryNotFound"
    GIT_REVISION_NOT_FOUND = "GitRevisionNotFound"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_CERTIFICATE_UNTRUSTED = "SourceCertificateUntrusted"
    FILE_NOT_FOUND = "FileNotFound"
    LINT_FAILED = "LintFailed"
    # registries
    BASE_IMAGE_PULL_FAILED = "BaseImagePullFailed"
    REGISTRY_AUTH_FAILED = "RegistryAuthFailed"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    REGISTRY_PROTOCOL_ERROR = "RegistryProtocolError"
    PUSH_FAILED = "PushFailed"
    TAG_IMMUTABLE = "TagImmutable"
    # file system and layers
    LAYER_INVALID = "LayerInvalid"
    LIMIT_EXCEEDED = "LimitExceeded"
    PATH_NOT_ALLOWED = "PathNotAllowed"
    ID_OUT_OF_RANGE = "IdOutOfRange"
    DISK_FULL = "DiskFull"
    OUTPUT_FAILED = "OutputFailed"
    # execution
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    STEP_FAILED = "StepFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    NODE_OUT_OF_MEMORY = "NodeOutOfMemory"
    SANDBOX_UNAVAILABLE = "SandboxUnavailable"
    NOT_ISOLATED = "NotIsolated"
    INTERNAL_ERROR = "InternalError"
    CANCELLED = "Cancelled"
    # only the operator
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    POD_REJECTED = "PodRejected"
    POD_NAME_TAKEN = "PodNameTaken"
    POD_UNTRUSTED = "PodUntrusted"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_PENDING = "VolumePending"
    START_TIMEOUT = "StartTimeout"
    POD_EVICTED = "PodEvicted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    QUOTA_EXCEEDED = "QuotaExceeded"
    TIMEOUT = "Timeout"
    # only the kubectl plugin
    KUBERNETES_API_FAILED = "KubernetesApiFailed"
    IMAGE_BUILD_NOT_FOUND = "ImageBuildNotFound"
    LOG_NOT_FOUND = "LogNotFound"


@dataclass(frozen=True, slots=True)
class Location:
    """A range in a source file. Lines and columns count from 1; ``end_line`` is inclusive, ``end_column`` exclusive."""

    file: str
    line: int
    end_line: int = 0
    column: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")


def printable(text: str, limit: int) -> str:
    """A foreign text for a message: its first ``limit`` characters, those that are not printable escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:limit])


def quoted(text: str, limit: int = 300) -> str:
    """A value for a message: in double quotes, bounded, with characters that are not printable escaped."""
    return f'"{printable(text, limit)}"'


class ImagewrightError(Exception):
    """A failure that a user can act on. Addresses in its message and hint are shown without their logins.

    Args:
        message: what was attempted, on what, and why it failed; lower case, without a full stop, values in double
            quotes.
        reason: the reason code; subclasses have a default.
        hint: what to do about it, as an imperative sentence; empty if the message already says so.
        location: the range in the user's own file, if the failure has one.
        excerpt: lines that show the location (source lines with a caret, or the end of a log).

    ``why`` is the message without what was attempted, where that is known: for an error that says that in its own
    words.
    """

    default_reason = Reason.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        hint: str = "",
        location: Location | None = None,
        excerpt: Sequence[str] = (),
    ) -> None:
        self.message = self.why = without_logins(message)
        super().__init__(self.message)
        self.reason = reason or self.default_reason
        self.hint = without_logins(hint)
        self.location = location
        self.excerpt = tuple(excerpt)
        self.instruction = ""  # the one that was being executed; set by the engine

    def render(self) -> str:
        """The whole error as plain lines: message with reason, location, excerpt, hint."""
        lines = [f"error: {self.message} [{self.reason.value}]"]
        if self.location is not None:
            lines.append(f"  --> {self.location}")
        lines.extend(self.excerpt)
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class Interruption(BaseException):
    """A signal ends the build. Not an Exception, so that no library or fallback handles it as a failure of its own."""

    def as_error(self) -> ImagewrightError:
        """The error that the build ends with."""
        return ImagewrightError(str(self), reason=Reason.CANCELLED)


class UsageError(ImagewrightError):
    default_reason = Reason.USAGE_INVALID


class UnsupportedError(ImagewrightError):
    default_reason = Reason.NOT_SUPPORTED


class DockerfileError(ImagewrightError):
    default_reason = Reason.DOCKERFILE_INVALID


class SourceError(ImagewrightError):
    default_reason = Reason.SOURCE_FETCH_FAILED


class RegistryError(ImagewrightError):
    """``status`` is the HTTP status of the answer, 0 without one."""

    default_reason = Reason.REGISTRY_UNAVAILABLE

    def __init__(
        self, message: str, *, why: str = "", status: int = 0, reason: Reason | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.why = without_logins(why) or self.message
        self.status = status


class FileSystemError(ImagewrightError):
    default_reason = Reason.LAYER_INVALID

    def __init__(self, message: str, *, why: str = "", reason: Reason | None = None, hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.why = without_logins(why) or self.message


class SandboxError(ImagewrightError):
    default_reason = Reason.SANDBOX_UNAVAILABLE


class StepError(ImagewrightError):
    """A RUN that failed. ``exit_code`` is the shell's: 128 + n for a command that signal n ended.

    ``reason`` differs from ``StepFailed`` if the command ran out of memory.
    """

    default_reason = Reason.STEP_FAILED

    def __init__(
        self,
        message: str,
        *,
        exit_code: int,
        reason: Reason | None = None,
        location: Location | None = None,
        excerpt: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, reason=reason, location=location, excerpt=excerpt, hint=hint)
        self.exit_code = exit_code


# Documented in docs/errors.md; 0 is success, 1 any other failure.
_EXIT_CODES = {
    Reason.USAGE_INVALID: 2,
    Reason.LINT_FAILED: 3,
    Reason.INVALID_SPEC: 2,
    Reason.NOT_SUPPORTED: 2,
    Reason.REFERENCE_INVALID: 2,
    Reason.SECRET_NOT_FOUND: 2,
    Reason.DOCKERFILE_INVALID: 3,
    Reason.DOCKERFILE_NOT_FOUND: 3,
    Reason.SOURCE_FETCH_FAILED: 4,
    Reason.SOURCE_AUTH_FAILED: 4,
    Reason.GIT_AUTH_FAILED: 4,
    Reason.GIT_REPOSITORY_NOT_FOUND: 4,
    Reason.GIT_REVISION_NOT_FOUND: 4,
    Reason.SOURCE_UNREACHABLE: 4,
    Reason.SOURCE_CERTIFICATE_UNTRUSTED: 4,
    Reason.FILE_NOT_FOUND: 4,
    Reason.BASE_IMAGE_PULL_FAILED: 5,
    Reason.REGISTRY_AUTH_FAILED: 5,
    Reason.REGISTRY_UNAVAILABLE: 5,
    Reason.REGISTRY_PROTOCOL_ERROR: 5,
    Reason.PUSH_FAILED: 6,
    Reason.TAG_IMMUTABLE: 6,
    Reason.OUTPUT_FAILED: 6,
    Reason.STEP_FAILED: 7,
    Reason.OUT_OF_MEMORY: 7,
    Reason.NODE_OUT_OF_MEMORY: 7,
    Reason.SANDBOX_UNAVAILABLE: 8,
    Reason.NOT_ISOLATED: 8,
    Reason.ID_OUT_OF_RANGE: 8,
    Reason.CANCELLED: 130,
}


def exit_code(reason: Reason) -> int:
    """The process exit code for a failure with this reason."""
    return _EXIT_CODES.get(reason, 1)


def internal_error(failure: Exception) -> ImagewrightError:
    """An exception that no part expected."""
    return ImagewrightError(f"unexpected {type(failure).__name__}: {failure}", hint="Report this bug with the log.")

"""What goes wrong between the plugin and an API server, in words, and which of it may pass.

No I/O. Raised by ``connection`` and ``apiserver``; ``main`` shows it.
"""

from __future__ import annotations

import json

from imagewright.errors import ImagewrightError, Reason, UsageError
from imagewright_operator.api import PLURAL

_PASSING = (0, 429, 500, 502, 503, 504)
_MISSING = "Install the operator first, by Helm or an overlay of yours: docs/installing.md."


class ClusterError(ImagewrightError):
    """The API server can't be reached, or refuses. ``status`` is HTTP's, 0 where there was no answer."""

    default_reason = Reason.KUBERNETES_API_FAILED

    def __init__(self, message: str, *, status: int = 0, reason: Reason | None = None, hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether asking again may help."""
        return self.status in _PASSING


class TimedOut(ImagewrightError):
    """What was waited for did not come in time."""

    default_reason = Reason.TIMEOUT


def not_found(namespace: str, name: str) -> ClusterError:
    """There is no such ImageBuild."""
    return ClusterError(
        f"there is no ImageBuild {name} in the namespace {namespace}",
        status=404,
        reason=Reason.IMAGE_BUILD_NOT_FOUND,
        hint="`kubectl imagewright get` lists those that are there; -n names another namespace.",
    )


def no_answer(server: str, error: Exception) -> ClusterError:
    """Nothing came back from the API server."""
    return ClusterError(
        f"the API server {server} doesn't answer: {error}",
        hint="Is it the right cluster? `kubectl config current-context` says which, --context chooses another.",
    )


def refusal(verb: str, path: str, status: int, text: str) -> ImagewrightError:
    """What an answer other than success means."""
    message = text[:500].strip()
    try:
        answer = json.loads(text)
        message = answer.get("message") or message
    except (ValueError, AttributeError):
        pass
    message = message or f"HTTP status {status}"
    match status:
        case 401:
            hint = "Your login has ended or is of another cluster: log in again, or choose another --context."
            return ClusterError(f"the API server doesn't know you: {message}", status=status, hint=hint)
        case 403:
            hint = "Ask your cluster's admin for this right; docs/kubectl.md lists what each command needs."
            return ClusterError(f"you may not do this: {message}", status=status, hint=hint)
        case 404 if PLURAL in path and "could not find the requested resource" in message:
            return ClusterError("this cluster knows no ImageBuilds", status=status, hint=_MISSING)
        case 409 if verb == "POST":
            hint = "Choose another name, or change the one that is there: --dry-run prints it for kubectl apply."
            return UsageError(message, hint=hint)
        case 400 | 422 if verb != "GET":
            return UsageError(
                message, reason=Reason.INVALID_SPEC, hint="`kubectl explain imagebuild.spec` has the rules."
            )
    return ClusterError(f"the API server refuses: {message}", status=status)

"""The plugin's errors: what failed requests to the API server mean to a user.

No I/O.
"""

from __future__ import annotations

from imagewright.errors import ImagewrightError, Reason, UsageError
from imagewright_operator.kubeapi.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ApiError


class ClusterError(ImagewrightError):
    """A request to the API server failed, or there is no way to make one."""

    default_reason = Reason.KUBERNETES_API_FAILED


class TimedOut(ImagewrightError):
    """The condition was not met in time."""

    default_reason = Reason.TIMEOUT


def not_found(namespace: str, name: str) -> ClusterError:
    """The ImageBuild doesn't exist."""
    return ClusterError(
        f'ImageBuild "{name}" not found in namespace "{namespace}"',
        reason=Reason.IMAGE_BUILD_NOT_FOUND,
        hint="List those that exist with `kubectl imagewright get`; choose another namespace with -n.",
    )


def no_log(name: str, summary: str, *, ended: bool) -> ClusterError:
    """The ImageBuild has no log, by its ``summary``; ``ended`` if none will follow."""
    hint = f"Follow the build with `kubectl imagewright logs -f {name}`: it waits until there is a log."
    if ended:
        hint = f"Look at its Pods and Events with `kubectl imagewright tree {name}` and `kubectl describe`."
    why = "its build has ended without one" if ended else "its build has not started"
    return ClusterError(f'ImageBuild "{name}" has no log: {why} ({summary})', reason=Reason.LOG_NOT_FOUND, hint=hint)


def is_definition_missing(error: ApiError) -> bool:
    """Whether the cluster doesn't have the resource, rather than the object."""
    return error.status == NOT_FOUND and "could not find the requested resource" in error.message


def explain(error: ApiError, verb: str = "GET") -> ImagewrightError:
    """The error to show for a failed request."""
    message = error.message
    match error.status:
        case 0:
            hint = "Check the context with `kubectl config current-context`; choose another with --context."
            return ClusterError(message, hint=hint)
        case 401:
            hint = "Log in again, or choose another --context."
            return ClusterError(f"login refused by the API server: {message}", hint=hint)
        case _ if error.status == FORBIDDEN:
            hint = "Ask an administrator of the cluster for this right; docs/kubectl.md lists what each command needs."
            return ClusterError(f"forbidden: {message}", hint=hint)
        case _ if is_definition_missing(error):
            hint = "Install the operator first: see docs/installing.md."
            return ClusterError("the cluster does not have the resource ImageBuild", hint=hint)
        case _ if error.status == CONFLICT and verb == "POST":
            hint = "Choose another name, or change the existing one: --dry-run prints YAML for kubectl apply."
            return UsageError(message, hint=hint)
        case 400 | 422 if verb != "GET":
            return UsageError(message, reason=Reason.INVALID_SPEC, hint="See `kubectl explain imagebuild.spec`.")
    return ClusterError(f"request refused by the API server: {message}")

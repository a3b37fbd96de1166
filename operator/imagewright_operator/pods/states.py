"""The containers of an executor Pod by name: their states, and why one has not started. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagewright.errors import Reason
from imagewright_operator.api import GROUP
from imagewright_operator.pods.missing import missing_object

EXECUTOR = "executor"
RUNNER = "runner"
INPUTS_ANNOTATION = f"{GROUP}/inputs-hash"  # of the build that it is a Pod of
COMMANDS_ANNOTATION = f"{GROUP}/commands-container"  # of a Pod with both: which one has spec.podTemplate.resources

_IMAGE_PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
_NOT_STARTED = ("CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun")
_NOT_CONFIGURED = "CreateContainerConfigError"


def container_of(containers: Sequence[Mapping[str, Any]] | None, name: str) -> Mapping[str, Any]:
    """The container or container status with this name, {} if there is none; webhooks may have added others."""
    return next((one for one in containers or () if one.get("name") == name), {})


def resources_field(pod: Mapping[str, Any], name: str, field: str) -> str:
    """What sets a field of a container's resources, as ``limits.memory``. An idle runner's limits are the build's."""
    commands = (pod["metadata"].get("annotations") or {}).get(COMMANDS_ANNOTATION)
    if name == EXECUTOR and commands == RUNNER:
        return f"{field} in the operator's setting IMAGEWRIGHT_ENGINE_RESOURCES"
    if name == RUNNER and commands == EXECUTOR and field.startswith("requests."):
        return f"{field} in the operator's setting IMAGEWRIGHT_RUNNER_RESOURCES"
    return f"spec.podTemplate.resources.{field}"


def state_of(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The state of a Pod's container, ``{"running": …}``; {} where it has none yet."""
    return container_of((pod.get("status") or {}).get("containerStatuses"), name).get("state") or {}


def why_not_started(pod: Mapping[str, Any], name: str) -> tuple[str, str, bool] | None:
    """Why a container could not be started: reason, message, and whether it starts as soon as something exists.

    None if it was started, or may still be.
    """
    state = state_of(pod, name)
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    if waiting.get("reason") in (*_IMAGE_PULL, *_NOT_STARTED, _NOT_CONFIGURED):
        return why_not_created(pod, name, waiting["reason"], waiting.get("message") or "")
    why, words = terminated.get("reason") or "", terminated.get("message") or ""
    if why in _NOT_STARTED:
        return Reason.POD_REJECTED, f"cannot start the {name}: {words[:500] or why}", False
    return None


def why_not_created(pod: Mapping[str, Any], name: str, why: str, words: str) -> tuple[str, str, bool]:
    """As ``why_not_started``, for a container that waits for one of the kubelet's reasons, in the kubelet's words."""
    if why in _IMAGE_PULL:
        return Reason.IMAGE_PULL_FAILED, f"cannot pull the image of the {name}: {words or why}", False
    missing = missing_object(pod, words) if why == _NOT_CONFIGURED else None
    action = "create" if why == _NOT_CONFIGURED else "start"
    return missing or (Reason.POD_REJECTED, f"cannot {action} the {name}: {words or why}", False)

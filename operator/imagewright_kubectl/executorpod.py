"""What an executor Pod says of itself: its labels, and the state of its container beside those that a webhook puts there.

No I/O. Called by ``podlog`` and the commands.
"""

from __future__ import annotations

from typing import Any

from imagewright_operator.api import GROUP

Json = dict[str, Any]

CONTAINER = "executor"
_PROBE = "probe"  # in the place of a build's id


def build_of(pod: Json) -> str:
    """The id of the build that it is of."""
    return _label(pod, "build")


def is_probe(pod: Json) -> bool:
    """Whether it is of no build, but looks where a branch is."""
    return build_of(pod) == _PROBE


def attempt_of(pod: Json) -> int:
    """0 where it has none."""
    text = _label(pod, "attempt")
    return int(text) if text.isdecimal() else 0


def state_of_container(pod: Json) -> Json:
    """As Kubernetes has it, ``{"running": …}``; {} as long as there is none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one.get("state") or {} for one in statuses if one.get("name") == CONTAINER), {})


def _label(pod: Json, name: str) -> str:
    label: str = (pod["metadata"].get("labels") or {}).get(f"{GROUP}/{name}", "")
    return label

"""An executor Pod's labels and the state of its container; webhooks may add other containers.

No I/O.
"""

from __future__ import annotations

from typing import Any

from imagewright_operator.api import GROUP

Json = dict[str, Any]

CONTAINER = "executor"
_POLL = "probe"  # label value in place of a build's id


def build_of(pod: Json) -> str:
    """The id of its build."""
    return _label(pod, "build")


def is_poll(pod: Json) -> bool:
    """Whether it polls a branch rather than builds."""
    return build_of(pod) == _POLL


def attempt_of(pod: Json) -> int:
    """The number of its attempt, 0 where it has none."""
    text = _label(pod, "attempt")
    return int(text) if text.isdecimal() else 0


def state_of_container(pod: Json) -> Json:
    """The executor container's state, ``{"running": …}``; {} where it has none yet."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status.get("state") or {} for status in statuses if status.get("name") == CONTAINER), {})


def _label(pod: Json, name: str) -> str:
    label: str = (pod["metadata"].get("labels") or {}).get(f"{GROUP}/{name}", "")
    return label

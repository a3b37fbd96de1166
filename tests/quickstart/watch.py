"""Shows a build while it runs: phases as they change, the executor's log as it is written.

Runs kubectl.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from cluster.places import ClusterError
from cluster.progress import say

_PATIENCE_S = 900
_LOG_RESULT = '{"imagewrightResult"'


def watch(kubectl: Sequence[str], namespace: str, name: str) -> dict[str, Any]:
    """Follow an ImageBuild to its end; its status.

    Args:
        kubectl: the program with the words that say which cluster.

    Raises:
        ClusterError: the build failed, with its reason, or nothing ended in a quarter of an hour.
    """
    phase = followed = ""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        status = _status(kubectl, namespace, name)
        if status.get("phase", "") != phase:
            phase = status.get("phase", "")
            say(f"{name}: {phase}")
        pods = (status.get("build") or {}).get("podNames") or []
        if pods and pods[-1] != followed and phase not in ("", "Pending", "Queued"):
            followed = pods[-1]
            _follow(kubectl, namespace, followed)
            continue
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        if conditions.get("Ready", {}).get("status") == "True":
            return status
        if conditions.get("Stalled", {}).get("status") == "True":
            stalled = conditions["Stalled"]
            raise ClusterError(f"the build failed: {stalled['reason']}: {stalled['message']}")
        time.sleep(0.3)
    raise ClusterError(
        f"the build of {name} did not end in {_PATIENCE_S // 60} minutes; look at it with kubectl describe"
    )


def _status(kubectl: Sequence[str], namespace: str, name: str) -> dict[str, Any]:
    command = [*kubectl, "get", "imagebuild", name, "-n", namespace, "-o", "json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout).get("status") or {}
    return found


def _follow(kubectl: Sequence[str], namespace: str, pod: str) -> None:
    """Until the container ends. A log that cannot be read does not fail: the status tells the outcome."""
    command = [*kubectl, "logs", "-f", "-n", namespace, pod]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(_LOG_RESULT):
                sys.stderr.write(f"    {line}")
                sys.stderr.flush()

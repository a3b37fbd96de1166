"""``rebuild``, ``cancel``, ``suspend`` and ``resume``: each changes one field or annotation.

I/O: asks the API server, writes to standard output.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from imagewright_kubectl import printing
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.printing import Json, note
from imagewright_operator.api import REQUESTED_AT_ANNOTATION


def rebuild(options: argparse.Namespace) -> int:
    """Request a build of the same inputs."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    body = _patched(options, {"metadata": {"annotations": {REQUESTED_AT_ANNOTATION: now}}})
    printing.done(body, "rebuild requested", options.output)
    spec, name = body["spec"], options.name
    if spec.get("cancelled"):
        note(f"spec.cancelled is true: the build starts after `kubectl imagewright resume {name}`")
    elif spec.get("suspend"):
        note(f"spec.suspend is true: the build starts after `kubectl imagewright resume {name}`")
    return 0


def cancel(options: argparse.Namespace) -> int:
    """End the running build and start no other until resumed."""
    body = _patched(options, {"spec": {"cancelled": True}})
    printing.done(body, "cancelled", options.output)
    build = (body.get("status") or {}).get("build") or {}
    if build.get("outcome"):
        note(f"no build is running; none starts until `kubectl imagewright resume {options.name}`")
    return 0


def suspend(options: argparse.Namespace) -> int:
    """Start no new build; a running one continues."""
    printing.done(_patched(options, {"spec": {"suspend": True}}), "suspended", options.output)
    return 0


def resume(options: argparse.Namespace) -> int:
    """Undo suspend and cancel."""
    # null removes the field, so that the object doesn't differ from a manifest without it.
    printing.done(_patched(options, {"spec": {"suspend": None, "cancelled": None}}), "resumed", options.output)
    return 0


def _patched(options: argparse.Namespace, change: Json) -> Json:
    connection = connect(config_flags(options))
    return connection.api.patch(connection.namespace, options.name, change)

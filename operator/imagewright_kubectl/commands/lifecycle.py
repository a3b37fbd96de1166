"""``rebuild``, ``cancel``, ``suspend`` and ``resume``: one field of one ImageBuild each.

I/O: asks the API server, writes to standard output. Called by ``main``.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from imagewright_kubectl import printing
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import place_of
from imagewright_kubectl.printing import Json, note
from imagewright_operator.api import REQUESTED_AT_ANNOTATION


def rebuild(options: argparse.Namespace) -> int:
    """Ask for a build of the same inputs."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    body = _patched(options, {"metadata": {"annotations": {REQUESTED_AT_ANNOTATION: now}}})
    printing.done(body, "asked to build again", options.output)
    spec, name = body["spec"], options.name
    if spec.get("cancelled"):
        note(f"spec.cancelled is true, so nothing is built: `kubectl imagewright resume {name}` sets it back")
    elif spec.get("suspend"):
        note(f"it is suspended: it is built after `kubectl imagewright resume {name}`")
    return 0


def cancel(options: argparse.Namespace) -> int:
    """End the running build, and start none until resumed."""
    body = _patched(options, {"spec": {"cancelled": True}})
    printing.done(body, "cancelled", options.output)
    build = (body.get("status") or {}).get("build") or {}
    if build.get("outcome"):
        note(f"no build is running; none is started until `kubectl imagewright resume {options.name}`")
    return 0


def suspend(options: argparse.Namespace) -> int:
    """Start no new build; one that runs goes on."""
    printing.done(_patched(options, {"spec": {"suspend": True}}), "suspended", options.output)
    return 0


def resume(options: argparse.Namespace) -> int:
    """Take back suspend and cancel."""
    # null: the field is as if it had never been there, so the manifest in git and the object stay the same.
    printing.done(_patched(options, {"spec": {"suspend": None, "cancelled": None}}), "resumed", options.output)
    return 0


def _patched(options: argparse.Namespace, change: Json) -> Json:
    connection = connect(place_of(options))
    return connection.api.patch(connection.namespace, options.name, change)

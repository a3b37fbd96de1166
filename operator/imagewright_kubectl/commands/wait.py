"""``wait``: until the image is built or the build has failed.

I/O: watches one ImageBuild, writes to standard output and error.
"""

from __future__ import annotations

import argparse
import time

from imagewright.errors import UsageError
from imagewright_kubectl.errors import ClusterError, TimedOut, explain
from imagewright_kubectl.kstatus import Result, Status, compute, failure_of
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.printing import Json, named, say, show
from imagewright_operator.api.base import parse_duration
from imagewright_operator.kubeapi.errors import ApiError

SUCCESS, FAILURE, TIMED_OUT = 0, 1, 124  # the last as of timeout(1)


def run(options: argparse.Namespace) -> int:
    """0 when the image is built, 1 when the build failed, was cancelled or deleted, 124 after ``--timeout``."""
    connection = connect(config_flags(options))
    until = time.monotonic() + seconds(options.timeout) if options.timeout else None
    shown = ""
    result = Result(Status.IN_PROGRESS, "", "", "")
    try:
        for body in connection.api.versions(connection.namespace, options.name, until, say):
            result = compute(body)
            if result.status is Status.CURRENT:
                return _built(body, options.output)
            if result.status is Status.FAILED:
                return _failed(body, result, options.output)
            if result.summary != shown:
                shown = result.summary
                say(shown)
    except TimedOut:
        hint = "" if result.phase else "\nhint: Check that the operator runs: kubectl get pods -n imagewright-system."
        say(f"error: timed out after {options.timeout}: {result.summary} [Timeout]{hint}")
        return TIMED_OUT
    except (ClusterError, ApiError) as failure:
        say((explain(failure) if isinstance(failure, ApiError) else failure).render())
        return FAILURE
    raise AssertionError("versions only ends by an exception")


def seconds(text: str) -> float:
    """A duration in seconds; a bare number is seconds.

    Raises:
        UsageError
    """
    try:
        value = float(text) if text.isdecimal() and text.isascii() else parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        raise UsageError(
            f'invalid --timeout value "{text}": not a duration', hint="Use, for example, 45s, 30m or 1h30m."
        ) from None
    if value <= 0:
        raise UsageError(
            f'invalid --timeout value "{text}": must be positive', hint="Omit --timeout to wait without a limit."
        )
    return value


def _built(body: Json, output: str) -> int:
    if output:
        show(body, output)
    else:
        image = body["status"].get("image") or {}
        print(f"{named(body)} built: {image.get('reference') or image.get('digest', '')}")
    return SUCCESS


def _failed(body: Json, result: Result, output: str) -> int:
    if output:
        show(body, output)
    say(f"{failure_of(body, result)}\nhint: See the log with `kubectl imagewright logs {body['metadata']['name']}`.")
    return FAILURE

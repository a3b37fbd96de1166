"""``wait``: until the image is there, or isn't going to be.

I/O: watches one ImageBuild, writes to standard output and error. Called by ``main``.
"""

from __future__ import annotations

import argparse
import time

from imagewright.errors import UsageError
from imagewright_kubectl.errors import ClusterError, TimedOut, explain
from imagewright_kubectl.kstatus import State, Verdict, failure_of, state_of
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import place_of
from imagewright_kubectl.printing import Json, named, say, show
from imagewright_operator.api.base import parse_duration
from imagewright_operator.kubeapi.errors import ApiError

SUCCESS, FAILURE, TIMED_OUT = 0, 1, 124  # the last as timeout(1) has it


def run(options: argparse.Namespace) -> int:
    """0 when it is built, 1 when it failed, was cancelled or deleted, 124 when the time is over."""
    connection = connect(place_of(options))
    until = time.monotonic() + seconds(options.timeout) if options.timeout else None
    shown = ""
    state = State(Verdict.IN_PROGRESS, "", "", "")
    try:
        for body in connection.api.versions(connection.namespace, options.name, until, say):
            state = state_of(body)
            if state.verdict is Verdict.CURRENT:
                return _built(body, options.output)
            if state.verdict is Verdict.FAILED:
                return _failed(body, state, options.output)
            if state.line != shown:
                shown = state.line
                say(shown)
    except TimedOut:
        hint = "" if state.phase else "\nhint: Does the operator run? kubectl get pods -n imagewright-system"
        say(f"error: not ready after {options.timeout}: {state.line} [Timeout]{hint}")
        return TIMED_OUT
    except (ClusterError, ApiError) as failure:
        say((explain(failure) if isinstance(failure, ApiError) else failure).render())
        return FAILURE
    raise AssertionError("versions only ends by an exception")


def seconds(text: str) -> float:
    """``--timeout``: a duration; a number alone is seconds.

    Raises:
        UsageError
    """
    try:
        value = float(text) if text.isdecimal() and text.isascii() else parse_duration(text).total_seconds()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--timeout={text}: {error}", hint="Write it as 45s, 30m, 1h or 1h30m.") from None
    if value <= 0:
        raise UsageError(f"--timeout={text}: no time at all", hint="Without --timeout it waits as long as it takes.")
    return value


def _built(body: Json, output: str) -> int:
    if output:
        show(body, output)
    else:
        image = body["status"].get("image") or {}
        print(f"{named(body)} built: {image.get('reference') or image.get('digest', '')}")
    return SUCCESS


def _failed(body: Json, state: State, output: str) -> int:
    if output:
        show(body, output)
    say(f"{failure_of(body, state)}\nhint: `kubectl imagewright logs {body['metadata']['name']}` shows its log.")
    return FAILURE

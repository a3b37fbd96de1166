"""``logs``: what the present or last build writes; with ``-f`` to its end, through every attempt.

I/O: reads from the API server, writes the log to standard output and what else there is to say to standard error.
Called by ``main``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from imagewright.errors import Reason, exit_code
from imagewright_kubectl.client import ApiServer, Json
from imagewright_kubectl.executorpod import attempt_of, build_of
from imagewright_kubectl.kstatus import State, Verdict, failure_of, state_of
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import place_of
from imagewright_kubectl.podlog import PodLog, has_ended, has_started
from imagewright_kubectl.printing import say

_PAUSE_S = 1.0


def run(options: argparse.Namespace) -> int:
    """Without -f 0; with it the exit code that the build's reason has (docs/errors.md)."""
    connection = connect(place_of(options))
    reader = _Reader(connection.api, connection.namespace, options.name)
    return reader.follow() if options.follow else reader.show()


class _Reader:
    """The logs of one ImageBuild's Pods, each read once."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._logs: dict[str, PodLog] = {}
        self._read_out: set[str] = set()
        self._said = ""

    def show(self) -> int:
        """What there is now."""
        body = self._api.imagebuild(self._namespace, self._name)
        pods = [pod for pod in self._pods(body) if has_started(pod)]
        for pod in pods:
            self._announce(pod, several=len(pods) > 1)
            self._log_of(pod).read(follow=False)
        if not any(log.lines for log in self._logs.values()) and not _show_tail(body):
            say(f"{state_of(body).line}: there is no log yet")
        return 0

    def follow(self) -> int:
        """Until the build's end, whatever becomes of its Pods meanwhile."""
        while True:
            body, pod = self._next()
            if pod is not None:
                self._read(pod, _build(body))
                continue
            state = state_of(body)
            if not any(log.lines for log in self._logs.values()):
                _show_tail(body)
            if state.verdict is Verdict.CURRENT:
                say(f"built: {(body['status'].get('image') or {}).get('reference', '')}")
                return 0
            say(failure_of(body, state))
            return _code(state)

    def _next(self) -> tuple[Json, Json | None]:
        """A Pod whose log is to be read, or None and the ImageBuild as it is at the end."""
        for body in self._api.versions(self._namespace, self._name, None, say):
            state = state_of(body)
            # A build that is over while another is to come: its log isn't what is waited for.
            is_past = state.verdict is Verdict.IN_PROGRESS and bool(_build(body).get("outcome"))
            for pod in () if is_past else self._pods(body):
                if pod["metadata"]["uid"] not in self._read_out and has_started(pod):
                    return body, pod
            if state.verdict in (Verdict.CURRENT, Verdict.FAILED):
                return body, None
            if state.line != self._said and state.phase != "Running":  # the log tells that
                self._said = state.line
                say(state.line)
        raise AssertionError("versions only ends by an exception")

    def _read(self, pod: Json, build: Json) -> None:
        """As much as comes of one Pod's log. Of one that another attempt has followed no more is waited for."""
        log = self._log_of(pod)
        self._announce(pod, several=True)
        whole = log.read(follow=True)
        now = self._api.pod(self._namespace, log.pod)
        given_up = not whole and attempt_of(pod) < build.get("attempt", 1)
        if now is None or now["metadata"]["uid"] != pod["metadata"]["uid"] or given_up or (whole and has_ended(now)):
            self._read_out.add(pod["metadata"]["uid"])
        else:
            time.sleep(_PAUSE_S)

    def _log_of(self, pod: Json) -> PodLog:
        uid = pod["metadata"]["uid"]
        if uid not in self._logs:
            self._logs[uid] = PodLog(self._api, pod, sys.stdout.buffer)
        return self._logs[uid]

    def _announce(self, pod: Json, *, several: bool) -> None:
        """Whose log follows, where it isn't plain; once."""
        name = pod["metadata"]["name"]
        if several and self._said != name:
            self._said = name
            say(f"--- Pod {name}, attempt {attempt_of(pod)}")

    def _pods(self, body: Json) -> Iterator[Json]:
        """Those of the present or last build, by attempt."""
        build = _build(body)
        if not build:
            return iter(())
        pods = self._api.pods(self._namespace, body["metadata"]["uid"])
        return iter(sorted((pod for pod in pods if build_of(pod) == build.get("id")), key=attempt_of))


def _build(body: Json) -> Json:
    """The present or last one; {} when there is none."""
    build: Json = (body.get("status") or {}).get("build") or {}
    return build


def _show_tail(body: Json) -> bool:
    """The end of a log whose Pod is gone, as the status keeps it."""
    log = (body.get("status") or {}).get("log") or {}
    if not log.get("tail"):
        return False
    say(
        f"--- Pod {log.get('pod', '')} is gone; {'the end of ' if log.get('truncated') else ''}its log, as the status keeps it"
    )
    sys.stdout.write(log["tail"])
    sys.stdout.flush()
    return True


def _code(state: State) -> int:
    try:
        return exit_code(Reason(state.reason))
    except ValueError:  # of a newer operator
        return 1

"""``logs``: the log of the current or last build; with ``-f`` until it ends, through all attempts.

I/O: reads from the API server, writes the log to standard output and everything else to standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from imagewright.errors import Reason, exit_code
from imagewright_kubectl.client import ApiServer, Json
from imagewright_kubectl.errors import no_log
from imagewright_kubectl.executorpod import attempt_of, build_of
from imagewright_kubectl.kstatus import Result, Status, compute, failure_of
from imagewright_kubectl.kubeconfig import connect
from imagewright_kubectl.options import config_flags
from imagewright_kubectl.podlog import PodLog, has_ended, has_started
from imagewright_kubectl.printing import say

_PAUSE_S = 1.0


def run(options: argparse.Namespace) -> int:
    """Without -f 0 if there is a log, else 1; with it the exit code of the build's reason, by docs/errors.md."""
    connection = connect(config_flags(options))
    reader = _Reader(connection.api, connection.namespace, options.name)
    return reader.follow() if options.follow else reader.show()


class _Reader:
    """The logs of one ImageBuild's Pods, each read once."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._logs: dict[str, PodLog] = {}
        self._complete: set[str] = set()
        self._announced = ""

    def show(self) -> int:
        """Print what has been logged so far.

        Raises:
            ClusterError: reason ``LogNotFound``.
        """
        body = self._api.imagebuild(self._namespace, self._name)
        pods = [pod for pod in self._pods(body) if has_started(pod)]
        for pod in pods:
            self._announce(pod, several=len(pods) > 1)
            self._log_of(pod).read(follow=False)
        if not any(log.lines for log in self._logs.values()) and not _show_tail(body):
            result = compute(body)
            raise no_log(self._name, result.summary, ended=result.status in (Status.CURRENT, Status.FAILED))
        return 0

    def follow(self) -> int:
        """Print the logs of the build's Pods until it ends."""
        while True:
            body, pod = self._next()
            if pod is not None:
                self._read(pod, _build(body))
                continue
            result = compute(body)
            if not any(log.lines for log in self._logs.values()):
                _show_tail(body)
            if result.status is Status.CURRENT:
                say(f"built: {(body['status'].get('image') or {}).get('reference', '')}")
                return 0
            say(failure_of(body, result))
            return _code(result)

    def _next(self) -> tuple[Json, Json | None]:
        """The next Pod to read, or None where the build has ended, and the ImageBuild."""
        for body in self._api.versions(self._namespace, self._name, None, say):
            result = compute(body)
            # The last build has ended and another is about to start: skip the last one's log.
            is_over = result.status is Status.IN_PROGRESS and bool(_build(body).get("outcome"))
            for pod in () if is_over else self._pods(body):
                if pod["metadata"]["uid"] not in self._complete and has_started(pod):
                    return body, pod
            if result.status in (Status.CURRENT, Status.FAILED):
                return body, None
            if result.summary != self._announced and result.phase != "Running":  # the log shows it
                self._announced = result.summary
                say(result.summary)
        raise AssertionError("versions only ends by an exception")

    def _read(self, pod: Json, build: Json) -> None:
        """Print a Pod's log until it breaks off or ends; a Pod that a later attempt follows isn't read again."""
        log = self._log_of(pod)
        self._announce(pod, several=True)
        whole = log.read(follow=True)
        current = self._api.pod(self._namespace, log.pod)
        superseded = not whole and attempt_of(pod) < build.get("attempt", 1)
        if (
            current is None
            or current["metadata"]["uid"] != pod["metadata"]["uid"]
            or superseded
            or (whole and has_ended(current))
        ):
            self._complete.add(pod["metadata"]["uid"])
        else:
            time.sleep(_PAUSE_S)

    def _log_of(self, pod: Json) -> PodLog:
        uid = pod["metadata"]["uid"]
        if uid not in self._logs:
            self._logs[uid] = PodLog(self._api, pod, sys.stdout.buffer)
        return self._logs[uid]

    def _announce(self, pod: Json, *, several: bool) -> None:
        """Print once which Pod's log follows, where there are several."""
        name = pod["metadata"]["name"]
        if several and self._announced != name:
            self._announced = name
            say(f"--- Pod {name}, attempt {attempt_of(pod)}")

    def _pods(self, body: Json) -> Iterator[Json]:
        """Those of the current or last build, by attempt."""
        build = _build(body)
        if not build:
            return iter(())
        pods = self._api.pods(self._namespace, body["metadata"]["uid"])
        return iter(sorted((pod for pod in pods if build_of(pod) == build.get("id")), key=attempt_of))


def _build(body: Json) -> Json:
    """The current or last build; {} where there is none."""
    build: Json = (body.get("status") or {}).get("build") or {}
    return build


def _show_tail(body: Json) -> bool:
    """Print the part of a deleted Pod's log that the status keeps; whether there is one."""
    log = (body.get("status") or {}).get("log") or {}
    if not log.get("tail"):
        return False
    say(f"--- Pod {log.get('pod', '')} is gone; {'the end of ' if log.get('truncated') else ''}its log from the status")
    sys.stdout.write(log["tail"])
    sys.stdout.flush()
    return True


def _code(result: Result) -> int:
    try:
        return exit_code(Reason(result.reason))
    except ValueError:  # a newer operator's
        return 1

"""The log of an executor Pod: every line once, however often the connection breaks.

I/O: reads from the API server, writes to a given stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from imagewright.contract import RESULT_LOG_KEY
from imagewright_kubectl.client import ApiServer, Json
from imagewright_kubectl.executorpod import CONTAINER, state_of_container
from imagewright_operator.kubeapi.errors import NOT_FOUND, ApiError

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_MAX_LINE = 1024 * 1024  # longer ones are written in parts
_RESULT = f'{{"{RESULT_LOG_KEY}"'.encode()
_NOT_YET = 400  # "container is waiting to start"


class PodLog:
    """Reads a log in several parts: each ``read`` continues where the one before ended."""

    def __init__(self, api: ApiServer, pod: Json, out: BinaryIO) -> None:
        metadata = pod["metadata"]
        self._api, self._out = api, out
        self._namespace, self.pod = metadata["namespace"], metadata["name"]
        self._last = (b"", b"")  # the last line's time: whole seconds, and their fraction
        self._zone = b"Z"
        self._at_last = 0  # lines with exactly this time
        self.lines = 0

    def read(self, *, follow: bool) -> bool:
        """Write new lines; whether the log has been read to its end.

        Raises:
            ApiError: one that isn't transient.
        """
        query = {"timestamps": "true", "container": CONTAINER, "follow": "true" if follow else ""}
        if self._last[0]:
            query["sinceTime"] = (self._last[0] + self._zone).decode()  # has whole seconds only
        skip = self._at_last
        try:
            for line in _lines(self._api.log(self._namespace, self.pod, query)):
                found = _STAMP.match(line)
                if found is None:
                    self._write(line)
                    continue
                # A node writes all times in one zone, so they compare as text.
                stamp = (found[1], (found[2] or b"").ljust(9, b"0"))
                if stamp < self._last:
                    continue
                if stamp == self._last and skip:
                    skip -= 1
                    continue
                self._at_last = self._at_last + 1 if stamp == self._last else 1
                self._last, self._zone = stamp, found[3]
                self._write(line[found.end() :])
        except ApiError as error:
            if not error.is_transient and error.status not in (_NOT_YET, NOT_FOUND):
                raise
            return error.status == NOT_FOUND
        finally:
            self._out.flush()
        return True

    def _write(self, line: bytes) -> None:
        if line.startswith(_RESULT):
            return  # the report to the operator, which the status shows
        self.lines += 1
        self._out.write(line)
        if line.endswith(b"\n"):
            self._out.flush()


def has_started(pod: Json) -> bool:
    """Whether its container runs or has run, so that there is a log."""
    return bool({"running", "terminated"} & set(state_of_container(pod)))


def has_ended(pod: Json) -> bool:
    """Whether its log is complete."""
    return "terminated" in state_of_container(pod)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their line ends; the last one may have none."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > _MAX_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest

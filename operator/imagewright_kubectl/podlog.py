"""The log of one executor Pod, every line once, however often the connection breaks off.

I/O: reads from the API server, writes lines to a stream that is given. Called by ``logscommand``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from imagewright.contract import RESULT_LOG_KEY
from imagewright_kubectl.client import NOT_FOUND, ApiServer, Json
from imagewright_kubectl.errors import ClusterError
from imagewright_kubectl.executorpod import CONTAINER, state_of_container

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_MAX_LINE = 1024 * 1024  # a longer one is written in pieces
_RESULT = f'{{"{RESULT_LOG_KEY}"'.encode()
_NOT_YET = 400  # "container is waiting to start"


class PodLog:
    """Remembers how far it has come: a second reading goes on there."""

    def __init__(self, api: ApiServer, pod: Json, out: BinaryIO) -> None:
        metadata = pod["metadata"]
        self._api, self._out = api, out
        self._namespace, self.pod = metadata["namespace"], metadata["name"]
        self._last = (b"", b"")  # the second, and its fraction, of the last line
        self._zone = b"Z"
        self._at_last = 0  # lines that had this very time
        self.lines = 0

    def read(self, *, follow: bool) -> bool:
        """Write what is new; whether it has come to the log's end rather than been broken off.

        Raises:
            ClusterError: that asking again won't mend.
        """
        query = {"timestamps": "true", "container": CONTAINER, "follow": "true" if follow else ""}
        if self._last[0]:
            query["sinceTime"] = (self._last[0] + self._zone).decode()  # which knows whole seconds only
        skip = self._at_last
        try:
            for line in _lines(self._api.log(self._namespace, self.pod, query)):
                found = _STAMP.match(line)
                if found is None:
                    self._write(line)
                    continue
                # One node writes all times in one zone: they compare as they are.
                stamp = (found[1], (found[2] or b"").ljust(9, b"0"))
                if stamp < self._last:
                    continue
                if stamp == self._last and skip:
                    skip -= 1
                    continue
                self._at_last = self._at_last + 1 if stamp == self._last else 1
                self._last, self._zone = stamp, found[3]
                self._write(line[found.end() :])
        except ClusterError as error:
            if not error.passes and error.status not in (_NOT_YET, NOT_FOUND):
                raise
            return error.status == NOT_FOUND
        finally:
            self._out.flush()
        return True

    def _write(self, line: bytes) -> None:
        if line.startswith(_RESULT):
            return  # the report to the operator; what it says is in the status
        self.lines += 1
        self._out.write(line)
        if line.endswith(b"\n"):
            self._out.flush()


def has_started(pod: Json) -> bool:
    """Whether its container runs or has run: there is a log."""
    return bool({"running", "terminated"} & set(state_of_container(pod)))


def has_ended(pod: Json) -> bool:
    """Whether no more of its log will come."""
    return "terminated" in state_of_container(pod)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines with their ends; the last one may have none."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > _MAX_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest

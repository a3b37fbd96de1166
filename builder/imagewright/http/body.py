"""Reads response bodies: no slower than a minimum rate, bounded in size, resumed after interruptions.

Reads from connections (RFC 9110, section 14: range requests; section 13.1.5: If-Range).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import requests

from imagewright.http.failures import BROKEN, TooSlow, classify
from imagewright.http.retry import RetryPolicy

SLOW_BYTES, SLOW_S = 60_000, 60.0  # like git's http.lowSpeedLimit: a slower response counts as stopped
_CHUNK_BYTES = 1 << 16
_REST_BYTES = 16384
_REST_S = 5.0
_INTERRUPTIONS = 4  # in a row, without progress between them, in addition to the policy's retries
_INTERRUPTIONS_BEFORE_SWITCH = 2  # if another server can be asked
_PROGRESS_BYTES = 8 << 20  # so that an interruption every few bytes does not make an endless download
RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-")


class TooLarge(Exception):
    """A body is larger than the caller allows."""


class WrongRange(Exception):
    """The server sent a later part of the body than was requested."""


class Interrupted(Exception):
    """A download was interrupted too often; ``str()`` says how often, where, and why the last time."""


class Restarted(Exception):
    """The download could not be resumed and starts over: the caller discards what it has read."""


class BodyReader:
    """Reads what has arrived of a body, and makes sure that it arrives fast enough: a server that sends a byte now and
    then is never silent, and never done. Only the time spent waiting counts, not the time between two reads."""

    def __init__(self, response: requests.Response, *, decode: bool) -> None:
        self._raw: Any = response.raw
        self._decode = decode
        self._waited_s = 0.0
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end.

        Raises:
            TooSlow: less than SLOW_BYTES arrived in SLOW_S seconds. And the others of ``failures.BROKEN``.
        """
        begin = time.monotonic()
        data: bytes = self._raw.read1(size, decode_content=self._decode) or b""
        self._waited_s += time.monotonic() - begin
        self._bytes += len(data)
        if self._waited_s >= SLOW_S:
            if data and self._bytes < SLOW_BYTES:
                raise TooSlow(f"fewer than {SLOW_BYTES} bytes arrived in {SLOW_S:g} seconds")
            self._waited_s, self._bytes = 0.0, 0
        return data


def finish(response: requests.Response) -> None:
    """Read the little that is left of a response, so that its connection can be reused, and close it."""
    deadline, left = time.monotonic() + _REST_S, _REST_BYTES
    try:
        while left > 0 and time.monotonic() < deadline and (data := response.raw.read1(left)):
            left -= len(data)
    except BROKEN:
        pass
    finally:
        response.close()


def read_body(response: requests.Response, limit: int) -> bytes:
    """A whole body, decoded; closes the response.

    Raises:
        TooLarge: it has more than ``limit`` bytes. And what ``failures.BROKEN`` names.
    """
    data, body = bytearray(), BodyReader(response, decode=True)
    try:
        while chunk := body.read(_CHUNK_BYTES):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"more than {limit} bytes")
    finally:
        response.close()
    return bytes(data)


def range_begin(response: requests.Response, requested: int) -> int:
    """The position of a response's first byte in the whole; 0 if the server ignored the requested range.

    Raises:
        WrongRange: it begins later than requested.
    """
    if response.status_code != 206:
        return 0
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    begin = int(match[1]) if match else requested
    if begin > requested:
        raise WrongRange(f"the server sent bytes from {begin} on, not from {requested} on")
    return begin


class Source(Protocol):
    """Where a download comes from."""

    def open(self, position: int, etag: str) -> requests.Response:
        """The body from a byte on; with ``etag``, only if it is still that version (``If-Range``).

        Where the caller verifies nothing, a position after 0 may also be answered with status 416.
        """
        ...

    def switch(self) -> bool:
        """Turn to another server that has the same; False if there is none."""
        ...


class ResumingReader:
    """Reads a body and resumes it where it was interrupted, a bounded number of times.

    Args:
        source: opens the body, with retries of its own.
        policy: how long to wait between two interruptions in a row.
        size: of the whole in bytes, if that is known.
        decode: undo a Content-Encoding.
        verified: the caller verifies a digest of the whole, so that any response may continue any other. Otherwise only
            a response with the same strong ETag does, and without one the download starts over, ``policy.retries``
            times.
        wait: waits so many seconds before the next attempt, after such an error.
    """

    def __init__(
        self,
        source: Source,
        policy: RetryPolicy,
        *,
        size: int | None = None,
        decode: bool,
        verified: bool,
        wait: Callable[[float, BaseException], object],
    ) -> None:
        self._source = source
        self._policy = policy
        self._size = size
        self._decode = decode
        self._verified = verified
        self._wait = wait
        self._interruptions = 0
        self._interrupted_at = 0
        self._restarts = 0
        self._etag = ""
        self._response: requests.Response | None = None
        self.position = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b"" at the end.

        Raises:
            Restarted: what was read before is void.
            Interrupted: too many interruptions.
            WrongRange, and what ``source`` raises.
        """
        while True:
            try:
                if self._response is None:
                    self._open()
                data = self._body.read(size)
                if not data and self._size is not None and self.position < self._size:
                    raise OSError("the response ended too early")
            except BROKEN as error:
                self._interrupted(error)
                continue
            self.position += len(data)
            return data

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    @property
    def headers(self) -> Any:
        """Of the response that is being read."""
        return self._response.headers if self._response is not None else {}

    def _open(self) -> None:
        self._response = response = self._source.open(self.position, self._etag)
        self._body = BodyReader(response, decode=self._decode)
        try:
            if response.status_code == RANGE_NOT_SATISFIABLE:
                self._restart(OSError("the server has no more of the file"))
            begin = range_begin(response, self.position)
            etag = "" if "Content-Encoding" in response.headers else _strong_etag(response)
            if self.position and not self._verified and etag != self._etag:
                self._restart(OSError("the file changed during the download"))
            self._etag = etag
            self._skip(self.position - begin)
        except BaseException:
            self.close()
            raise

    def _skip(self, left: int) -> None:
        """Read past what the caller has already: a server without ranges sends everything again."""
        while left:
            data = self._body.read(min(_PROGRESS_BYTES, left))
            if not data:
                raise OSError("the response ended too early")
            left -= len(data)

    def _interrupted(self, error: BaseException) -> None:
        self.close()
        if not self._verified and not self._etag:
            self._restart(error)
        if self.position - self._interrupted_at >= _PROGRESS_BYTES:
            self._interruptions = 0
        self._interrupted_at = self.position
        self._interruptions += 1
        if self._interruptions > _INTERRUPTIONS_BEFORE_SWITCH and self._source.switch():
            self._interruptions = 0
        if self._interruptions > _INTERRUPTIONS + self._policy.retries:
            raise Interrupted(self._words(self._interruptions, error)) from error
        if self._interruptions > 1:
            self._wait(self._policy.wait_s(self._interruptions - 1), error)

    def _restart(self, error: BaseException) -> None:
        self._restarts += 1
        if self._restarts > self._policy.retries:
            raise Interrupted(self._words(self._restarts, error)) from error
        self.position, self._etag = 0, ""
        self._wait(self._policy.wait_s(self._restarts), error)
        raise Restarted

    def _words(self, times: int, error: BaseException) -> str:
        of = f" of {self._size}" if self._size is not None else ""
        return f"interrupted {times} times, last at byte {self.position}{of}: {classify(error).why}"


def _strong_etag(response: requests.Response) -> str:
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else ""

"""One blob on its way here: verified, resumed after cuts, asked for elsewhere when an address fails.

Talks to registries through ``registry.transport``. Made by ``registry.pull``
(distribution specification, "Pulling blobs"; RFC 9110, 14: ranges).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import requests

from imagewright.errors import RegistryError
from imagewright.http.session import BROKEN, Pace
from imagewright.oci.descriptor import Descriptor
from imagewright.registry.auth import pull_scope
from imagewright.registry.endpoints import Endpoint
from imagewright.registry.failures import clean, protocol_error
from imagewright.registry.transport import Request, Transport

_CUTS = 8  # in a row, without progress between them
_CUTS_AT_MIRROR = 2  # where another address is left
_PROGRESS_BYTES = 8 << 20  # so that a cut every few bytes is no endless download
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """An address, and the repository's name there."""

    endpoint: Endpoint
    repository: str


class BlobReader:
    """Reads a blob; a context manager. After a cut it goes on where it was, a bounded number of times."""

    def __init__(self, transport: Transport, places: Sequence[BlobPlace], descriptor: Descriptor) -> None:
        self._transport = transport
        self._places = list(places)
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self._position = 0
        self._cuts = 0
        self._cut_at = 0
        self._verified = False
        self._response: requests.Response | None = None

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" once all were read and verified.

        Raises:
            RegistryError: reason ``RegistryProtocolError`` for wrong content, ``RegistryUnavailable`` for cuts.
        """
        size = size if size > 0 else 1 << 20
        while not self._verified:
            try:
                if self._response is None:
                    self._response = self._open()
                data = self._pace.read(size)
                if not data and self._position < self._descriptor.size:
                    raise OSError("the answer ended too early")
            except BROKEN as error:
                self._cut(clean(str(error)))
                continue
            if not data:
                self._verify()
                break
            self._position += len(data)
            if self._position > self._descriptor.size:
                raise self._wrong(f"it has more than the {self._descriptor.size} bytes that its descriptor says")
            self._hasher.update(data)
            return data
        return b""

    def close(self) -> None:
        """Give the connection up."""
        if self._response is not None:
            self._response.close()
            self._response = None

    @property
    def _place(self) -> BlobPlace:
        return self._places[0]

    def _open(self) -> requests.Response:
        while True:
            try:
                return self._open_at(self._place)
            except RegistryError:
                if len(self._places) == 1:
                    raise
                del self._places[0]  # what a mirror has begun, the next one goes on with: the digest is of the whole

    def _open_at(self, place: BlobPlace) -> requests.Response:
        begin = self._position
        request = Request(
            "GET",
            f"{place.repository}/blobs/{self._descriptor.digest}",
            (pull_scope(place.repository),),
            frozenset({200, 206} if begin else {200}),
            {"Range": f"bytes={begin}-"} if begin else {},
            again=len(self._places) == 1,
        )
        response = self._transport.send(place.endpoint, place.repository, request)
        self._pace = Pace(response, decode=False)
        try:
            self._skip(response, begin)
        except BaseException:
            response.close()
            raise
        return response

    def _skip(self, response: requests.Response, wanted: int) -> None:
        """Pass over what we have: a server without ranges begins anew."""
        begin, length = 0, response.headers.get("Content-Length", "")
        if response.status_code == 206:
            match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            begin = _number(match[1]) if match else wanted
        if begin > wanted:
            raise self._wrong("it comes with another range than was asked for")
        has = begin + _number(length) if length.isdecimal() else self._descriptor.size
        if has != self._descriptor.size and "Content-Encoding" not in response.headers:
            raise self._wrong(f"it has {has} bytes, and {self._descriptor.size} by its descriptor")
        skip = wanted - begin
        while skip:
            data = self._pace.read(min(1 << 20, skip))
            if not data:
                raise OSError("the answer ended too early")
            skip -= len(data)

    def _cut(self, why: str) -> None:
        self.close()
        if self._position - self._cut_at >= _PROGRESS_BYTES:
            self._cuts = 0
        self._cut_at = self._position
        self._cuts += 1
        if self._cuts > _CUTS_AT_MIRROR and len(self._places) > 1:
            self._cuts = 0
            del self._places[0]
        if self._cuts > _CUTS + self._transport.pull_retries:
            raise RegistryError(
                f"{self._place.endpoint.host} cut off the blob {self._descriptor.digest} {self._cuts} times, "
                f"last at byte {self._position} of {self._descriptor.size}: {why}",
                hint="The network or the registry is in trouble; try again later.",
            )
        if self._cuts > 1:
            self._transport.pause(self._cuts - 1)

    def _verify(self) -> None:
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            raise self._wrong(
                f"its content has the digest {self._descriptor.digest.algorithm}:{self._hasher.hexdigest()}"
            )
        self._verified = True
        self.close()

    def _wrong(self, why: str) -> RegistryError:
        return protocol_error(
            f"{self._place.endpoint.host} answers wrongly for the blob {self._descriptor.digest}: {why}",
            "The registry, or a proxy before it, holds damaged content; push the image again.",
        )


def _number(digits: str) -> int:
    """A count of bytes; Python refuses to read thousands of digits, and no blob has that many."""
    return int(digits) if len(digits) < 20 else 10**20

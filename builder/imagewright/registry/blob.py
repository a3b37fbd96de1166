"""Downloads one blob: verified, resumed after interruptions, taken from another address if one fails.

Talks to registries through ``transport`` (distribution specification, "Pulling blobs").
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import requests

from imagewright.errors import RegistryError
from imagewright.http.body import Interrupted, ResumingReader, WrongRange, range_begin
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass
from imagewright.registry.auth import pull_scope
from imagewright.registry.endpoints import Endpoint
from imagewright.registry.failures import Tried, interrupted, protocol_error, pull_failed
from imagewright.registry.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """An address, the repository's name there, and the endpoint's label for messages."""

    endpoint: Endpoint
    repository: str
    label: str


def read_range(transport: Transport, place: BlobLocation, descriptor: Descriptor, offset: int, length: int) -> bytes:
    """Part of a blob, ``length`` bytes from ``offset`` on; nothing is verified but that it is the part.

    Raises:
        RegistryError: also where the registry doesn't send parts.
    """
    last = offset + length - 1
    request = Request(
        "GET",
        f"{place.repository}/blobs/{descriptor.digest}",
        (pull_scope(place.repository),),
        frozenset({206}),  # nothing is read of a whole blob
        {"Range": f"bytes={offset}-{last}", "Accept-Encoding": "identity"},
        repeatable=False,  # the whole blob can be read instead
    )
    headers, data = transport.fetch(place.endpoint, place.repository, request, length)
    if headers.get("Content-Range", "").strip() not in (
        f"bytes {offset}-{last}/{descriptor.size}",
        f"bytes {offset}-{last}/*",
    ) or (len(data) != length):
        raise protocol_error(
            f"invalid response for bytes {offset} to {last} of the blob {descriptor.digest} from {place.endpoint.host}: "
            "the range is another one"
        )
    return data


class BlobReader:
    """Reads a blob; a context manager. ``locations`` are asked in turn: where one fails, the next continues.

    ``image`` is the name of the image that it belongs to, for messages.
    """

    def __init__(
        self, transport: Transport, locations: Sequence[BlobLocation], descriptor: Descriptor, image: str
    ) -> None:
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self._verified = False
        self._source = _Source(transport, locations, descriptor, image)
        self._reader = ResumingReader(
            self._source,
            transport.pull_policy,
            size=descriptor.size,
            decode=False,
            verified=True,
            wait=lambda seconds, _: time.sleep(seconds),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" once all were read and verified.

        Raises:
            RegistryError: reason ``RegistryProtocolError`` for wrong content, ``RegistryUnavailable`` for
                interruptions.
        """
        if self._verified:
            return b""
        try:
            data = self._reader.read(size if size > 0 else 1 << 20)
        except Interrupted as error:
            raise interrupted(f"cannot download {self._source}", str(error)) from error
        except WrongRange as error:
            raise self._source.wrong(str(error)) from error
        if self._reader.position > self._descriptor.size:
            raise self._source.wrong(f"it has more than the {self._descriptor.size} bytes of its descriptor")
        if data:
            self._hasher.update(data)
            return data
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            raise self._source.wrong(
                f"its content has the digest {self._descriptor.digest.algorithm}:{self._hasher.hexdigest()}"
            )
        self._verified = True
        self.close()
        return b""

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


class _Source:
    """A blob at one of several addresses (``http.body.Source``)."""

    def __init__(
        self, transport: Transport, locations: Sequence[BlobLocation], descriptor: Descriptor, image: str
    ) -> None:
        self._transport = transport
        self._locations = list(locations)
        self._descriptor = descriptor
        self._blob = f"the blob {descriptor.digest} of {image}"
        self._tried: list[Tried] = []

    def __str__(self) -> str:
        return f"{self._blob} from {self._locations[0].endpoint.host}"

    def open(self, position: int, etag: str) -> requests.Response:
        while True:
            place = self._locations[0]
            try:
                return self._open_at(place, position)
            except RegistryError as error:
                self._tried.append(Tried(place.endpoint, place.label, error))
                if not self.switch():
                    raise pull_failed(f"cannot pull {self._blob}", self._tried) from error

    def switch(self) -> bool:
        if len(self._locations) == 1:
            return False
        del self._locations[0]  # the next one continues what this one began: the digest is that of the whole
        return True

    def wrong(self, why: str) -> RegistryError:
        return protocol_error(
            f"invalid response for {self}: {why}",
            "The registry, or a proxy in front of it, has damaged content; push the image again.",
        )

    def _open_at(self, place: BlobLocation, position: int) -> requests.Response:
        request = Request(
            "GET",
            f"{place.repository}/blobs/{self._descriptor.digest}",
            (pull_scope(place.repository),),
            frozenset({200, 206} if position else {200}),
            {"Range": f"bytes={position}-"} if position else {},
            repeatable=False if len(self._locations) > 1 else None,
        )
        response = self._transport.send(place.endpoint, place.repository, request)
        try:
            self._check_size(response, position)
        except BaseException:
            response.close()
            raise
        return response

    def _check_size(self, response: requests.Response, position: int) -> None:
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal() or "Content-Encoding" in response.headers:
            return
        try:
            size = range_begin(response, position) + _number(length)
        except WrongRange as error:
            raise self.wrong(str(error)) from error
        if size != self._descriptor.size:
            raise self.wrong(f"it has {size} bytes, and {self._descriptor.size} by its descriptor")


def _number(digits: str) -> int:
    """A count of bytes. Python refuses to read thousands of digits, and no blob has that many."""
    return int(digits) if len(digits) < 20 else 10**20

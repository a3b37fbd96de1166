"""Uploads one blob: looked for, mounted or sent, repeatedly where that may help.

Talks to registries through ``transport`` (distribution specification, "Pushing blobs": POST then PUT; mount; PATCH).
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol
from urllib.parse import quote, urlencode

import requests

from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.http.body import finish
from imagewright.http.exchange import Body
from imagewright.http.retry import is_repeatable
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass
from imagewright.registry.auth import pull_scope, push_scope
from imagewright.registry.endpoints import Endpoint
from imagewright.registry.failures import Refused, protocol_error
from imagewright.registry.transport import Request, Transport
from imagewright.streams import Readable

_LOOKS = 4  # for a blob whose upload was answered with an unusual status
_STORED = frozenset({201, 204})
_MAYBE_STORED = frozenset({200, 202})  # what some registries, and proxies in front of them, end an upload with
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)
# What registries answer that cannot take a whole blob in one PUT.
_NOT_MONOLITHIC = frozenset({400, 404, 405, 411, 415, 416, 501})
Progress = Callable[[Descriptor, int, bool], None]  # (blob, bytes sent, finished): 0 if it needn't be sent
OpenBody = Callable[[], AbstractContextManager[Body]]


class BlobSource(Protocol):
    """Where layers come from; asked for each attempt."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A repository, by its name at an address."""

    endpoint: Endpoint
    repository: str

    @property
    def scopes(self) -> tuple[str, ...]:
        return (push_scope(self.repository),)

    def __str__(self) -> str:
        return f"{self.endpoint.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent, opened for each attempt. Once ``cancelled`` is set, no more of it is sent."""

    descriptor: Descriptor
    open: Callable[[], AbstractContextManager[Readable]]
    progress: Progress
    cancelled: threading.Event

    @classmethod
    def of_bytes(cls, descriptor: Descriptor, data: bytes) -> Content:
        return cls(descriptor, lambda: io.BytesIO(data), lambda *_: None, threading.Event())

    @contextmanager
    def open_body(self, begin: int = 0) -> Iterator[Body]:
        """A request's body: the content from byte ``begin`` on."""
        with self.open() as stream:
            left = begin
            while left and (data := stream.read(min(left, 1 << 20))):
                left -= len(data)
            yield _Body(stream, self, begin - left)


@dataclass(slots=True)
class _Upload:
    """``location`` is that of an upload that has begun, ``""`` if none has.

    The registry has ``received`` bytes of it.
    """

    location: str
    received: int = 0


class Uploader:
    """Uploads blobs. Safe to use from several threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def has(self, target: Target, descriptor: Descriptor) -> bool:
        """Whether the repository has a blob. One of another length is something else, which the upload will reveal."""
        path = f"{target.repository}/blobs/{descriptor.digest}"
        response = self._send(target, Request("HEAD", path, target.scopes, frozenset({200, 404})))
        return response.status_code == 200 and response.headers.get("Content-Length", str(descriptor.size)) == str(
            descriptor.size
        )

    def mount(self, target: Target, descriptor: Descriptor, origin: str) -> str:
        """Mount a blob of the repository ``origin``: "" if that worked, else where to upload it."""
        query = urlencode({"mount": str(descriptor.digest), "from": origin}, quote_via=quote)
        request = Request(
            "POST",
            f"{target.repository}/blobs/uploads/?{query}",
            (*target.scopes, pull_scope(origin)),
            frozenset({201, 202}),
            repeatable=True,
        )
        try:
            response = self._send(target, request)
        except RegistryError as error:
            if 400 <= error.status < 500 and error.status != 429:
                return self.begin(target)  # no right to read it, or the registry cannot mount
            raise
        if response.status_code == 201:
            return ""
        return self._transport.locate(target.endpoint, response) or self.begin(target)

    def begin(self, target: Target) -> str:
        """Where to upload a blob."""
        path = f"{target.repository}/blobs/uploads/"
        # An upload that is begun twice harms nobody: the first one expires.
        response = self._send(target, Request("POST", path, target.scopes, frozenset({202}), repeatable=True))
        return self._where(target, response)

    def upload(self, target: Target, content: Content, location: str = "") -> None:
        """Upload a blob; after a failure again, from where the registry says that it is.

        Raises:
            RegistryError
        """
        state, in_one = _Upload(location), True
        policy = self._transport.push_policy
        for attempt in range(1, policy.retries + 2):
            try:
                state.location = state.location or self.begin(target)
                if in_one and not state.received:
                    self._put(target, state.location, content)
                else:
                    self._patch_and_put(target, state, content)
                return
            except RegistryError as error:
                resumed = bool(state.received)
                fallback = in_one and not resumed and isinstance(error, Refused) and error.status in _NOT_MONOLITHIC
                broken = error.reason is Reason.REGISTRY_UNAVAILABLE and error.status == 0
                # Not a repetition but a new upload, or the rest of this one, so that any request may be followed by it.
                transient = broken or is_repeatable(error.status, idempotent=True)
                if attempt > policy.retries or not (fallback or transient or resumed):
                    raise
                in_one = in_one and not fallback
                if transient:
                    time.sleep(policy.wait_s(attempt, error.retry_after_s if isinstance(error, Refused) else 0.0))
                if self.has(target, content.descriptor):
                    return  # only the response was lost
                state = self._state_after(target, state, content) if broken and state.location else _Upload("")

    def _state_after(self, target: Target, state: _Upload, content: Content) -> _Upload:
        """Where an upload continues after its connection broke: the registry is asked, and may not know.

        (distribution specification, "Pushing a blob in chunks": GET to the location; 204 with Range)
        """
        request = Request("GET", state.location, target.scopes, frozenset({202, 204}), repeatable=False)
        try:
            response = self._send(target, request)
            location = self._transport.locate(target.endpoint, response) or state.location
        except RegistryError:
            return _Upload("")
        match = _RANGE.fullmatch(response.headers.get("Range", ""))
        received = int(match[1]) + 1 if match else 0
        if not 1 < received < content.descriptor.size:  # some registries answer "0-0" for nothing
            return _Upload("")
        return _Upload(location, received)

    def _put(self, target: Target, location: str, content: Content) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        self._finish(target, location, content.descriptor, headers, content.open_body)

    def _patch_and_put(self, target: Target, state: _Upload, content: Content) -> None:
        """Send what the registry lacks as one chunk, then the PUT that names the blob's digest."""
        headers = {"Content-Type": "application/octet-stream"}
        size = content.descriptor.size
        if size:
            headers["Content-Range"] = f"{state.received}-{size - 1}"
        body = partial(content.open_body, state.received)
        taken = _STORED | _MAYBE_STORED
        response = self._send(target, _once("PATCH", state.location, target, taken, headers, body))
        self._finish(target, self._where(target, response), content.descriptor, {"Content-Length": "0"}, None)

    def _finish(
        self, target: Target, location: str, descriptor: Descriptor, headers: Mapping[str, str], body: OpenBody | None
    ) -> None:
        """Send the PUT that ends an upload. After an unusual status, HEAD requests show whether the blob is stored."""
        url = _with_digest(location, descriptor)
        response = self._send(target, _once("PUT", url, target, _STORED | _MAYBE_STORED, headers, body))
        if response.status_code in _STORED:
            return
        for look in range(1, _LOOKS + 1):
            if self.has(target, descriptor):
                return
            if look < _LOOKS:
                time.sleep(self._transport.push_policy.wait_s(look))
        raise protocol_error(
            f"{target.endpoint.host} answered the upload of {descriptor.digest} with status {response.status_code}, "
            "but does not have the blob"
        )

    def _where(self, target: Target, response: requests.Response) -> str:
        location = self._transport.locate(target.endpoint, response)
        if not location:
            raise protocol_error(f"{target.endpoint.host} began an upload without a Location for it")
        return location

    def _send(self, target: Target, request: Request) -> requests.Response:
        """Send a request whose response has no body of interest."""
        response = self._transport.send(target.endpoint, target.repository, request)
        finish(response)
        return response


class _Body:
    """The body of an upload, of known length; reports its progress."""

    def __init__(self, stream: Readable, content: Content, sent: int) -> None:
        self._stream = stream
        self._content = content
        self._descriptor = content.descriptor
        self._sent = sent

    def __len__(self) -> int:
        return self._descriptor.size - self._sent

    def read(self, size: int = -1, /) -> bytes:
        if self._content.cancelled.is_set():
            raise ImagewrightError("the push was cancelled", reason=Reason.CANCELLED)
        data = self._stream.read(max(size, 1 << 18))
        self._sent += len(data)
        short = not data and self._sent < self._descriptor.size
        if short or self._sent > self._descriptor.size:
            # Otherwise the registry would wait for the rest.
            raise ImagewrightError(
                f"cannot upload the blob {self._descriptor.digest}: it has {self._sent} bytes, and {self._descriptor.size} by its descriptor",
                hint="Make sure that nothing changes the build's files while it runs.",
            )
        self._content.progress(self._descriptor, self._sent, False)
        return data


def _once(
    method: str,
    url: str,
    target: Target,
    expect: frozenset[int],
    headers: Mapping[str, str],
    body: OpenBody | None,
) -> Request:
    """A step of an upload, never repeated by itself: an upload in doubt is resumed, or begun again."""
    return Request(method, url, target.scopes, expect, headers, body, repeatable=False)


def _with_digest(location: str, descriptor: Descriptor) -> str:
    separator = "&" if "?" in location else "?"
    return f"{location}{separator}{urlencode({'digest': str(descriptor.digest)}, quote_via=quote)}"

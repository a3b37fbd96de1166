"""Requests to the API server: one object, the pages of a list, the events of a watch, a stream of bytes.

I/O: blocking HTTPS requests by the connection pool of a ``kubernetes.client.ApiClient``, which knows the server, its
CA, credentials and proxies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3
from kubernetes import client

from imagewright_operator.api.base import Json
from imagewright_operator.kubeapi.documents import parse
from imagewright_operator.kubeapi.errors import NOT_FOUND, ApiError
from imagewright_operator.kubeapi.paths import resource_of

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"  # of an object, instead of the whole
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object."""

    type: str
    object: Json


class Client:
    """One API server, as one user. Thread-safe.

    Args:
        agent: the User-Agent.
        timeout: of every request, unless it has its own.
        count: called after each request with verb, resource and HTTP status (0: no answer).
        before: called before each request; it prevents one by an ApiError.
        dated: called with the header Date of each answer.
    """

    def __init__(
        self,
        api: client.ApiClient,
        agent: str,
        timeout: urllib3.Timeout,
        count: Callable[[str, str, int], None] = lambda *_: None,
        before: Callable[[], None] = lambda: None,
        dated: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api, self._agent, self._timeout = api, agent, timeout
        self._count, self._before, self._dated = count, before, dated

    @property
    def server(self) -> str:
        """The API server's URL."""
        host: str = self._api.configuration.host
        return host.rstrip("/")

    def find(self, path: str, *, accept: str = _JSON) -> Json | None:
        """The object at this path, or None where there is none.

        Raises:
            ApiError: as ``json``.
        """
        try:
            return self.json("GET", path, accept=accept)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def items(self, path: str, query: Mapping[str, str] | None = None, *, page: int) -> Iterator[Json]:
        """All objects of a list, requested ``page`` at a time.

        Raises:
            ApiError: as ``json``; also between two objects.
        """
        token = ""
        while True:
            answer = self.json("GET", path, {**(query or {}), "limit": str(page), "continue": token})
            yield from answer.get("items") or ()
            token = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def json(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        *,
        accept: str = _JSON,
        timeout: urllib3.Timeout | None = None,
    ) -> Json:
        """The object that the API server answers with.

        Raises:
            ApiError: as ``request``; status 0 also where the answer is not an object.
        """
        with self.request(verb, path, query, body, accept=accept, timeout=timeout) as response:
            data = _read(response)
        try:
            answer = parse(data)
        except ValueError as error:
            raise ApiError(0, f"invalid answer of the API server: {error}") from error
        if not isinstance(answer, dict):
            raise ApiError(0, "invalid answer of the API server: not a JSON object")
        return answer

    def watch(
        self, path: str, query: Mapping[str, str], version: str, *, seconds: int, timeout: urllib3.Timeout | None = None
    ) -> Iterator[WatchEvent]:
        """Changes after a list's resource version, until the API server ends the watch after ``seconds``.

        Raises:
            ApiError: as ``request``, also when the connection breaks; status 410 when the version has expired, and the
                caller must list again.
        """
        query = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        rest = b""
        for chunk in self.stream(path, query, timeout=timeout):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    event = _event(line)
                    if event.type == "ERROR":
                        raise ApiError.of_status(event.object)
                    yield event

    def stream(self, path: str, query: Mapping[str, str], *, timeout: urllib3.Timeout | None = None) -> Iterator[bytes]:
        """The answer in chunks, as they arrive.

        Raises:
            ApiError: as ``request``, also when the connection breaks or nothing arrives within the read timeout.
        """
        with self.request("GET", path, query, timeout=timeout) as response:
            try:
                yield from response.stream(_CHUNK_BYTES)
            except urllib3.exceptions.HTTPError as error:
                raise ApiError(0, f"the API server's answer broke off: {error}") from error

    def request(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        *,
        accept: str = _JSON,
        timeout: urllib3.Timeout | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """A success, unread, to be closed. Empty values of ``query`` aren't sent; a PATCH merges its body.

        Raises:
            ApiError: no answer, or one other than success.
        """
        self._before()
        headers = {"Accept": accept, "User-Agent": self._agent}
        if body is not None:
            headers["Content-Type"] = _MERGE_PATCH if verb == "PATCH" else _JSON
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        given = {key: value for key, value in (query or {}).items() if value}
        resource = resource_of(path)
        try:
            response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                verb,
                self.server + path + ("?" + urlencode(given) if given else ""),
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=timeout or self._timeout,
                retries=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            self._count(verb, resource, 0)
            raise ApiError(0, f"no answer from the API server {self.server}: {error}") from error
        self._count(verb, resource, response.status)
        self._dated(response.headers.get("Date") or "")
        if not 200 <= response.status < 300:
            with response:
                text = _read(response).decode(errors="replace")
            raise ApiError.of_answer(response.status, text, response.headers.get("Retry-After") or "")
        return response


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.data
    except urllib3.exceptions.HTTPError as error:
        raise ApiError(0, f"the API server's answer broke off: {error}") from error


def _event(line: bytes) -> WatchEvent:
    try:
        event = parse(line)
        return WatchEvent(event["type"], event["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(0, f"invalid event of the API server: {error}") from error

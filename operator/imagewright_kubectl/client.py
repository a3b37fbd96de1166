"""The Kubernetes API as the plugin uses it.

I/O: HTTPS requests to the API server. Called by the commands. Objects are plain JSON, as the API server gives them: what
a newer operator writes is shown, not dropped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client

from imagewright_kubectl.errors import ClusterError, TimedOut, no_answer, not_found, refusal
from imagewright_operator.api import GROUP, PLURAL, VERSION

Json = dict[str, Any]

_AGENT = "kubectl-imagewright"
_JSON = "application/json"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_CONNECT_S, _READ_S = 10.0, 30.0
_WATCH_S = 50  # the server ends a watch after that; a connection that has silently died is noticed soon after
_GIVE_UP_S = 120.0
_PAUSES_S = (0.5, 1.0, 2.0, 5.0)
_SHORT_S = 1.0  # a watch that ends before that is as good as one that fails: some proxies let none live
_PAGE = 500
_QUIET_S = 20.0  # of a log; then it is looked whether the Pod is still there
_GONE = 410
NOT_FOUND = 404


class ApiServer:
    """One API server, as one user."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def imagebuild(self, namespace: str, name: str) -> Json:
        """As stored now.

        Raises:
            ClusterError: reason ``ImageBuildNotFound`` among others.
        """
        try:
            return self._json("GET", _imagebuilds(namespace, name))
        except ClusterError as error:
            raise _named(error, namespace, name) from None

    def imagebuilds(self, namespace: str, selector: str = "") -> list[Json]:
        """All of a namespace, or of the cluster where it is ""."""
        return list(self._list(_imagebuilds(namespace), {"labelSelector": selector}))

    def table(self, namespace: str, name: str = "", selector: str = "") -> Json:
        """What kubectl get shows: columns and rows by the resource's own definition."""
        try:
            return self._json("GET", _imagebuilds(namespace, name), {"labelSelector": selector}, accept=_TABLE)
        except ClusterError as error:
            raise (_named(error, namespace, name) if name else error) from None

    def create(self, body: Json, *, dry_run: bool = False) -> Json:
        """Create an ImageBuild; the server's view of it. An unknown field is an error."""
        query = {"fieldValidation": "Strict", "fieldManager": _AGENT, "dryRun": "All" if dry_run else ""}
        return self._json("POST", _imagebuilds(body["metadata"]["namespace"]), query, body)

    def patch(self, namespace: str, name: str, change: Json) -> Json:
        """Merge a change into an ImageBuild."""
        try:
            return self._json("PATCH", _imagebuilds(namespace, name), {"fieldManager": _AGENT}, change)
        except ClusterError as error:
            raise _named(error, namespace, name) from None

    def namespaces(self) -> list[str]:
        """The names of all."""
        return [one["metadata"]["name"] for one in self._list("/api/v1/namespaces", {})]

    def pods(self, namespace: str, uid: str) -> list[Json]:
        """Executor Pods of the ImageBuild with this UID, in no order."""
        return list(self._list(_pods(namespace), {"labelSelector": f"{GROUP}/uid={uid}"}))

    def pod(self, namespace: str, name: str) -> Json | None:
        """As stored now, None when it is gone."""
        try:
            return self._json("GET", _pods(namespace, name))
        except ClusterError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def log(self, namespace: str, pod: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """A container's log in pieces, while it is written.

        Raises:
            ClusterError: also when nothing comes for a while; the connection may be dead then.
        """
        with self._request("GET", _pods(namespace, pod) + "/log", query, read_s=_QUIET_S) as response:
            try:
                yield from response.stream(64 * 1024)
            except urllib3.exceptions.HTTPError as error:
                raise no_answer(self._server, error) from error

    def versions(self, namespace: str, name: str, until: float | None, note: Callable[[str], None]) -> Iterator[Json]:
        """Every version of an ImageBuild, from the present one on, without an end.

        Args:
            until: the monotonic time at which to give up, None for never.
            note: told when the server doesn't answer and is asked again.

        Raises:
            TimedOut: at ``until``.
            ClusterError: it isn't there or has been deleted, or the server doesn't answer for two minutes.
        """
        patience = _Patience(until, note)
        while True:
            try:
                # By a list, not a get: a watch goes on from the list's resource version without a gap.
                page = self._json("GET", _imagebuilds(namespace), _only(name), read_s=patience.left(_READ_S))
                patience.answered()
                if not page["items"]:
                    raise not_found(namespace, name)
                yield page["items"][0]
                began = time.monotonic()
                yield from self._watch(namespace, name, page["metadata"]["resourceVersion"], patience)
                patience.watched(time.monotonic() - began)
            except ClusterError as error:
                patience.failed(error)

    def _watch(self, namespace: str, name: str, version: str, patience: _Patience) -> Iterator[Json]:
        """Later versions, until the server ends the watch."""
        query = {**_only(name), "watch": "true", "resourceVersion": version, "timeoutSeconds": str(_WATCH_S)}
        with self._request("GET", _imagebuilds(namespace), query, read_s=patience.left(_WATCH_S + 10.0)) as response:
            for event in _events(response, patience):
                match event["type"]:
                    case "DELETED":
                        raise not_found(namespace, name)
                    case "ERROR":
                        return  # 410 or another that a new list mends
                    case "ADDED" | "MODIFIED":
                        yield event["object"]
                patience.left(1.0)

    def _list(self, path: str, query: Mapping[str, str]) -> Iterator[Json]:
        token = ""
        while True:
            page = self._json("GET", path, {**query, "limit": str(_PAGE), "continue": token})
            kind, version = page.get("kind", "").removesuffix("List"), page.get("apiVersion", "")
            yield from ({"apiVersion": version, "kind": kind, **item} for item in page.get("items") or ())
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def _json(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        *,
        accept: str = _JSON,
        read_s: float = _READ_S,
    ) -> Json:
        with self._request(verb, path, query, body, accept=accept, read_s=read_s) as response:
            try:
                answer: Json = json.loads(response.data)
            except (ValueError, urllib3.exceptions.HTTPError) as error:
                raise no_answer(self._server, error) from error
        return answer

    def _request(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        *,
        accept: str = _JSON,
        read_s: float | None = _READ_S,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "User-Agent": _AGENT}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if verb == "PATCH" else _JSON
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        given = {key: value for key, value in (query or {}).items() if value}
        try:
            response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                verb,
                self._server + path + ("?" + urlencode(given) if given else ""),
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
                retries=False,
                preload_content=False,
            )
            if not 200 <= response.status < 300:
                with response:
                    raise refusal(verb, path, response.status, response.data.decode(errors="replace"))
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(self._server, error) from error
        return response

    @property
    def _server(self) -> str:
        host: str = self._api.configuration.host
        return host.rstrip("/")


class _Patience:
    """How long a server may stay silent, and when all of it is over."""

    def __init__(self, until: float | None, note: Callable[[str], None]) -> None:
        self._until, self._note = until, note
        self._silent_since: float | None = None
        self._failures = 0

    def left(self, at_most_s: float) -> float:
        """Seconds that a request may take.

        Raises:
            TimedOut
        """
        if self._until is None:
            return at_most_s
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimedOut("the time is over")
        return min(at_most_s, max(left, 0.05))

    def answered(self) -> None:
        self._silent_since = None  # not the failures: a server may answer lists, and no watch

    def watched(self, lasted_s: float) -> None:
        """A watch has ended: pause before the next list where it ended at once."""
        if lasted_s < _SHORT_S:
            self._pause()
        else:
            self._failures = 0

    def failed(self, error: ClusterError) -> None:
        """Pause before the next try; the error is raised where none can help."""
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        self.left(1.0)
        if error.status != _GONE:
            if not error.passes or (self._until is None and now - self._silent_since > _GIVE_UP_S):
                raise error
            if self._failures == 1:  # a watch that breaks off once is nothing to tell of
                self._note(f"{error.message}; asking again")
        self._pause()

    def _pause(self) -> None:
        time.sleep(self.left(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]))
        self._failures += 1


def _events(response: urllib3.BaseHTTPResponse, patience: _Patience) -> Iterator[Json]:
    """Events of a watch: one JSON document a line."""
    rest = b""
    try:
        for chunk in response.stream(64 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines if line.strip())
    except (urllib3.exceptions.HTTPError, ValueError):
        patience.left(1.0)  # broken off, or silent for too long: the caller lists anew


def _named(error: ClusterError, namespace: str, name: str) -> ClusterError:
    """The same, said of the ImageBuild where it is the one that is missing."""
    missing = error.status == NOT_FOUND and "knows no ImageBuilds" not in error.message
    return not_found(namespace, name) if missing else error


def _only(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


def _imagebuilds(namespace: str, name: str = "") -> str:
    place = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{place}/{PLURAL}" + (f"/{quote(name)}" if name else "")


def _pods(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{quote(namespace)}/pods" + (f"/{quote(name)}" if name else "")

"""The plugin's requests to the API server.

I/O: HTTPS requests. Objects are plain JSON: fields of a newer operator are shown, not dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client

from imagewright_kubectl.errors import TimedOut, explain, is_definition_missing, not_found
from imagewright_operator.api import API_VERSION, GROUP, KIND
from imagewright_operator.kubeapi.client import Client
from imagewright_operator.kubeapi.errors import GONE, NOT_FOUND, ApiError
from imagewright_operator.kubeapi.paths import core, imagebuilds

Json = dict[str, Any]

_AGENT = "kubectl-imagewright"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_CONNECT_S, _READ_S = 10.0, 30.0
_WATCH_S = 50  # the API server ends a watch after that; a connection that has silently died is noticed soon after
_WATCH_READ_S = _WATCH_S + 10.0
_LOG_READ_S = 20.0  # a log may be silent for longer: the caller then checks whether the Pod still exists
_UNAVAILABLE_S = 120.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_SHORT_WATCH_S = 1.0  # a shorter watch counts as failed: some proxies end each at once
_PAGE = 500


class ApiServer:
    """One API server, as one user. Failed requests raise ``ApiError``, unless a method says otherwise."""

    def __init__(self, api: client.ApiClient) -> None:
        self._client = Client(api, _AGENT, _timeout(_READ_S))

    def imagebuild(self, namespace: str, name: str) -> Json:
        """An ImageBuild.

        Raises:
            ClusterError: reason ``ImageBuildNotFound``.
        """
        with _named(namespace, name):
            return self._client.json("GET", imagebuilds(namespace, name))

    def imagebuilds(self, namespace: str, selector: str = "") -> list[Json]:
        """Those of a namespace, or all where it is ""; with the type that lists leave out of their items."""
        items = self._client.items(imagebuilds(namespace), {"labelSelector": selector}, page=_PAGE)
        return [{"apiVersion": API_VERSION, "kind": KIND, **item} for item in items]

    def table(self, namespace: str, name: str = "", selector: str = "") -> Json:
        """The columns and rows of kubectl get, by the resource's definition.

        Raises:
            ClusterError: reason ``ImageBuildNotFound``.
        """
        query = {"labelSelector": selector}
        with _named(namespace, name):
            return self._client.json("GET", imagebuilds(namespace, name), query, accept=_TABLE)

    def create(self, body: Json, *, dry_run: bool = False) -> Json:
        """Create an ImageBuild; as the API server stored it. An unknown field is an error.

        Raises:
            UsageError: the API server refused the object.
        """
        query = {"fieldValidation": "Strict", "fieldManager": _AGENT, "dryRun": "All" if dry_run else ""}
        try:
            return self._client.json("POST", imagebuilds(body["metadata"]["namespace"]), query, body)
        except ApiError as error:
            raise explain(error, "POST") from error

    def patch(self, namespace: str, name: str, change: Json) -> Json:
        """Merge a change into an ImageBuild; as it is now.

        Raises:
            ClusterError: reason ``ImageBuildNotFound``.
            UsageError: the API server refused the change.
        """
        try:
            with _named(namespace, name):
                return self._client.json("PATCH", imagebuilds(namespace, name), {"fieldManager": _AGENT}, change)
        except ApiError as error:
            raise explain(error, "PATCH") from error

    def namespaces(self) -> list[str]:
        """The names of all."""
        return [item["metadata"]["name"] for item in self._client.items(core("namespaces"), page=_PAGE)]

    def pods(self, namespace: str, uid: str) -> list[Json]:
        """Executor Pods of the ImageBuild with this UID, in no order."""
        return list(self._client.items(core("pods", namespace), {"labelSelector": f"{GROUP}/uid={uid}"}, page=_PAGE))

    def pod(self, namespace: str, name: str) -> Json | None:
        """A Pod, None where it is gone."""
        return self._client.find(core("pods", namespace, name))

    def log(self, namespace: str, pod: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """A container's log in chunks, as it is written.

        Raises:
            ApiError: also when nothing arrives for a while; the connection may be dead then.
        """
        return self._client.stream(core("pods", namespace, pod) + "/log", query, timeout=_timeout(_LOG_READ_S))

    def versions(self, namespace: str, name: str, until: float | None, note: Callable[[str], None]) -> Iterator[Json]:
        """Every version of an ImageBuild, beginning with the current one; never ends.

        Args:
            until: the monotonic time at which to give up, None for never.
            note: called with a message when the API server is unavailable and the request is retried.

        Raises:
            TimedOut: at ``until``.
            ClusterError: reason ``ImageBuildNotFound``: it doesn't exist or has been deleted.
            ApiError: the API server has been unavailable for two minutes.
        """
        query, retry = {"fieldSelector": f"metadata.name={name}"}, _Retry(until, note)
        while True:
            try:
                # A list, not a get: a watch continues from a list's resource version without a gap.
                page = self._client.json("GET", imagebuilds(namespace), query, timeout=_timeout(retry.limit(_READ_S)))
                retry.listed()
                if not page["items"]:
                    raise not_found(namespace, name)
                yield page["items"][0]
                yield from self._watch(namespace, name, page["metadata"]["resourceVersion"], retry)
            except ApiError as error:
                retry.failed(error)

    def _watch(self, namespace: str, name: str, version: str, retry: _Retry) -> Iterator[Json]:
        """Later versions, until the watch ends or its connection breaks."""
        query, began = {"fieldSelector": f"metadata.name={name}"}, time.monotonic()
        timeout = _timeout(retry.limit(_WATCH_READ_S))
        try:
            for event in self._client.watch(imagebuilds(namespace), query, version, seconds=_WATCH_S, timeout=timeout):
                if event.type == "DELETED":
                    raise not_found(namespace, name)
                if event.type in ("ADDED", "MODIFIED"):
                    yield event.object
                retry.limit(1.0)
        except ApiError as error:
            if error.status not in (0, GONE) or time.monotonic() - began < _SHORT_WATCH_S:
                raise
        retry.watched(time.monotonic() - began)


class _Retry:
    """When to list again after a failure or the end of a watch, and when to give up."""

    def __init__(self, until: float | None, note: Callable[[str], None]) -> None:
        self._until, self._note = until, note
        self._unavailable_since: float | None = None
        self._failures = 0

    def limit(self, seconds: float) -> float:
        """At most these seconds, and at most until the end.

        Raises:
            TimedOut
        """
        if self._until is None:
            return seconds
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimedOut("timed out")
        return min(seconds, max(left, 0.05))

    def listed(self) -> None:
        """A list succeeded."""
        self._unavailable_since = None  # not the failures: a server may answer lists, and no watch

    def watched(self, seconds: float) -> None:
        """A watch ended: wait before the next list if it was short."""
        if seconds < _SHORT_WATCH_S:
            self._wait()
        else:
            self._failures = 0

    def failed(self, error: ApiError) -> None:
        """Wait before the next list; raises the error where a retry is pointless."""
        now = time.monotonic()
        self._unavailable_since = self._unavailable_since or now
        self.limit(1.0)
        if error.status != GONE:
            if not error.is_transient or (self._until is None and now - self._unavailable_since > _UNAVAILABLE_S):
                raise error
            if self._failures == 1:  # a watch that breaks once is not worth a message
                self._note(f"{error.message}; retrying")
        self._wait()

    def _wait(self) -> None:
        time.sleep(self.limit(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]))
        self._failures += 1


@contextmanager
def _named(namespace: str, name: str) -> Iterator[None]:
    """The ImageBuild of a request that has a name is what isn't found."""
    try:
        yield
    except ApiError as error:
        if name and error.status == NOT_FOUND and not is_definition_missing(error):
            raise not_found(namespace, name) from None
        raise


def _timeout(read_s: float) -> urllib3.Timeout:
    return urllib3.Timeout(connect=_CONNECT_S, read=read_s)

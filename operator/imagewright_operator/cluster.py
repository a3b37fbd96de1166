"""The operator's requests to the API server, without kopf's watches and the lease, and what the answers mean.

I/O: blocking HTTPS requests, from worker threads only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3
from kubernetes import client

from imagewright.errors import Reason
from imagewright_operator.api import API_VERSION, KIND, ImageBuild
from imagewright_operator.api.base import Json
from imagewright_operator.clock import ServerClock
from imagewright_operator.kubeapi.client import METADATA_ONLY, Client
from imagewright_operator.kubeapi.config import CONTROLLER
from imagewright_operator.kubeapi.errors import CONFLICT, ApiError
from imagewright_operator.kubeapi.paths import core, imagebuilds
from imagewright_operator.pods.manifests import POD_SELECTOR, UID_LABEL
from imagewright_operator.pods.observation import Observation
from imagewright_operator.pods.states import EXECUTOR, resources_field
from imagewright_operator.reconcile.actions import CreateError, Event

_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
_PAGE = 250
_NOT_ENDED = "status.phase!=Succeeded,status.phase!=Failed"
_LOG_KEPT = 64 * 1024
_LOG_READ = 8 * 1024 * 1024  # of the last lines; a RUN may have printed megabytes in one line
_LOG_LINES = 400
_NO_ACCOUNT = re.compile(r"error looking up service account|serviceaccount \"[^\"]*\" not found", re.I)

_LIMIT_RANGE = re.compile(r"(minimum|maximum) (\S+) usage per Container is [^ ,]+, but (request|limit) is ([^ ,\]]+)")


@dataclass(frozen=True, slots=True)
class Created:
    """A Pod as the API server has it. ``existed``: it was there already, whoever created it."""

    pod: Json
    existed: bool = False


class Cluster:
    """One client for all workers; ``count`` and ``before`` are the client's."""

    def __init__(
        self,
        api: client.ApiClient,
        count: Callable[[str, str, int], None] = lambda *_: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = ServerClock()
        self._client = Client(api, CONTROLLER, _TIMEOUT, count, before, self._clock.heard)

    def now(self) -> datetime:
        """The API server's time."""
        return self._clock.now()

    # --- ImageBuilds

    def imagebuild(self, namespace: str, name: str) -> Json | None:
        """The ImageBuild as stored now, None if there is none."""
        return self._client.find(imagebuilds(namespace, name))

    def imagebuilds(self, namespace: str = "") -> Iterator[Json]:
        """All ImageBuilds of a namespace or the cluster, page by page and without managedFields, half of their size."""
        for body in self._client.items(imagebuilds(namespace), page=_PAGE):
            body["metadata"].pop("managedFields", None)
            yield body

    def patch_status(self, body: Mapping[str, Any], status: Mapping[str, Any]) -> Json:
        """Merge into the status of the ImageBuild ``body``, if its version is still that of ``body``.

        Raises:
            ApiError: status 409 if it has changed; the caller reads it and decides again.
        """
        metadata = body["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}, "status": status}
        path = imagebuilds(metadata["namespace"], metadata["name"]) + "/status"
        return self._client.json("PATCH", path, {"fieldManager": CONTROLLER}, patch)

    # --- Pods

    def pods(self, namespace: str = "", uid: str = "", *, running: bool = False) -> Iterator[Json]:
        """Executor Pods of one ImageBuild, or all; with ``running`` without those that have ended."""
        selector = POD_SELECTOR + (f",{UID_LABEL}={uid}" if uid else "")
        query = {"labelSelector": selector, "fieldSelector": _NOT_ENDED if running else ""}
        return self._client.items(core("pods", namespace), query, page=_PAGE)

    def create_pod(self, pod: Json) -> Created | CreateError:
        """Create the Pod, or find one that has its name.

        Raises:
            ApiError: the request has to be retried.
        """
        metadata = pod["metadata"]
        try:
            path = core("pods", metadata["namespace"])
            return Created(self._client.json("POST", path, {"fieldManager": CONTROLLER}, pod))
        except ApiError as error:
            if error.status != CONFLICT:
                return _create_error(error, pod)
        there = self._client.find(core("pods", metadata["namespace"], metadata["name"]))
        if there is None:
            raise ApiError(CONFLICT, f"Pod {metadata['name']} existed, but was deleted just now")
        return Created(there, existed=True)

    def delete_pod(self, namespace: str, pod: Observation) -> None:
        """Delete the Pod, if it is still the same one and exists."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.uid}}
        try:
            self._client.json("DELETE", core("pods", namespace, pod.name), {}, options)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def events_of(self, namespace: str, uid: str) -> list[Json]:
        """Events about the object with this UID."""
        query = {"fieldSelector": f"involvedObject.uid={uid}"}
        return list(self._client.items(core("events", namespace), query, page=_PAGE))

    def log(self, namespace: str, pod: Observation) -> bytes:
        """The end of the executor's log; b"" if the Pod or its container is gone, or another Pod has its name.

        A log is asked for by name: it is this Pod's if the Pod is still there afterwards.

        Raises:
            ApiError: the node does not answer.
        """
        query = {"container": EXECUTOR, "tailLines": str(_LOG_LINES), "limitBytes": str(_LOG_READ)}
        kept, path = b"", core("pods", namespace, pod.name)
        try:
            for chunk in self._client.stream(path + "/log", query):
                kept = (kept + chunk)[-_LOG_KEPT:]
        except ApiError as error:
            if error.status in (400, 404):  # 400: the container has never run
                return b""
            raise ApiError(error.status, f"cannot read the log of Pod {pod.name}: {error.message}") from error
        there = self._client.find(path, accept=METADATA_ONLY) if kept else None
        return kept if ((there or {}).get("metadata") or {}).get("uid") == pod.uid else b""

    # --- the rest

    def nodes(self) -> list[Json]:
        """All nodes; none if the operator may not list them (an installation for some namespaces only)."""
        try:
            return list(self._client.items(core("nodes"), page=_PAGE))
        except ApiError as error:
            if error.status == 403:
                return []
            raise

    def post_event(self, imagebuild: ImageBuild, event: Event, now: datetime) -> None:
        """Post the Event once: its name follows from its key, and an existing one is left as it is."""
        metadata = imagebuild.metadata
        moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": _event_name(metadata.name, metadata.uid, event.key), "namespace": metadata.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
            },
            "reason": event.reason,
            "message": event.message[:1024],
            "type": "Warning" if event.warning else "Normal",
            "source": {"component": CONTROLLER},
            "reportingComponent": CONTROLLER,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            self._client.json("POST", core("events", metadata.namespace), {}, body)
        except ApiError as error:
            if error.status not in (403, 404, 409):  # 403: the namespace is being deleted
                raise


def _create_error(error: ApiError, pod: Json) -> CreateError:
    """What the failed creation of a Pod means for its build.

    Raises:
        ApiError: the same error, if it does not concern the Pod.
    """
    if error.status == 403 and "exceeded quota" in error.message:
        message = f"{error.message}: the build starts as soon as the quota allows it"
        return CreateError(Reason.QUOTA_EXCEEDED, message, transient=True)
    if error.status == 403 and _NO_ACCOUNT.search(error.message):
        return CreateError(
            Reason.POD_REJECTED, f"{error.message}: the build starts as soon as it exists", transient=True
        )
    if error.status == 403 and error.cause == "NamespaceTerminating":
        raise error
    if error.status == 500 and "webhook" in error.message:
        message = f"cannot create the executor Pod: {error.message}; retrying"
        return CreateError(Reason.POD_REJECTED, message, transient=True)
    if error.status in (400, 403, 422):
        message = f"the API server rejected the executor Pod: {error.message}{_what_to_set(error.message, pod)}"
        return CreateError(Reason.POD_REJECTED, message, transient=False)
    raise error


def _what_to_set(message: str, pod: Json) -> str:
    """Whose resources a LimitRange refuses, and what sets them; its message names no container."""
    found = []
    for bound, resource, kind, amount in _LIMIT_RANGE.findall(message):
        for container in pod["spec"]["containers"]:
            amounts = container.get("resources", {}).get(f"{kind}s", {})
            if str(amounts.get(resource)) == amount:
                field = resources_field(pod, container["name"], f"{kind}s.{resource}")
                change = "raise" if bound == "minimum" else "lower"
                found.append(f'for the container "{container["name"]}" {change} {field}')
    return ": " + "; ".join(dict.fromkeys(found)) if found else ""


def _event_name(name: str, uid: str, key: str) -> str:
    return f"{name}.{uid[:8]}.{key}".lower()

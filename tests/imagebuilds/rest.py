"""The API server without kubectl in between: for tests that ask it hundreds of times, and watches.

I/O: HTTPS to the API server, as its administrator.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace, now
from imagebuilds.waiting import PATIENCE_S, eventually

Json = dict[str, Any]

IMAGEBUILDS = "/apis/imagewright.dev/v1alpha1/imagebuilds"
EXECUTORS = "app.kubernetes.io/component=executor"


class RestError(Exception):
    """An answer other than success, or none (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Rest:
    """One connection pool; may be used from several threads."""

    def __init__(self, api: ApiServer) -> None:
        self._server = f"https://127.0.0.1:{api.port}"
        headers = {"Authorization": "Bearer admin-token"}
        self._pool = urllib3.PoolManager(maxsize=16, ca_certs=api.certificate, retries=False, headers=headers)

    def close(self) -> None:
        self._pool.clear()

    def get(self, path: str, **query: str) -> Json:
        return self._ask("GET", path, query)

    def post(self, path: str, body: Json) -> Json:
        return self._ask("POST", path, {}, body)

    def merge(self, path: str, body: Json) -> Json:
        """A merge patch."""
        return self._ask("PATCH", path, {}, body, "application/merge-patch+json")

    def apply(self, path: str, body: Json) -> Json:
        """What ``kubectl apply --server-side`` does."""
        query = {"fieldManager": "test", "force": "true"}
        return self._ask("PATCH", path, query, body, "application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        """At once, whatever its grace period; one that is gone is fine."""
        try:
            self._ask("DELETE", path, {}, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
        except RestError as error:
            if error.status != 404:
                raise

    def watch(self, path: str, **query: str) -> Watch:
        """What happens from the moment at which this returns, or after ``resourceVersion``."""
        if "resourceVersion" not in query:
            query["resourceVersion"] = self.get(path, limit="1", **query)["metadata"]["resourceVersion"]
        return Watch(self._send("GET", path, {**query, "watch": "true", "allowWatchBookmarks": "false"}))

    def _ask(self, verb: str, path: str, query: dict[str, str], body: Json | None = None, kind: str = "") -> Json:
        with self._send(verb, path, query, body, kind) as response:
            answer: Json = json.loads(response.data)
        return answer

    def _send(
        self, verb: str, path: str, query: dict[str, str], body: Json | None = None, kind: str = ""
    ) -> urllib3.BaseHTTPResponse:
        url = self._server + path + ("?" + urlencode(query) if query else "")
        headers = {**self._pool.headers, "Content-Type": kind or "application/json"}
        data = json.dumps(body) if body is not None else None
        timeout = urllib3.Timeout(connect=PATIENCE_S, read=None if "watch" in query else PATIENCE_S)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                response = self._pool.request(
                    verb, url, body=data, headers=headers, timeout=timeout, preload_content=False
                )
            except urllib3.exceptions.HTTPError as error:
                raise RestError(0, str(error)) from error
            if response.status < 300:
                return response
            with response:
                words = response.data.decode()
            if response.status != 429 or time.monotonic() > end:
                raise RestError(response.status, words)
            time.sleep(0.2)  # soon after the CRD was installed: "storage is (re)initializing"


class Watch:
    """Events, one after another, until ``close`` or the server's end."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._closing = threading.Lock()

    def __iter__(self) -> Iterator[tuple[str, Json]]:
        rest = b""
        try:
            for chunk in self._response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError):
            pass  # closed by us, or the server is gone
        finally:
            with self._closing:
                self._response.close()

    def close(self) -> None:
        with self._closing:
            if not self._response.closed:
                self._response.shutdown()  # type: ignore[attr-defined]


class DirectNamespace(Namespace):
    """The same without kubectl, for what is asked often."""

    def __init__(self, api: ApiServer, rest: Rest, name: str) -> None:
        super().__init__(api.try_kubectl, name)
        self.rest = rest
        rest.post("/api/v1/namespaces", {"metadata": {"name": name}})
        rest.post(self.path("serviceaccounts"), {"metadata": {"name": "default"}})

    def path(self, resource: str, name: str = "") -> str:
        """Of a core resource, or of ``imagebuilds``."""
        prefix = "/apis/imagewright.dev/v1alpha1" if resource == "imagebuilds" else "/api/v1"
        return f"{prefix}/namespaces/{self.name}/{resource}" + (f"/{quote(name)}" if name else "")

    def clear(self) -> None:
        """No controller manager does it: what is left would keep the next test's operator busy."""
        for resource in ("imagebuilds", "pods"):
            for item in self.rest.get(self.path(resource))["items"]:
                self.rest.delete(self.path(resource, item["metadata"]["name"]))

    def apply(self, name: str = "app", **spec: Any) -> None:
        self.rest.apply(self.path("imagebuilds", name), self.imagebuild(name, **spec))

    def edit(self, name: str = "app", **spec: Any) -> None:
        """A merge patch of the spec."""
        self.rest.merge(self.path("imagebuilds", name), {"spec": spec})

    def status(self, name: str = "app") -> Json:
        status: Json = self.rest.get(self.path("imagebuilds", name)).get("status") or {}
        return status

    def pods(self, name: str = "app") -> list[Json]:
        items: list[Json] = self.rest.get(self.path("pods"), labelSelector=f"imagewright.dev/imagebuild={name}")[
            "items"
        ]
        return items

    def pod(self, name: str = "app") -> Json:
        """The Pod, once the status names one that is there."""

        def find() -> Json | None:
            names = self.status(name).get("build", {}).get("podNames", [])
            return next((pod for pod in self.pods(name) if pod["metadata"]["name"] in names), None)

        found: Json = eventually(find, f"a Pod in the status of {name}")
        return found

    def events(self, name: str = "app") -> list[str]:
        query = {"fieldSelector": f"involvedObject.name={name},involvedObject.kind=ImageBuild"}
        return [item["reason"] for item in self.rest.get(self.path("events"), **query)["items"]]

    def kubelet(self, pod: Json, status: Json) -> None:
        self.rest.merge(self.path("pods", pod["metadata"]["name"]) + "/status", {"status": status})

    def pod_event(self, pod: Json, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        about = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        event = {
            "metadata": {"generateName": "kubelet-"},
            "involvedObject": {**about, "namespace": self.name},
            "reason": reason,
            "message": message,
            "type": "Warning",
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self.rest.post(self.path("events"), event)

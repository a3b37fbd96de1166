"""The Lease by which operators agree who works, as it is on the API server.

I/O: HTTPS requests to the API server, blocking. Called by ``leadership``. Apart from ``cluster``, whose requests may take longer
than a lease lasts and need it: these have a timeout of their own and are asked of nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import urllib3
from kubernetes import client

from imagewright_operator.api.base import Json
from imagewright_operator.cluster import CONTROLLER, ApiError

_API_VERSION = "coordination.k8s.io/v1"


class Leases:
    """One Lease, of ``namespace`` and ``name``. ``count`` is told of every request: verb, resource, HTTP status."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        name: str,
        timeout_s: float,
        count: Callable[[str, str, int], None] = lambda *_: None,
    ) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._timeout_s = timeout_s
        self._count = count

    def read(self) -> Json | None:
        """As stored now, or None when there is none.

        Raises:
            ApiError: as all of these.
        """
        try:
            return self._json("GET", self._name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, spec: Json) -> Json:
        """The first one; status 409 when there is one."""
        metadata = {"name": self._name, "namespace": self._namespace}
        return self._json("POST", "", {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec})

    def replace(self, body: Json) -> Json:
        """Put ``body`` in the place of the version that it names; status 409 when it is another by now."""
        return self._json("PUT", self._name, body)

    def _json(self, verb: str, name: str, body: Json | None = None) -> Json:
        path = f"/apis/{_API_VERSION}/namespaces/{quote(self._namespace)}/leases" + (f"/{quote(name)}" if name else "")
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": CONTROLLER}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        status = 0
        try:
            response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                verb,
                self._api.configuration.host + path,
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=urllib3.Timeout(total=self._timeout_s),
                retries=False,
            )
            status = response.status
            answer = json.loads(response.data)
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"the API server doesn't answer: {error}") from error
        except ValueError as error:
            raise ApiError(status, f"the API server's answer is no JSON: {error}") from error
        finally:
            self._count(verb, "leases", status)
        if not isinstance(answer, dict):
            raise ApiError(status, "the API server's answer is no object")
        if not 200 <= status < 300:
            raise ApiError(status, str(answer.get("message") or "")[:500])
        return answer

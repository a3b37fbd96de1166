"""The Lease by which operators agree who works, as it is on the API server.

I/O: HTTPS requests to the API server by ``connection``, blocking. Called by ``leadership``. Apart from ``cluster``, whose requests
may take longer than a lease lasts and need it: these have a timeout of their own and nothing keeps them back.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import urllib3
from kubernetes import client

from imagewright_operator.api.base import Json
from imagewright_operator.connection import Connection

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
        self._server = Connection(api, urllib3.Timeout(total=timeout_s), count)
        self._namespace, self._name = namespace, name
        self._all = f"/apis/{_API_VERSION}/namespaces/{quote(namespace)}/leases"
        self._one = f"{self._all}/{quote(name)}"

    def read(self) -> Json | None:
        """As stored now, or None when there is none.

        Raises:
            ApiError: as all of these.
        """
        return self._server.find(self._one)

    def create(self, spec: Json) -> Json:
        """The first one; status 409 when there is one."""
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
        return self._server.json("POST", self._all, body=body)

    def replace(self, body: Json) -> Json:
        """Put ``body`` in the place of the version that it names; status 409 when it is another by now."""
        return self._server.json("PUT", self._one, body=body)

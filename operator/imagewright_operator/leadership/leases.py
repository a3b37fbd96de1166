"""The Lease by which operators elect a leader.

I/O: blocking HTTPS requests to the API server, by a client of their own: requests of ``cluster`` may take longer than a
lease lasts and wait for it, these have a short timeout and wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import urllib3
from kubernetes import client

from imagewright_operator.api.base import Json
from imagewright_operator.kubeapi.client import Client
from imagewright_operator.kubeapi.config import CONTROLLER
from imagewright_operator.kubeapi.paths import LEASES, leases


class Leases:
    """The Lease with this ``namespace`` and ``name``.

    ``count`` is called for every request: verb, resource, HTTP status.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        name: str,
        timeout_s: float,
        count: Callable[[str, str, int], None] = lambda *_: None,
    ) -> None:
        self._client = Client(api, CONTROLLER, urllib3.Timeout(total=timeout_s), count)
        self._namespace, self._name = namespace, name
        self._all, self._one = leases(namespace), leases(namespace, name)

    def read(self) -> Json | None:
        """The Lease as stored now, None if there is none.

        Raises:
            ApiError: as all of these.
        """
        return self._client.find(self._one)

    def create(self, spec: Json) -> Json:
        """Create the Lease; status 409 if there is one."""
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": LEASES, "kind": "Lease", "metadata": metadata, "spec": spec}
        return self._client.json("POST", self._all, body=body)

    def replace(self, body: Json) -> Json:
        """Replace the version that ``body`` names; status 409 if it has changed."""
        return self._client.json("PUT", self._one, body=body)

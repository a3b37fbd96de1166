"""The few questions that bringing the cluster up asks its API server. HTTP, with the administrator's token."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Api:
    """Reads objects with the credentials of ``kubeconfig``, which must be one that this cluster wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        content = json.loads(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._token: str = content["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)

    def get(self, path: str) -> str | None:
        """The answer's body, or None when there is no server or no such object."""
        request = urllib.request.Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=5) as reply:
                body: bytes = reply.read()
                return body.decode()
        except (urllib.error.URLError, OSError):
            return None

    def ready(self) -> bool:
        return self.get("/readyz") == "ok"

    def exists(self, path: str) -> bool:
        return self.get(path) is not None

    def node_ready(self, name: str) -> bool:
        body = self.get(f"/api/v1/nodes/{name}")
        node: dict[str, Any] = json.loads(body) if body else {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

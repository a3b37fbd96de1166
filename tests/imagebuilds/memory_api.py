"""An API server in memory, for the operator's client: ImageBuilds, Pods, and what somebody else does to them.

I/O: a loopback port, until ``close``. No admission, no validation, no watches.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imagebuilds.namespace import Json, now
from imagebuilds.paper import merged
from kubernetes import client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright_operator.cluster import Cluster

_OBJECT = re.compile(r"/(?P<kind>imagebuilds|pods|events|nodes)(?:/(?P<name>[^/]+))?(?:/(?P<sub>status|log))?$")


class MemoryApi:
    """``webhook`` changes a Pod that is created; ``conflicts`` is how many of the next patches are answered by 409.

    ``undeletable`` is the name of a Pod whose deletion is refused.
    """

    def __init__(self) -> None:
        self.imagebuilds: dict[str, Json] = {}
        self.pods: list[Any] = []
        self.webhook: Callable[[Json], object] = lambda pod: None
        self.conflicts = 0
        self.undeletable = ""
        self.log = b""
        self.requests: list[str] = []
        self._server = ScriptedServer(self._answer)
        self.cluster = Cluster(client.ApiClient(client.Configuration(host=f"http://{self._server.host}")))

    def close(self) -> None:
        self._server.close()

    def apply(self, name: str = "app", uid: str = "uid-1", **spec: Any) -> None:
        metadata = {"name": name, "namespace": "ns", "uid": uid, "generation": 1, "resourceVersion": "1"}
        source = {"inline": {"dockerfile": "FROM scratch\n"}}
        body = {"source": source, "output": {"tags": ["reg.example.com/app:1"]}, **spec}
        self.imagebuilds[name] = {"metadata": metadata, "spec": body, "status": {}}

    def status(self, name: str = "app") -> Json:
        found: Json = self.imagebuilds[name]["status"]
        return found

    def ready(self, name: str = "app") -> str:
        """Status and reason of the Ready condition."""
        conditions = {one["type"]: one for one in self.status(name)["conditions"]}
        return f"{conditions['Ready']['status']} {conditions['Ready']['reason']}"

    def _answer(self, asked: Asked) -> Answer:
        address = urlsplit(asked.path)
        found = _OBJECT.search(address.path)
        assert found is not None, asked.path
        self.requests.append(f"{asked.method} {found['kind']}" + (f"/{found['sub']}" if found["sub"] else ""))
        given = json.loads(asked.body) if asked.body else {}
        if found["sub"] == "log":
            return Answer(200, {}, self.log)
        if found["kind"] == "imagebuilds":
            return self._imagebuild(asked.method, found["name"], given)
        if found["kind"] != "pods":
            return _json({"items": []})
        return self._pod(asked.method, found["name"], given, parse_qs(address.query).get("labelSelector", [""])[0])

    def _imagebuild(self, method: str, name: str | None, given: Json) -> Answer:
        if name is None:
            return _json({"items": list(self.imagebuilds.values())})
        if name not in self.imagebuilds:
            return Answer(404)
        there = self.imagebuilds[name]
        if method == "PATCH":
            if self.conflicts or given["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"]:
                self.conflicts = max(0, self.conflicts - 1)
                return Answer(409)
            there["status"] = merged(there["status"], given["status"])
            there["metadata"]["resourceVersion"] = str(int(there["metadata"]["resourceVersion"]) + 1)
        return _json(there)

    def _pod(self, method: str, name: str | None, given: Json, selector: str) -> Answer:
        uid = re.search(r"imagewright.dev/uid=([^,]+)", selector)
        if method == "GET" and name is None:
            return _json({"items": [pod for pod in self.pods if uid is None or _label(pod) in ("", uid[1])]})
        wanted = name or given["metadata"]["name"]
        there = next((pod for pod in self.pods if isinstance(pod, dict) and pod["metadata"]["name"] == wanted), None)
        if method == "POST":
            if there is not None:
                return Answer(409)
            there = copy.deepcopy(given)
            there["metadata"] |= {"uid": f"pod-{len(self.requests)}", "creationTimestamp": now()}
            there["status"] = {"phase": "Pending"}
            self.webhook(there)
            self.pods.append(there)
        if there is None:
            return Answer(404)
        if method == "DELETE" and wanted == self.undeletable:
            return Answer(403)
        if method == "DELETE":
            self.pods.remove(there)
        return _json(there)


def _label(pod: Any) -> str:
    """The UID in its labels, "" for what has none: it is sent along, whatever it is."""
    try:
        return str(pod["metadata"]["labels"]["imagewright.dev/uid"])
    except (KeyError, TypeError):
        return ""


def _json(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())

"""A gateway with tokens in front of a real registry (distribution token specification), and its token server in one.

Serves from construction to ``close``. The distribution project's program could do this itself, but for one that was
built with it the whole test cluster would be built again.
"""

from __future__ import annotations

import base64
import http.client
import threading
import uuid
from urllib.parse import parse_qs, urlsplit

from servers.scripted import Answer, Asked, ScriptedServer

_KEPT = ("Content-Type", "Docker-Content-Digest", "Location", "Range", "Docker-Upload-UUID", "Content-Length")


class TokenGateway(ScriptedServer):
    """Forwards to the registry at ``target`` what has a token for it; issues tokens to the user ``builder``."""

    def __init__(self, target: str, password: str) -> None:
        self._target = target
        self._password = password
        self._tokens: dict[str, frozenset[str]] = {}  # with what they allow: "pull team/app"
        self._lock = threading.Lock()
        super().__init__(self._respond)

    def expire(self, password: str) -> None:
        """End all tokens and change the password."""
        with self._lock:
            self._password = password
            self._tokens.clear()

    def _respond(self, asked: Asked) -> Answer:
        url = urlsplit(asked.path)
        if url.path == "/token":
            return self._issue(asked, parse_qs(url.query).get("scope", []))
        name = url.path.removeprefix("/v2/")
        for end in ("/manifests/", "/blobs/"):
            name = name.partition(end)[0]
        action = "pull" if asked.method in ("GET", "HEAD") else "push"
        with self._lock:
            allowed = self._tokens.get(asked.authorization.removeprefix("Bearer "), frozenset())
        if f"{action} {name}" not in allowed:
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{self.host}/token",service="registry.test"'})
        return self._forward(asked)

    def _issue(self, asked: Asked, scopes: list[str]) -> Answer:
        allowed = set()
        for scope in scopes:
            _, name, actions = scope.split(":")
            allowed |= {f"{action} {name}" for action in actions.split(",")}
        token = uuid.uuid4().hex
        with self._lock:
            if asked.authorization != "Basic " + base64.b64encode(f"builder:{self._password}".encode()).decode():
                return Answer(401)
            self._tokens[token] = frozenset(allowed)
        return Answer(200, {"Content-Type": "application/json"}, f'{{"token": "{token}"}}'.encode())

    def _forward(self, asked: Asked) -> Answer:
        headers = {name: value for name, value in asked.headers.items() if name not in ("authorization", "connection")}
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.request(asked.method, asked.path, asked.body, headers)  # its Host is ours: so are Locations
            response = connection.getresponse()
            kept = {name: value for name in _KEPT if (value := response.getheader(name)) is not None}
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

"""A connection to the API server: one request, its answer as JSON or as a stream, its failure as an ``ApiError``.

I/O: HTTPS requests, blocking, from worker threads only. Called by ``cluster`` and ``leases``, which know what is asked for.
Objects are plain JSON: the typed models of the client library would rename, drop and copy what the operator only passes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

from imagewright_operator.api.base import Json
from imagewright_operator.clock import ServerClock

CONTROLLER = "imagewright-operator"


class ApiError(Exception):
    """An answer other than success. ``status`` is HTTP's, 0 where there was no answer; ``message`` the server's own."""

    def __init__(self, status: int, message: str, cause: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.cause = cause
        self.retry_after_s = retry_after_s


def connect() -> client.ApiClient:
    """By the Pod's service account, or else the kubeconfig.

    Raises:
        kubernetes.config.ConfigException: when there is neither.
    """
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.retries = False  # the workqueue repeats, with pauses that grow
    return client.ApiClient(settings)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and what to show it; the files are PEM, "" none."""

    server: str
    token: str
    ca_file: str
    certificate_file: str
    key_file: str
    insecure: bool


def access(api: client.ApiClient) -> Access:
    """As of now: a service account's token is renewed every hour."""
    settings = api.configuration
    headers: dict[str, str] = {}
    api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
    token = next((value for name, value in headers.items() if name.lower() == "authorization"), "")
    return Access(
        server=settings.host,
        token=token.partition(" ")[2] or token,
        ca_file=settings.ssl_ca_cert or "",
        certificate_file=settings.cert_file or "",
        key_file=settings.key_file or "",
        insecure=not settings.verify_ssl,
    )


class Connection:
    """Requests by the connection pool of ``api``, from all threads. ``count`` is told of every request: verb, resource, HTTP status (0: no answer).

    ``before`` is called before each, and may keep it back by an ApiError. ``timeout`` is for each.
    """

    def __init__(
        self,
        api: client.ApiClient,
        timeout: urllib3.Timeout,
        count: Callable[[str, str, int], None] = lambda *_: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._timeout = timeout
        self._count = count
        self._before = before
        self.clock = ServerClock()  # by what the answers say

    def find(self, path: str) -> Json | None:
        """The object of this path as stored now, or None when there is none.

        Raises:
            ApiError: as ``json``.
        """
        try:
            return self.json("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def json(self, verb: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None) -> Json:
        """The object that is answered.

        Raises:
            ApiError: as ``request``; status 0 also where the answer is no object.
        """
        with self.request(verb, path, query, body) as response:
            data = _whole(response)
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise ApiError(0, f"the API server's answer is no JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ApiError(0, "the API server's answer is no object")
        return answer

    def request(
        self, verb: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> urllib3.BaseHTTPResponse:
        """A success, unread and to be closed. What is empty in ``query`` isn't sent; the body of a PATCH is merged.

        Raises:
            ApiError: no answer, or one other than success.
        """
        self._before()
        headers = {"Accept": "application/json", "User-Agent": CONTROLLER}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        given = {key: value for key, value in (query or {}).items() if value}
        url = self._api.configuration.host + path + ("?" + urlencode(given) if given else "")
        resource = _resource(path)
        try:
            response: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
                verb,
                url,
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=self._timeout,
                retries=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            self._count(verb, resource, 0)
            raise ApiError(0, f"the API server doesn't answer: {error}") from error
        self._count(verb, resource, response.status)
        self.clock.heard(response.headers.get("Date") or "")
        if not 200 <= response.status < 300:
            with response:
                raise _error(response)
        return response


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.data
    except urllib3.exceptions.HTTPError as error:
        raise ApiError(0, f"the API server's answer breaks off: {error}") from error


def _error(response: urllib3.BaseHTTPResponse) -> ApiError:
    text = _whole(response).decode(errors="replace")
    message, cause = text[:500], ""
    try:
        answer = json.loads(text)
        message = answer.get("message") or message
        causes = (answer.get("details") or {}).get("causes") or []
        cause = next((one.get("reason") or "" for one in causes), "")
    except (ValueError, AttributeError):
        pass
    try:
        pause = float(response.headers.get("Retry-After") or 0)
    except ValueError:
        pause = 0.0
    return ApiError(response.status, message, cause, pause)


def _resource(path: str) -> str:
    """``pods``, ``pods/log``, ``imagebuilds/status``, …: no names, so that metrics stay few.

    By the paths of the API (Kubernetes API concepts, "Resource URIs"): ``/api/VERSION`` or ``/apis/GROUP/VERSION``, then
    ``[/namespaces/NAME]/RESOURCE[/NAME[/SUBRESOURCE]]``.
    """
    words = path.split("/")[3 if path.startswith("/api/") else 4 :]
    if words[0] == "namespaces" and len(words) > 2:
        words = words[2:]
    return f"{words[0]}/{words[2]}" if len(words) > 2 else words[0]

"""kopf's HTTP session: the answers of the API server as ``documents`` bounds them, before kopf parses them.

I/O: none of its own; kopf sends the requests. kopf gives every object to Python's own JSON parser, so that one that is
nested too deep would end its watches, those of all namespaces, again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import kopf

from imagewright_operator.kubeapi.config import Access
from imagewright_operator.kubeapi.documents import parse, shallow

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class Login:
    """Logs kopf in, by what ``access`` gives at that moment.

    The same credentials are the same session: kopf gives up one that the API server refuses, and then ends.
    """

    def __init__(self, access: Callable[[], Access]) -> None:
        self._access = access
        self._sessions: dict[Access, kopf.AiohttpSession] = {}

    async def session(self) -> kopf.AiohttpSession:
        """A session of this event loop, which kopf closes."""
        given = await asyncio.to_thread(self._access)
        if given not in self._sessions:
            self._sessions = {given: _session(given)}
        return self._sessions[given]


def _session(access: Access) -> kopf.AiohttpSession:
    credentials = kopf.ConnectionInfo(
        server=access.server,
        token=access.token or None,
        ca_path=access.ca_file or None,
        certificate_path=access.certificate_file or None,
        private_key_path=access.key_file or None,
        insecure=access.insecure,
    )
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.as_ssl_context()),
        headers=credentials.as_http_headers(),
        response_class=_Response,
    )
    return kopf.AiohttpSession(server=access.server, aiohttp_session=made)


class _Response(aiohttp.ClientResponse):
    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        started = await super().start(connection)
        self.content: Any = _Content(self.content)
        return started

    async def json(self, **options: Any) -> Any:
        return await super().json(**{**options, "loads": parse})


class _Content:
    """The body of an answer. In chunks, as kopf reads a watch, it comes in whole lines, but for the last's newline."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield b"".join(shallow(line) + b"\n" for line in lines)
        if rest:
            yield shallow(rest)

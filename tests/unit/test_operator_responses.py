"""What kopf is given of a watch: whole lines, none of them nested deeper than Python's parser bears."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from servers.scripted import Answer, ScriptedServer

from imagewright_operator.kubeapi.config import Access
from imagewright_operator.watch.responses import Login

DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
PLAIN = json.dumps({"type": "ADDED", "object": {"text": "\\n" + "x" * 100_000}}).encode()


async def _read(host: str) -> tuple[list[bytes], bytes]:
    """A body in chunks, and the same at once."""
    access = Access(f"http://{host}", token="", ca_file="", certificate_file="", key_file="", insecure=False)
    session = (await Login(lambda: access).session()).aiohttp_session
    async with session:
        async with session.get(access.server) as response:
            chunks = [chunk async for chunk in response.content.iter_chunked(1000)]
        async with session.get(access.server) as response:
            return chunks, await response.content.read()


@pytest.mark.parametrize("end", [b"\n", b""], ids=["newline", "no newline"])
@pytest.mark.parametrize("lines", [[PLAIN], [DEEP], [PLAIN, DEEP], [DEEP, PLAIN], [DEEP[: len(DEEP) // 2]]])
def test_every_line_of_a_watch_is_bounded(lines: list[bytes], end: bytes) -> None:
    body = b"\n".join(lines) + end
    with contextlib.closing(ScriptedServer(lambda _: Answer(body=body))) as server:
        chunks, whole = asyncio.run(_read(server.host))
    assert whole == body
    assert all(chunk.endswith(b"\n") for chunk in chunks[: len(chunks) if end else -1])
    read = b"".join(chunks).split(b"\n")[: len(lines)]
    for line, sent in zip(read, lines, strict=True):
        value: Any = None
        with contextlib.suppress(ValueError):  # half of a document; a RecursionError would end the watch
            value = json.loads(line)
        assert value == json.loads(PLAIN) or sent is not PLAIN

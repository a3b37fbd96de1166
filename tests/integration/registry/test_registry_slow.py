"""Registries that never fall silent and never end: drips, endless headers, numbers of thousands of digits."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from servers.images import memory_image
from servers.registryclient import Client

from imagewright.errors import Reason, RegistryError
from imagewright.http import body, session
from imagewright.http.retry import RetryPolicy

IMAGE = memory_image([b"content" * 1000])
LAYER = IMAGE.manifest.layers[0]
Serve = Callable[[socket.socket, str], None]  # (connection, path): sends the answer


class RawServer:
    """Hands every request's connection to ``serve`` and closes it after that."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """Over and over, until nobody listens."""
        while not self._stopped.is_set():
            connection.sendall(data)
            time.sleep(0.01)

    def close(self) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        workers = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            workers.append(threading.Thread(target=self._answer, args=(connection,)))
            workers[-1].start()
        for worker in workers:
            worker.join()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                data = connection.recv(65536)
                if not data:
                    return
                request += data
                if not request.startswith(b"GET /"):  # a TLS greeting
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                    return
            self._serve(connection, request.split(b" ")[1].decode())


def good(connection: socket.socket, path: str) -> None:
    """What a registry with the image answers."""
    body, kind = b"{}", "application/json"
    if "/manifests/" in path:
        body, kind = IMAGE.manifest.raw, IMAGE.manifest.media_type
    elif "/blobs/" in path:
        body = next(blob for digest, blob in IMAGE.blobs.items() if digest.hex in path)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode() + body)


@pytest.fixture
def serving() -> Iterator[Callable[[Serve], RawServer]]:
    with contextlib.ExitStack() as stack:

        def start(serve: Serve) -> RawServer:
            server = RawServer(serve)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SLOW_S", 0.3)
    monkeypatch.setattr(session, "_HEADERS_S", 0.3)


def pull(server: RawServer) -> bytes:
    return Client(retry=RetryPolicy(1, 0)).pull(f"{server.host}/app:1")


def test_the_server_itself_is_good(serving: Callable[[Serve], RawServer]) -> None:
    assert pull(serving(good)) == IMAGE.blobs[LAYER.digest]


@pytest.mark.parametrize("what", ["/v2/app/manifests/", LAYER.digest.hex])
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 7000\r\n\r\n", b"c"),  # a body that drips
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),  # a header that drips
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),  # a beginning without an end
    ],
    ids=["body", "header", "continue"],
)
def test_a_drip_is_cut_off(serving: Callable[[Serve], RawServer], what: str, begin: bytes, drop: bytes) -> None:
    def serve(connection: socket.socket, path: str) -> None:
        if what not in path:
            good(connection, path)
            return
        connection.sendall(begin)
        server.drip(connection, drop)

    server = serving(serve)
    with pytest.raises(RegistryError) as caught:
        pull(server)
    assert caught.value.reason is Reason.REGISTRY_UNAVAILABLE
    assert "EOF" not in caught.value.message, "it got as far as the answer"
    assert caught.value.hint


@pytest.mark.parametrize("header", ["Content-Length: ", "Content-Range: bytes "])
def test_a_number_of_thousands_of_digits_is_an_error_of_the_registrys(
    serving: Callable[[Serve], RawServer], header: str
) -> None:
    asked: list[str] = []

    def serve(connection: socket.socket, path: str) -> None:
        if LAYER.digest.hex not in path:
            good(connection, path)
            return
        asked.append(path)
        if header.startswith("Content-Range") and len(asked) == 1:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 7000\r\n\r\n"
            connection.sendall(head + IMAGE.blobs[LAYER.digest][:1000])  # cut off, so that the rest is asked for
            return
        status = "206 Partial Content" if header.startswith("Content-Range") else "200 OK"
        connection.sendall(
            f"HTTP/1.1 {status}\r\n{header}{'9' * 5000}-\r\n\r\n".replace(
                "-\r\n\r\n", "\r\n\r\n" if header.startswith("Content-Length") else "-1/2\r\n\r\n"
            ).encode()
        )

    with pytest.raises(RegistryError) as caught:
        pull(serving(serve))
    assert caught.value.reason in (Reason.REGISTRY_PROTOCOL_ERROR, Reason.REGISTRY_UNAVAILABLE)

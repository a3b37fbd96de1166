"""The server of health and metrics: what its log says about requests that fail."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from imagewright_operator.monitoring.server import HealthServer


@contextmanager
def serving(alive: Callable[[], bool]) -> Iterator[socket.socket]:
    """A connection that has asked for /healthz. Afterwards the request has been dealt with."""
    handlers: list[threading.Thread] = []

    def asked() -> bool:
        handlers.append(threading.current_thread())
        return alive()

    server = HealthServer(0, asked, lambda: True, CollectorRegistry())
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            yield connection
        for handler in handlers:
            handler.join()
    finally:
        server.close()


def test_a_prober_that_has_given_up_leaves_nothing_in_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked, left = threading.Event(), threading.Event()

    def alive() -> bool:
        asked.set()
        return left.wait(30)

    with serving(alive) as connection:
        assert asked.wait(30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        connection.close()
        left.set()
    assert capfd.readouterr().err == ""
    assert not caplog.records


def test_a_failure_is_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    def alive() -> bool:
        raise ValueError("odd")

    with caplog.at_level(logging.ERROR), serving(alive) as connection:
        assert connection.recv(100) == b""
    assert "cannot answer a request from" in caplog.text
    assert "ValueError: odd" in caplog.text
    assert capfd.readouterr().err == ""

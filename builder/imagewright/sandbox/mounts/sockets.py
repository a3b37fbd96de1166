"""Unix sockets: paths that are too long for an address, and a process that forwards connections from one to another.

Opens directories and sockets.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Iterator

from imagewright.sandbox.processes.child import Parent

_CHUNK_BYTES = 65536
_MAX_PATH_BYTES = 100  # sun_path has 108 (unix(7))


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """An equivalent path that is short enough for a socket's address."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def forward(listener: socket.socket, source: str, parent: Parent | socket.socket) -> int:
    """Forward all connections of ``listener`` to the socket ``source``, in one thread, until the parent hangs up."""
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ, None)
        selector.register(parent, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.fileobj is parent:
                    return 0
                if key.data is None:
                    _accept(listener, source, selector)
                else:
                    _pass_on(key.fileobj, key.data, selector)  # type: ignore[arg-type]


def _accept(listener: socket.socket, source: str, selector: selectors.BaseSelector) -> None:
    inside, _ = listener.accept()
    outside = socket.socket(socket.AF_UNIX)
    try:
        with reachable(source) as path:
            outside.connect(path)
    except OSError:
        inside.close()
        outside.close()
        return
    selector.register(inside, selectors.EVENT_READ, outside)
    selector.register(outside, selectors.EVENT_READ, inside)


def _pass_on(one: socket.socket, other: socket.socket, selector: selectors.BaseSelector) -> None:
    data = b""
    with contextlib.suppress(OSError):
        data = one.recv(_CHUNK_BYTES)
        other.sendall(data)
    if not data:
        for each in (one, other):
            with contextlib.suppress(KeyError, ValueError):  # both ends may have closed at the same time
                selector.unregister(each)
            each.close()

"""Unix sockets: paths that are too long for an address, and the forwarding of connections from one socket to another.

Opens directories and sockets, starts threads. One loop serves all connections of a socket and never waits for one of
them: a peer that reads nothing, or never ends, holds up nobody else.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Protocol

from imagewright.records import dataclass
from imagewright.sandbox.processes.child import Parent

MAX_CONNECTIONS = 64  # at once; each takes two descriptors
CHUNK_BYTES = 65536
_PAUSE_S = 0.1  # until a connection is accepted again after no descriptor was left for it
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


# --- what is forwarded


class Dialog(Protocol):
    """What one connection forwards between the client, which has connected, and the server, to which it is forwarded.

    ``in_turns``: only one of them sends at a time. Nothing more is read then until everything is sent, and the
    connection ends with either side.
    """

    in_turns: bool

    def expected(self, *, server: bool) -> int:
        """How many bytes may be read next from the server or the client; 0 while it is not its turn."""

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        """What the server is sent for these data, and what the client is sent in answer.

        Raises:
            ValueError: they are invalid: the connection ends.
        """

    def from_server(self, data: bytes) -> bytes:
        """What the client is sent for these data.

        Raises:
            ValueError: as for ``from_client``.
        """


class Stream:
    """All data in both directions, each of which ends by itself."""

    in_turns = False

    def expected(self, *, server: bool) -> int:
        return CHUNK_BYTES

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def from_server(self, data: bytes) -> bytes:
        return data


# --- connections


@dataclass(slots=True)
class _Direction:
    """``pending`` is what was read from ``source`` and is still to be sent to ``target``. Until it is, no more is read,
    so that the source's end is seen when nothing is pending.
    """

    source: socket.socket
    target: socket.socket
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    ended: bool = False

    def read(self, size: int) -> bytes:
        """The next data; none if there are none after all, or never again."""
        try:
            data = self.source.recv(size)
        except BlockingIOError:
            return b""
        except OSError:  # reset by the peer
            data = b""
        if not data:
            self._end()
        return data

    def add(self, data: bytes) -> None:
        if data:
            self.pending = memoryview(bytes(self.pending) + data)

    def write(self) -> None:
        try:
            self.pending = self.pending[self.target.send(self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # the target has closed: nobody wants the rest
            self.pending = memoryview(b"")
            self._end()

    def _end(self) -> None:
        """Pass the end on, in both ways."""
        self.ended = True
        for each, way in ((self.target, socket.SHUT_WR), (self.source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                each.shutdown(way)


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket, dialog: Dialog) -> None:
        self.client, self.server = client, server
        self._dialog = dialog
        self._up, self._down = _Direction(client, server), _Direction(server, client)
        self._invalid = False

    @property
    def in_turns(self) -> bool:
        return self._dialog.in_turns

    @property
    def over(self) -> bool:
        ends = (self._up.ended, self._down.ended)
        return self._invalid or (any(ends) if self._dialog.in_turns else all(ends))

    def wanted(self, sock: socket.socket) -> int:
        """The events of one of the sockets that this connection waits for, as in ``selectors``; 0 for none."""
        of, to = (self._up, self._down) if sock is self.client else (self._down, self._up)
        blocked = of.pending or of.ended or (self._dialog.in_turns and to.pending)
        readable = not blocked and self._dialog.expected(server=sock is self.server) > 0
        return selectors.EVENT_READ * readable | selectors.EVENT_WRITE * bool(to.pending)

    def proceed(self, sock: socket.socket, events: int) -> None:
        """Read from one of the sockets, or write to it, once, without waiting."""
        if events & selectors.EVENT_WRITE:
            (self._down if sock is self.client else self._up).write()
        if events & selectors.EVENT_READ and self.wanted(sock) & selectors.EVENT_READ:
            try:
                self._read(sock)
            except ValueError:
                self._invalid = True

    def _read(self, sock: socket.socket) -> None:
        size = self._dialog.expected(server=sock is self.server)
        if sock is self.server:
            if data := self._down.read(size):
                self._down.add(self._dialog.from_server(data))
        elif data := self._up.read(size):
            onward, back = self._dialog.from_client(data)
            self._up.add(onward)
            self._down.add(back)

    def close(self) -> None:
        self.client.close()
        self.server.close()


# --- forwarding


class _Forwarding:
    """The connections of a listener. ``slots`` has one for each that may be open."""

    def __init__(self, source: str, make_dialog: Callable[[], Dialog], slots: threading.Semaphore) -> None:
        self._source = source
        self._make_dialog = make_dialog
        self._slots = slots
        self._open: set[_Connection] = set()
        self._selector = selectors.DefaultSelector()
        # Clients of dialogs in turns: nothing may be awaited of one that has gone while the server is to answer.
        self._hangups = select.epoll()
        self._watched: dict[int, _Connection] = {}

    def run(self, listener: socket.socket, parent: Parent | socket.socket) -> None:
        """Until ``parent`` hangs up."""
        listener.setblocking(False)
        self._selector.register(parent, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._hangups, selectors.EVENT_READ)
        resume_s = 0.0  # when connections will be accepted again, 0 while they are
        while True:
            happened = self._selector.select(max(resume_s - time.monotonic(), 0.0) if resume_s else None)
            if resume_s and time.monotonic() >= resume_s:
                self._selector.register(listener, selectors.EVENT_READ)
                resume_s = 0.0
            if any(key.fileobj is parent for key, _ in happened):
                return
            for key, events in happened:
                if key.data in self._open:
                    key.data.proceed(key.fileobj, events)
                    self._update(key.data)
                elif key.fileobj is self._hangups:
                    for fd, _ in self._hangups.poll(0):
                        if fd in self._watched:
                            self._end(self._watched[fd])
                elif key.fileobj is listener and not self._accept(listener):
                    self._selector.unregister(listener)
                    resume_s = time.monotonic() + _PAUSE_S

    def close(self) -> None:
        for connection in list(self._open):
            self._end(connection)
        self._selector.close()
        self._hangups.close()

    def _accept(self, listener: socket.socket) -> bool:
        """Accept a connection; whether others can be accepted now."""
        with contextlib.ExitStack() as opened:
            try:
                # Both descriptors, or none: a connection that was accepted cannot go back to the queue.
                server = opened.enter_context(socket.socket(socket.AF_UNIX))
                client, _ = listener.accept()
            except BlockingIOError:
                return True
            except OSError:  # no descriptor is left, and the connection stays in the queue
                return False
            for each in (client, server):  # of a client that is turned away, the server's is closed before
                opened.enter_context(each)
            if not self._slots.acquire(blocking=False):
                return True
            if not self._connect(server):
                self._slots.release()
                return True
            opened.pop_all()
        client.setblocking(False)
        connection = _Connection(client, server, self._make_dialog())
        self._open.add(connection)
        if connection.in_turns:
            self._watched[client.fileno()] = connection
            self._hangups.register(client.fileno(), 0)  # EPOLLHUP, which is always reported (epoll_ctl(2))
        self._update(connection)
        return True

    def _connect(self, server: socket.socket) -> bool:
        """Whether the server accepts a connection at once."""
        server.setblocking(False)
        try:
            with reachable(self._source) as path:
                server.connect(path)
        except OSError:
            return False
        return True

    def _update(self, connection: _Connection) -> None:
        """Wait for what the connection needs next, or end it."""
        if connection.over:
            self._end(connection)
            return
        for sock in (connection.client, connection.server):
            wanted = connection.wanted(sock)
            present = self._selector.get_map().get(sock)
            if present is not None and present.events != wanted:
                self._selector.unregister(sock)
                present = None
            if present is None and wanted:
                self._selector.register(sock, wanted, connection)

    def _end(self, connection: _Connection) -> None:
        if self._watched.pop(connection.client.fileno(), None) is not None:
            self._hangups.unregister(connection.client.fileno())
        for sock in (connection.client, connection.server):
            with contextlib.suppress(KeyError):  # nothing was awaited of it
                self._selector.unregister(sock)
        connection.close()
        self._open.remove(connection)
        self._slots.release()


def forward(
    listener: socket.socket,
    source: str,
    parent: Parent | socket.socket,
    make_dialog: Callable[[], Dialog] = Stream,
    slots: threading.Semaphore | None = None,
) -> int:
    """Forward all connections of ``listener`` to the socket ``source``, in one thread, until the parent hangs up.

    A connection for which ``slots``, by default ``MAX_CONNECTIONS``, has no place is closed at once. Closes the
    listener at the end, also by an error.
    """
    forwarding = _Forwarding(source, make_dialog, slots or threading.Semaphore(MAX_CONNECTIONS))
    with contextlib.closing(forwarding), contextlib.closing(listener):  # else connections would wait for nobody
        forwarding.run(listener, parent)
    return 0


@contextlib.contextmanager
def forwarded(
    path: str,
    source: str,
    make_dialog: Callable[[], Dialog] = Stream,
    slots: threading.Semaphore | None = None,
) -> Iterator[None]:
    """A socket at ``path``, removed at the end, that a thread forwards to the socket ``source`` as ``forward`` does.

    Raises:
        OSError: it cannot be created.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX) as listener:
        with reachable(path) as short:
            listener.bind(short)
        try:
            listener.listen()
            words = (listener, source, theirs, make_dialog, slots)
            thread = threading.Thread(target=forward, args=words, name="socket-forward", daemon=True)
            thread.start()
            try:
                yield
            finally:
                ours.shutdown(socket.SHUT_RDWR)
                thread.join()  # it waits for nobody
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

"""Messages over a Unix stream socket: between a process and its child, and between the containers of a Pod.

Sends and receives. Messages keep their order and boundaries; descriptors can be sent along with them (unix(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence

_LENGTH = struct.Struct("!I")
_LONGEST = (1 << 32) - 1
_PIPE_BYTES = 1 << 20  # the capacity of a pipe: one read empties it


def pack(message: bytes) -> bytes:
    """The message as it is sent."""
    return _LENGTH.pack(len(message)) + message


def receive_request(line: socket.socket, longest: int = _LONGEST) -> tuple[bytes, list[int]] | None:
    """The next message of a trusted peer, and the descriptor that came with it.

    None if the peer has hung up before its end, or if it has more than ``longest`` bytes or does not come in the time
    that is set for the socket (SO_RCVTIMEO, socket(7)).
    """
    fds: list[int] = []
    with contextlib.suppress(ConnectionError, BlockingIOError):
        head, fds, _, _ = socket.recv_fds(line, _LENGTH.size, 1, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC)
        if len(head) == _LENGTH.size and (size := _LENGTH.unpack(head)[0]) <= longest:
            message = line.recv(size, socket.MSG_WAITALL) if size else b""
            if len(message) == size:
                return message, fds
    for fd in fds:
        os.close(fd)
    return None


class Connection:
    """One end of the socket. To be used by one thread at a time, except for ``hang_up``."""

    def __init__(self, line: socket.socket, longest: int = _LONGEST) -> None:
        """``longest``: how many bytes a message of the peer may have."""
        self._line = line
        self._longest = longest

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """
        Raises:
            ConnectionError: the peer has exited.
        """
        left = memoryview(pack(message))
        while left:
            writable, ended = self._poll({self._line.fileno(): select.POLLOUT})
            if ended or not writable:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            left = left[socket.send_fds(self._line, [left], list(fds), socket.MSG_DONTWAIT) :]
            fds = ()

    def receive(self, pipe: int = -1, output: Callable[[bytes], None] = lambda _: None) -> bytes | None:
        """The next message; None if there will be none: the peer has exited, has closed its side, or sent nonsense.

        Until then data from ``pipe`` are passed to ``output``, including what is in the pipe when the message arrives.
        Its end is not awaited: other processes may hold it open.
        """
        wanted = {self._line.fileno(): select.POLLIN}
        if pipe >= 0:
            wanted[pipe] = select.POLLIN
        while True:
            ready, ended = self._poll(wanted)
            if pipe in ready:
                if data := os.read(pipe, _PIPE_BYTES):
                    output(data)
                else:
                    del wanted[pipe]
            if ended or self._line.fileno() in ready:
                return self._message()

    def hang_up(self) -> None:
        """End the connection for both sides; a thread that waits for a message gets None."""
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise

    def close(self) -> None:
        """Release the socket."""
        self._line.close()

    def _message(self) -> bytes | None:
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (size,) = _LENGTH.unpack(head)
        return self._exactly(size) if size <= self._longest else None

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            ready, _ = self._poll({self._line.fileno(): select.POLLIN})
            try:
                piece = self._line.recv(count - len(data)) if ready else b""
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            data += piece
        return data

    def _poll(self, wanted: dict[int, int]) -> tuple[set[int], bool]:
        """Wait until a descriptor is ready or the peer has exited; returns the ready ones, and whether it has."""
        poll = select.poll()
        for fd, event in wanted.items():
            poll.register(fd, event)
        return {fd for fd, _ in poll.poll()}, False

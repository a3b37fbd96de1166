"""Forked processes that their parent never waits for in vain, and that never outlive it.

Forks. A child has the descriptors that it was given and no others, so that the end of a pipe or socket is seen by whoever
waits for it: nobody else holds a copy. Whatever is waited for comes from the child, and the child itself is watched
meanwhile (pidfd_open(2)): killed at any instruction, it ends the wait.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn

from imagewright.sandbox.kernel import linux

FAILED: Final = 125  # the exit code of a child that could not do what it was forked for
_LENGTH = struct.Struct("!I")
_MAX_DESCRIPTORS = 1 << 20
_PIPE_BYTES = 1 << 20  # as much as a pipe can hold: one read empties it
_INTERVAL_MS = 200  # how often a child is looked after where the kernel has no pidfd, or a filter refuses it


class Parent:
    """The parent, as the child sees it: messages, which keep their order and boundaries."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        """Readable when a message is there or the parent has gone."""
        return self._line.fileno()

    def bind_lifetime(self) -> None:
        """Be killed when the parent ends; end now where it already has. To be repeated after a change of user ids,
        which unties (prctl(2), PR_SET_PDEATHSIG)."""
        linux.die_with_parent()
        poll = select.poll()
        poll.register(self._line, 0)
        if poll.poll(0):  # it has hung up: it ended before this process was tied to it
            os._exit(FAILED)

    def send(self, message: bytes) -> None:
        """
        Raises:
            OSError: the parent has gone.
        """
        self._line.sendall(_LENGTH.pack(len(message)) + message)

    def report(self, number: int, text: str) -> None:
        """Say as the last message which error (errno(3), 0 for none) keeps this process from what it was forked for."""
        self.send(f"{number} {text}".encode(errors="replace"))

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next message and the descriptors that came with it; None when the parent has gone."""
        try:
            head, fds, _, _ = socket.recv_fds(self._line, _LENGTH.size, 1, socket.MSG_WAITALL)
            if len(head) < _LENGTH.size:
                return None
            (size,) = _LENGTH.unpack(head)
            message = self._line.recv(size, socket.MSG_WAITALL) if size else b""
        except ConnectionError:
            return None
        return (message, fds) if len(message) == size else None


class Child:
    """A child, as its parent sees it. To be used by one thread at a time, but for ``kill``."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line
        self._pidfd = -1
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(pid)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """
        Raises:
            BrokenPipeError: it has gone.
        """
        left = memoryview(_LENGTH.pack(len(message)) + message)
        while left:
            writable, ended = self._poll({self._line.fileno(): select.POLLOUT})
            if ended or not writable:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            left = left[socket.send_fds(self._line, [left], list(fds), socket.MSG_DONTWAIT) :]
            fds = ()

    def receive(self, pipe: int = -1, output: Callable[[bytes], None] = lambda _: None) -> bytes | None:
        """The next message; None when there will be none: the child has ended, or has closed its side.

        Until then whatever can be read from ``pipe`` goes to ``output``, and what is in it when the message comes. Its
        end is not waited for: anybody may hold it open.
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

    def wait(self) -> int:
        """Reap it and give up what belonged to it; its wait status."""
        status = os.waitpid(self.pid, 0)[1]
        self.close()
        return status

    def finish(self, message: bytes | None) -> int:
        """Reap it; its exit code.

        Raises:
            OSError: ``message``, its last, is a report.
        """
        code = exit_code(self.wait())
        if message is not None:
            number, _, text = message.decode(errors="replace").partition(" ")
            raise OSError(int(number), text)
        return code

    def kill(self) -> None:
        """End it. To be followed by ``wait``, before which its number is nobody else's."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Hang up: it sees its parent gone. For one that ends then, and that something else reaps."""
        self._line.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _message(self) -> bytes | None:
        head = self._exactly(_LENGTH.size)
        return None if head is None else self._exactly(_LENGTH.unpack(head)[0])

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
        """Wait until something can be read or written, or the child has ended: what can be, and whether it has."""
        poll = select.poll()
        for fd, event in wanted.items():
            poll.register(fd, event)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(None if self._pidfd >= 0 else _INTERVAL_MS)}
            ended = self._pidfd in ready if self._pidfd >= 0 else _has_ended(self.pid)
            if ended:  # looked at again: the last it did came before its end
                ready = {fd for fd, _ in poll.poll(0)}
            if ready or ended:
                return ready & set(wanted), ended


def spawn(body: Callable[[Parent], int], keep: Iterable[int] = ()) -> Child:
    """Fork a process that calls ``body`` and ends with what it returns. Called by a process with one thread.

    Args:
        keep: descriptors that it needs, beside 0 to 2 and the line to its parent.

    Raises:
        OSError: no process or no descriptor is left.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as failed:
        failed.callback(ours.close)
        pid = os.fork()
        if pid == 0:
            _live(body, Parent(theirs), {0, 1, 2, theirs.fileno(), *keep})
        failed.pop_all()
    return Child(pid, ours)


def exit_code(status: int) -> int:
    """A wait status as shells see it: 128 + n where signal n ended it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _live(body: Callable[[Parent], int], parent: Parent, kept: set[int]) -> NoReturn:
    code = FAILED
    try:
        gc.freeze()  # what was the parent's is not collected here: its numbers are soon those of other files
        _close_all_but(kept)
        parent.bind_lifetime()
        code = body(parent)
    except Exception:  # noqa: BLE001 -- a fault of this program: the parent sees an exit code only
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for fd in [*sorted(kept), _MAX_DESCRIPTORS]:
        if first < fd:  # closerange(0, 0) closes all
            os.closerange(first, fd)
        first = fd + 1


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True

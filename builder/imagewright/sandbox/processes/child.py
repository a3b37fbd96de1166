"""Forked processes that never outlive their parent, and for which it never waits in vain.

Forks. A child has only the descriptors that it was given: nobody else holds a copy of a pipe or socket, so its end is
noticed by whoever waits for it. While the parent waits for a message it also watches the child (pidfd_open(2)): the
wait ends if the child is killed, at any instruction.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn

from imagewright.sandbox.kernel import linux
from imagewright.sandbox.processes.connection import Connection, receive_request

FAILED: Final = 125  # exit code of a child that failed before or instead of its task
_MAX_DESCRIPTORS = 1 << 20
_INTERVAL_MS = 200  # of checks on a child if pidfd is not available
_CONTINUE_MS = 1000  # how long a child that something stopped may stay so


class Parent:
    """The child's connection to its parent: messages, which keep their order and boundaries."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._connection = Connection(line)

    def fileno(self) -> int:
        """Readable when a message has arrived or the parent has exited."""
        return self._line.fileno()

    def bind_lifetime(self) -> None:
        """Have this process killed when the parent exits; exit now if it already has.

        To be repeated after a change of user ids, which resets it (prctl(2), PR_SET_PDEATHSIG).
        """
        linux.die_with_parent()
        poll = select.poll()
        poll.register(self._line, 0)
        if poll.poll(0):  # it has hung up: it exited before the signal was requested
            os._exit(FAILED)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """
        Raises:
            ConnectionError: the parent has exited.
        """
        self._connection.send(message, fds)

    def report(self, number: int, text: str) -> None:
        """Report, as the last message, an error (errno(3), 0 for none) that prevents the task of this process."""
        self.send(f"{number} {text}".encode(errors="replace"))

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next message and the descriptors that came with it; None if the parent has exited."""
        return receive_request(self._line)


class Child(Connection):
    """The parent's connection to a child. To be used by one thread at a time, except for ``kill``."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        super().__init__(line)
        self.pid = pid
        self._ending = -1
        self._pidfd = -1
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(pid)

    def end_with(self, line: int) -> None:
        """End the wait for messages when the peer of this socket hangs up, too."""
        self._ending = line

    def wait(self) -> int:
        """Reap the child and release its resources; returns its wait status."""
        status = os.waitpid(self.pid, 0)[1]
        self.close()
        return status

    def finish(self, message: bytes | None) -> int:
        """Reap the child; returns its exit code.

        Raises:
            OSError: ``message``, its last one, is a report of an error.
        """
        code = exit_code(self.wait())
        if message is not None:
            number, _, text = message.decode(errors="replace").partition(" ")
            raise OSError(int(number), text)
        return code

    def kill(self) -> None:
        """Kill the child. To be followed by ``wait``: until then its pid is not reused."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Hang up, for a child that exits then and is reaped by others."""
        super().close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _poll(self, wanted: dict[int, int]) -> tuple[set[int], bool]:
        poll = select.poll()
        for fd, event in wanted.items():
            poll.register(fd, event)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        if self._ending >= 0:
            poll.register(self._ending, select.POLLRDHUP)
        while True:
            ready = {fd for fd, _ in poll.poll(_CONTINUE_MS if self._pidfd >= 0 else _INTERVAL_MS)}
            if not ready:  # a command that sees the child may have sent it SIGSTOP
                with contextlib.suppress(OSError):
                    os.kill(self.pid, signal.SIGCONT)
            if self._ending in ready:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            ended = self._pidfd in ready if self._pidfd >= 0 else _has_ended(self.pid)
            if ended:  # again: it may have written before it exited
                ready = {fd for fd, _ in poll.poll(0)}
            if ready or ended:
                return ready & set(wanted), ended


def spawn(body: Callable[[Parent], int], keep: Iterable[int] = ()) -> Child:
    """Fork a process that calls ``body`` and exits with its result. The caller must have a single thread.

    Args:
        keep: descriptors that it needs, in addition to 0 to 2 and the connection to its parent.

    Raises:
        OSError: the limit of processes or descriptors is reached.
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
    """The exit code for a wait status, as in shells: 128 + n if killed by signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _live(body: Callable[[Parent], int], parent: Parent, kept: set[int]) -> NoReturn:
    code = FAILED
    try:
        gc.freeze()  # the parent's objects must not be collected here: their descriptors will be reused
        _close_all_but(kept)
        parent.bind_lifetime()
        code = body(parent)
    except Exception:  # noqa: BLE001 -- a bug in this program: the parent only gets an exit code
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

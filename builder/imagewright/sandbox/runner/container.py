"""The engine's side of a runner that is another container of the Pod, whose ``/`` is the build's root.

Listens on a Unix socket in a directory that both containers mount, and accepts one connection, before any command runs.
From then on the runner is not trusted: a command may have taken its place. It is given what its command needs, and its
answers are checked. The containers share no processes, so commands see nothing of the engine's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.model import Counts, RunCommand, RunnerLost
from imagewright.sandbox.mounts.sockets import reachable
from imagewright.sandbox.processes.connection import Connection, receive_request
from imagewright.sandbox.runner import answers, server
from imagewright.sandbox.runner.client import ask

_MAX_ANSWER_BYTES = 1 << 16
_MAX_TABLE_BYTES = 1 << 24  # of a mount table: Linux has at most 100,000 mounts in a namespace
_PATIENCE_S = 60.0  # the kubelet starts the runner first
_NOT_THERE = 'See what the container "runner" says (kubectl logs POD -c runner), and why it did not start (kubectl describe pod POD).'
_SOCKET_HINT = (
    'Check what webhooks change in the volumes of the container "executor", which must be able to write there.'
)
_UNKNOWN = Counts(None, None)


def dismiss(path: str) -> None:
    """Have the runner exit that waits for a socket at ``path``, if no engine has listened there, nor will.

    It finds a socket that refuses connections.
    """
    with contextlib.suppress(OSError):  # there is one already, or no runner
        os.mknod(path, stat.S_IFSOCK | 0o600)


class RunnerListener:
    """The socket at ``path``. A runner may connect as soon as this exists, and is served when it is needed.

    One that is not needed sleeps until this is closed, or the engine exits: a Pod of which a container has ended is
    shown as not ready. The file remains when nobody listens any more: a runner that finds none would wait.
    """

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            _remove_socket(f"{path}.new")
            with reachable(f"{path}.new") as short:
                self._listener.bind(short)
            self._listener.listen(1)
            os.rename(f"{path}.new", path)  # a runner that is refused takes it that the engine has exited
        except OSError as error:
            self._listener.close()
            raise SandboxError(
                f'cannot listen on "{path}" for the runner: {error.strerror}', hint=_SOCKET_HINT
            ) from error

    def accept(self) -> ContainerRunner:
        """Accept the runner, and nobody after it.

        Raises:
            SandboxError: it does not connect, or does not say what it must.
        """
        self._listener.settimeout(_PATIENCE_S)
        try:
            line, _ = self._listener.accept()
        except TimeoutError:
            raise SandboxError(
                f'the container "runner", which runs commands, did not connect within {_PATIENCE_S:g} s',
                hint=_NOT_THERE,
            ) from None
        finally:
            self.close()
        _limit_wait(line, _PATIENCE_S)  # what comes later is awaited by poll(2)
        hello = receive_request(line, _MAX_TABLE_BYTES)
        if hello is None or len(hello[1]) != 1:
            line.close()
            why = "ended at once" if hello is None else "does not run as root"
            raise SandboxError(f'the container "runner", which runs commands, {why}', hint=_NOT_THERE)
        return ContainerRunner(line, hello[1][0], hello[0])

    def close(self) -> None:
        """Stop listening: a runner that has connected without being accepted, or tries to connect, exits."""
        self._listener.close()


class ContainerRunner:
    """The runner, which runs one command at a time.

    ``root`` is a descriptor of its ``/``, ``mounts`` its mount table.
    """

    def __init__(self, line: socket.socket, root: int, mounts: bytes) -> None:
        self.root = root
        self.mounts = mounts
        self._connection = Connection(line, _MAX_ANSWER_BYTES)
        self._turn = threading.Lock()
        self._closed = threading.Event()

    def run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """As ``Runner.run``; an exception of ``output`` ends the connection, and with it the command."""
        with self._turn:
            self._refuse_if_closed()
            try:
                answer = ask(self._connection, server.request(kind, command), output)
            except BaseException:
                self.close()
                raise
        self._refuse_if_closed()
        if answer is None:
            raise RunnerLost('the container "runner", which runs commands, exited unexpectedly')
        try:
            return answers.exit_code(answer)
        except RunnerLost:
            self.close()
            raise RunnerLost('the container "runner", which runs commands, sent an invalid answer') from None

    def memory(self) -> Counts:
        """The counters of the runner's container; unknown if it has exited."""
        with self._turn:
            try:
                self._connection.send(server.MEMORY)
                answer = self._connection.receive()
            except ConnectionError:
                return _UNKNOWN
        try:
            return _UNKNOWN if answer is None else answers.counts(answer)
        except RunnerLost:
            return _UNKNOWN

    def close(self) -> None:
        """End the connection: the runner's container exits. A thread that waits for a command gets a SandboxError."""
        if not self._closed.is_set():
            self._closed.set()
            self._connection.hang_up()

    def __del__(self) -> None:
        self._connection.close()  # not earlier: another thread may wait for a message
        with contextlib.suppress(OSError):
            os.close(self.root)

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise SandboxError("the container that runs commands was stopped")


def _remove_socket(path: str) -> None:
    """Remove what an engine that was killed has left."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _limit_wait(line: socket.socket, seconds: float) -> None:
    """How long a blocking call may wait for data. Python's own timeouts would make the socket non-blocking."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", whole, rest))

"""RUN --mount=type=ssh: an agent that lets a command list keys and sign, and nothing else.

Runs OpenSSH's ssh-agent for keys that are files, listens on sockets below the work folder and forwards requests. A RUN
can never read the key itself. Requests that would change the user's own agent (add, remove, lock) are answered with a
failure, as in BuildKit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from imagewright.contract.request import SshSource
from imagewright.errors import Reason, SandboxError, UsageError
from imagewright.plan.steps import SshMount
from imagewright.sandbox.mounts.sockets import reachable

# draft-ietf-sshm-ssh-agent, "Message numbers".
_FAILURE = b"\0\0\0\1\5"
_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_ALLOWED = frozenset({_REQUEST_IDENTITIES, _SIGN_REQUEST})
_MAX_MESSAGE_BYTES = 256 * 1024  # OpenSSH's own limit
_MAX_KEY_BYTES = 1 << 20
_MAX_CONNECTIONS = 64  # at once of one RUN; each takes a thread of the engine
_AGENT = 'echo "$SSH_AGENT_PID"; read -r line'  # runs until its standard input is closed


class SshAgents:
    """The agents of a build, each started when a RUN first needs it; ``close`` ends all."""

    def __init__(self, folder: str, sources: Sequence[SshSource]) -> None:
        """``folder`` need not exist. Programs are looked up now: later an image's may have replaced them."""
        self._folder = folder
        self._sources = {source.id: source for source in sources}
        programs = f"{os.path.dirname(os.path.realpath(sys.executable))}:{os.environ.get('PATH', '')}"
        self._programs = {name: shutil.which(name, path=programs) for name in ("ssh-agent", "ssh-add", "sh")}
        self._lock = threading.Lock()
        self._upstream: dict[str, str] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._sockets = 0

    @contextlib.contextmanager
    def socket(self, mount: SshMount) -> Iterator[str | None]:
        """Path of a socket with the mount's mode and owner, None if the build was given no such agent.

        Raises:
            UsageError: an unusable key.
            SandboxError: an agent cannot be started, or the user's own has ended.
        """
        source = self._sources.get(mount.id)
        if source is None:
            yield None
            return
        with self._lock:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            if mount.id not in self._upstream:
                self._upstream[mount.id] = self._agent_of(source)
            path = os.path.join(self._folder, f"socket-{self._sockets}")
            self._sockets += 1
        with contextlib.closing(_ForwardingSocket(path, self._upstream[mount.id])):
            os.chown(path, mount.uid, mount.gid)
            os.chmod(path, mount.mode)
            yield path

    def close(self) -> None:
        """End all agents. May be called again."""
        with self._lock:
            for process in self._started:
                process.communicate()  # closes its standard input, which ends it
            self._started = []

    def _agent_of(self, source: SshSource) -> str:
        path = source.paths[0]
        if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
            return self._serve(source)
        try:
            with _connected(path):
                return path
        except OSError as error:
            raise SandboxError(
                f'cannot connect to the agent "{path}" of --ssh {source.id}: {error.strerror}',
                reason=Reason.USAGE_INVALID,
                hint="Use an agent of your own user."
                if isinstance(error, PermissionError)
                else "Start an agent: eval $(ssh-agent); ssh-add.",
            ) from None

    def _serve(self, source: SshSource) -> str:
        folder = os.path.join(self._folder, f"agent-{len(self._started)}")
        os.mkdir(folder, 0o700)
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        try:
            process = subprocess.Popen(
                [self._program("ssh-agent"), "-a", "socket", self._program("sh"), "-c", _AGENT],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise SandboxError(f"cannot start ssh-agent: {error.strerror}") from error
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SandboxError(f"cannot start ssh-agent: {_last_line(process.communicate()[1])}")
        self._started.append(process)
        for path in source.paths:
            self._add(source.id, path, folder, environment)
        return os.path.join(folder, "socket")

    def _add(self, name: str, path: str, folder: str, environment: dict[str, str]) -> None:
        """Through standard input: ssh-add refuses files that a group can read, as mounted Secrets may be."""
        try:
            with open(path, "rb") as file:
                key = file.read(_MAX_KEY_BYTES)
        except OSError as error:
            raise UsageError(f'cannot read key "{path}" of --ssh {name}: {error.strerror}') from None
        key = key.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
        done = subprocess.run(
            [self._program("ssh-add"), "-q", "-"],
            cwd=folder,
            env={**environment, "SSH_AUTH_SOCK": "socket", "SSH_ASKPASS_REQUIRE": "never"},
            input=key,
            capture_output=True,
            start_new_session=True,  # without a terminal, or it would ask there for a passphrase
            check=False,
        )
        if done.returncode:
            raise UsageError(
                f'cannot use key "{path}" of --ssh {name}: {_last_line(done.stderr)}',
                hint="Use a private key without a passphrase (ssh-keygen -N ''), or name an agent's socket.",
            )

    def _program(self, name: str) -> str:
        found = self._programs[name]
        if found is None:
            raise SandboxError(
                f"cannot serve the keys of --ssh: {name} is not installed",
                hint="Install the OpenSSH client, or name an agent's socket.",
            )
        return found


class _ForwardingSocket:
    """A listening socket that forwards allowed requests to an agent."""

    def __init__(self, path: str, agent: str) -> None:
        self._path, self._agent = path, agent
        self._free = threading.Semaphore(_MAX_CONNECTIONS)
        self._listener = socket.socket(socket.AF_UNIX)
        with reachable(path) as short:
            self._listener.bind(short)
        self._listener.listen()
        threading.Thread(target=self._accept, name="ssh-forward", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()
        os.unlink(self._path)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._free.acquire(blocking=False):
                threading.Thread(target=self._forward, args=(connection,), name="ssh-forward", daemon=True).start()
            else:
                connection.close()

    def _forward(self, connection: socket.socket) -> None:
        """Forward requests and answers in turn until either side closes."""
        try:
            with contextlib.suppress(OSError, EOFError), connection, _connected(self._agent) as agent:
                while True:
                    message = _message(connection)
                    if message[4] not in _ALLOWED:
                        connection.sendall(_FAILURE)
                        continue
                    agent.sendall(message)
                    connection.sendall(_message(agent))
        finally:
            self._free.release()


def _message(stream: socket.socket) -> bytes:
    """One message, including its length prefix.

    Raises:
        EOFError: the stream has ended, or the length is invalid.
    """
    head = _read_exactly(stream, 4)
    (size,) = struct.unpack(">I", head)
    if not 0 < size <= _MAX_MESSAGE_BYTES:
        raise EOFError
    return head + _read_exactly(stream, size)


def _read_exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


@contextlib.contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        with reachable(path) as short:
            connection.connect(short)
        yield connection


def _last_line(stderr: bytes) -> str:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"

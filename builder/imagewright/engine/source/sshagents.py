"""RUN --mount=type=ssh: an agent that lets a command list keys and sign, and nothing else.

Runs OpenSSH's ssh-agent for keys that are files, listens on sockets below the work folder and forwards requests. A RUN
can never read the key itself. Requests that would change the user's own agent (add, remove, lock) are answered with a
failure, as in BuildKit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Sequence

from imagewright.contract.request import SshSource
from imagewright.errors import Reason, SandboxError, UsageError
from imagewright.plan.steps import SshMount
from imagewright.programs import find_program
from imagewright.records import dataclass
from imagewright.sandbox.mounts.sockets import MAX_CONNECTIONS, forwarded, reachable

# draft-ietf-sshm-ssh-agent, "Message numbers".
_FAILURE = b"\0\0\0\1\5"
_REQUEST_IDENTITIES, _SIGN_REQUEST = 11, 13
_ALLOWED = frozenset({_REQUEST_IDENTITIES, _SIGN_REQUEST})
_MAX_MESSAGE_BYTES = 256 * 1024  # OpenSSH's own limit
_MAX_KEY_BYTES = 1 << 20
_END_S = 5.0
_AGENT = 'echo "$SSH_AGENT_PID"; read -r line'  # runs until its standard input is closed


@dataclass(frozen=True, slots=True)
class _Agent:
    """A program that runs until its standard input is closed, and the agent of process ``pid``, which ends with it."""

    process: subprocess.Popen[bytes]
    pid: int

    def end(self) -> None:
        """End both, also if a RUN that sees them has stopped them."""
        try:
            self.process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()


class SshAgents:
    """The agents of a build, each started when a RUN first needs it; ``close`` ends all."""

    def __init__(self, folder: str, sources: Sequence[SshSource]) -> None:
        """``folder`` need not exist. Programs are looked up now: later an image's may have replaced them."""
        self._folder = folder
        self._sources = {source.id: source for source in sources}
        programs = f"{os.path.dirname(os.path.realpath(sys.executable))}:{os.environ.get('PATH', '')}"
        self._programs = {name: find_program(name, programs) for name in ("ssh-agent", "ssh-add", "sh")}
        self._slots = threading.Semaphore(MAX_CONNECTIONS)  # of all commands together
        self._lock = threading.Lock()
        self._upstream: dict[str, str] = {}
        self._started: list[_Agent] = []
        self._sockets = 0

    @property
    def ids(self) -> Collection[str]:
        """Of those that were given."""
        return self._sources.keys()

    def start(self) -> None:
        """Start all agents now, since their programs will be gone later.

        Raises:
            UsageError, SandboxError: as ``socket``.
        """
        with self._lock:
            for name in self._sources:
                self._start(name)

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
            self._start(mount.id)
            self._check(mount.id)
            path = os.path.join(self._folder, f"socket-{self._sockets}")
            self._sockets += 1
        with forwarded(path, self._upstream[mount.id], _Requests, self._slots):
            os.chown(path, mount.uid, mount.gid)
            os.chmod(path, mount.mode)
            yield path

    def close(self) -> None:
        """End all agents. May be called again."""
        with self._lock:
            for agent in self._started:
                agent.end()
            self._started = []

    def _start(self, name: str) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        if name not in self._upstream:
            self._upstream[name] = self._agent_of(self._sources[name])

    def _check(self, name: str) -> None:
        """Refuse to forward to an agent that has ended: a RUN would only be told that the connection was closed."""
        try:
            with _connected(self._upstream[name]):
                pass
        except OSError as error:
            raise SandboxError(
                f"cannot connect to the agent of --ssh {name}: it has ended ({error.strerror})",
                hint="Let no RUN before end all processes (kill -1): in the root and chroot sandboxes it sees the agent's.",
            ) from None

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
        pid = process.stdout.readline()
        if not pid:
            raise SandboxError(f"cannot start ssh-agent: {_last_line(process.communicate()[1])}")
        self._started.append(_Agent(process, int(pid)))
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


class _Requests:
    """Requests and answers in turn. A request that is not allowed is answered here."""

    in_turns = True

    def __init__(self) -> None:
        self._message = bytearray()  # what has arrived of the next one, including its length prefix
        self._asked = False  # the agent's answer is the next one

    def expected(self, *, server: bool) -> int:
        return self._missing() if server is self._asked else 0

    def from_client(self, data: bytes) -> tuple[bytes, bytes]:
        message = self._completed(data)
        if message and message[4] not in _ALLOWED:
            return b"", _FAILURE
        self._asked = bool(message)
        return message, b""

    def from_server(self, data: bytes) -> bytes:
        message = self._completed(data)
        self._asked = not message
        return message

    def _completed(self, data: bytes) -> bytes:
        """The message that these data complete, or nothing.

        Raises:
            ValueError: its length is invalid.
        """
        self._message += data
        if self._missing():
            return b""
        message = bytes(self._message)
        self._message.clear()
        return message

    def _missing(self) -> int:
        if len(self._message) < 4:
            return 4 - len(self._message)
        (size,) = struct.unpack_from(">I", self._message)
        if not 0 < size <= _MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {size} bytes")
        return int(4 + size - len(self._message))


@contextlib.contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        with reachable(path) as short:
            connection.connect(short)
        yield connection


def _last_line(stderr: bytes) -> str:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"

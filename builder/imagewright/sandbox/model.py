"""Commands, their mounts, and the interface of sandboxes.

No I/O.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Protocol, Self

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.records import dataclass

TMPFS_MODE = 0o1777
PROCESSES_HINT = (
    "Run fewer processes and threads at once, for example with fewer parallel jobs. Or raise what limits them: podPidsLimit "
    "of the kubelet for a Pod, `ulimit -u` for a user, or what the machine has."
)


class RunnerLost(SandboxError):
    """The process that runs commands exited, and with it the command."""


@dataclass(frozen=True, slots=True)
class DirectoryMount:
    """A directory or file of this machine, mounted at ``target``, an absolute path in the rootfs.

    With ``discard`` the command may write to it, and its changes are discarded; with ``writable`` alone they are kept.
    """

    target: str
    source: str
    writable: bool = False
    discard: bool = False


@dataclass(frozen=True, slots=True)
class DisposableMount(DirectoryMount):
    """One whose source was made for this command alone: it may be moved to the target, and is gone afterwards."""


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty directory in memory, owned by root. ``size_bytes`` 0: the kernel's default.

    Its mode is that of the directory it covers, else ``TMPFS_MODE``.
    """

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file that is not on disk: a secret, a script."""

    target: str
    content: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class NetworkFile(FileMount):
    """A file of name resolution. It is left out where the image has something that cannot be covered."""


@dataclass(frozen=True, slots=True)
class SocketMount:
    """A socket at ``target`` whose connections are forwarded to the socket ``source`` of this machine."""

    target: str
    source: str
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


SandboxMount = DirectoryMount | TmpfsMount | FileMount | SocketMount


@dataclass(frozen=True, slots=True)
class RunCommand:
    """One command. ``env`` is its whole environment; ``workdir`` exists in ``rootfs``; ids are the image's.

    ``mounts`` are mounted in this order and unmounted afterwards. ``network`` False: only loopback; ``listens`` False:
    it may not read packets of others on the network that it shares with the engine (NET_RAW). ``excluded`` are
    root-relative paths that do not belong to the image; nothing can be mounted there.
    """

    rootfs: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    mounts: tuple[SandboxMount, ...] = ()
    network: bool = True
    listens: bool = True
    excluded: frozenset[str] = frozenset()

    def encode(self) -> bytes:
        """Serialize for the process that runs it: both ends are this program, and only the engine can write."""
        return pickle.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The reverse of ``encode``."""
        value = pickle.loads(data)  # noqa: S301 -- from the socket pair of the process that forked this one
        assert isinstance(value, cls)
        return value


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """``kills``: processes of the group that the kernel killed because of the group's own limit or one above it.

    Sizes are bytes; ``limit`` is None if the group has none, ``peak`` if the kernel is too old to record it.
    """

    kills: int
    peak: int | None
    limit: int | None

    @property
    def reached_limit(self) -> bool:
        """Whether a process may have been killed because of the limit.

        In that case the peak is below the limit by at most the size of one request, and by what other containers of the
        Pod use. The reverse does not hold: the page cache fills memory up to the limit, too.
        """
        if self.limit is None or self.peak is None:
            return self.limit is not None
        return self.peak >= self.limit - max(self.limit // 20, 8 << 20)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters of a control group, and of processes killed on the whole machine; None if not visible."""

    group: MemoryUse | None
    machine_kills: int | None


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """``work_dir``: a directory of the engine. ``kept``: further paths that a build in place of ``/`` must not touch.

    ``parallel``: how many commands may be run at the same time. ``runner_socket``: where another container's runner
    connects, "" if there is none. ``isolated``: refuse modes in which commands could read the engine's files.
    ``refusal``: why no command can be run, None if they can.
    """

    work_dir: str
    kept: tuple[str, ...] = ()
    parallel: int = 1
    runner_socket: str = ""
    isolated: bool = False
    refusal: SandboxError | None = None


@dataclass(frozen=True, slots=True)
class RunnerContainer:
    """The container that runs commands, if that is not the engine's own.

    ``root`` is the engine's path of its ``/``, ``mounts`` its mount table (proc_pid_mountinfo(5)). In it, ``own`` is a
    root-relative directory of the runner's own, and ``sources`` a directory for what commands mount.
    """

    root: str
    mounts: bytes
    own: str
    sources: str


@dataclass(frozen=True, slots=True)
class BuildDirectory:
    """The directory in which every stage with a RUN must be built.

    ``path`` is the engine's path of it, ``inside`` the one that commands are given. ``excluded`` are root-relative
    paths that never belong to an image, but to the engine and the kernel; ``kept`` those that, like mounts, stay as
    they are, whatever the image has there.
    """

    path: str
    inside: str
    excluded: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    container: RunnerContainer | None = None


class Sandbox(Protocol):
    """Runs commands, each isolated from the engine as well as the mode allows."""

    @property
    def kind(self) -> SandboxKind | None:
        """The mode; None if no command can be run."""

    @property
    def reason(self) -> str:
        """Why this mode was chosen, as a sentence."""

    @property
    def parallel(self) -> int:
        """How many commands may run at the same time."""

    @property
    def mounts(self) -> bool:
        """Whether mounts are real. If they are emulated, a directory can be at one target at a time only."""

    @property
    def build_directory(self) -> BuildDirectory | None:
        """Where every stage with a RUN must be built; None if any directory will do."""

    def memory(self) -> Counts:
        """The present counters of the memory that commands use."""

    def check_available(self) -> None:
        """Find out early that no command can be run.

        Raises:
            SandboxError: naming what is missing.
        """

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Run a command to its end; returns its exit code, 128 + n if it was killed by signal n.

        ``output`` receives stdout and stderr as they arrive. No process that the command started is alive afterwards.

        Raises:
            SandboxError: it could not be started.
        """

    def close(self) -> None:
        """Stop everything that the sandbox started. May be called again."""

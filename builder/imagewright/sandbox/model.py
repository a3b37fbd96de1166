"""What a sandbox is asked and what it is.

No I/O. Shared by the modes, the process that runs them, and the engine.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError

TMPFS_MODE = 0o1777


class RunnerLost(SandboxError):
    """The process that starts commands is gone, and with it the command."""


@dataclass(frozen=True, slots=True)
class DirectoryMount:
    """A directory or file of this machine at ``target``, which is absolute and in the rootfs.

    With ``discard`` the command may write, and nothing of it is kept; ``writable`` alone keeps what it writes.
    """

    target: str
    source: str
    writable: bool = False
    discard: bool = False


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty directory in memory. ``size_bytes`` is 0 for the kernel's default.

    Its mode is that of the directory that it covers, else ``TMPFS_MODE``; it belongs to root.
    """

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file that is nowhere on disk: a secret, a script."""

    target: str
    content: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SocketMount:
    """A socket at ``target`` whose connections are carried to the socket ``source`` of this machine."""

    target: str
    source: str
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


SandboxMount = DirectoryMount | TmpfsMount | FileMount | SocketMount


@dataclass(frozen=True, slots=True)
class RunCommand:
    """One command. ``env`` is all that it sees; ``workdir`` exists in ``rootfs``; ids are numbers of the image's.

    ``mounts`` are made in their order and gone afterwards. ``network`` False: nothing but loopback. ``excluded`` are
    root-relative paths that aren't the image's: nothing of ``mounts`` can be there.
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
    excluded: frozenset[str] = frozenset()

    def encode(self) -> bytes:
        """For the way to the process that runs it: both ends are this program, and only the engine can write."""
        return pickle.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The reverse of ``encode``."""
        value = pickle.loads(data)  # noqa: S301 -- from the socket pair of the process that forked this one
        assert isinstance(value, cls)
        return value


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """``work_dir`` is a directory of the engine's own. ``kept``: what else a build in place of ``/`` must leave alone.

    ``parallel``: how many commands may be asked for at the same time.
    """

    work_dir: str
    kept: tuple[str, ...] = ()
    parallel: int = 1


class Sandbox(Protocol):
    """Something that runs commands, one at a time."""

    @property
    def kind(self) -> SandboxKind: ...

    @property
    def reason(self) -> str:
        """Why this mode and no other, as a sentence."""

    @property
    def parallel(self) -> int:
        """How many commands may run at the same time."""

    @property
    def mounts(self) -> bool:
        """Whether mounts are the kernel's. Where not, a directory can be in one place at a time only."""

    @property
    def build_root(self) -> str | None:
        """The directory in which every stage that has a RUN must be built; None where any directory will do."""

    @property
    def excluded(self) -> frozenset[str]:
        """Root-relative paths in ``build_root`` that are never an image's: the engine's own and the kernel's."""

    @property
    def kept(self) -> frozenset[str]:
        """Root-relative paths in ``build_root`` that stay as they are, whatever the image has there. So do mounts."""

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Run a command to its end; its exit code, 128 + n where signal n ended it.

        ``output`` gets stdout and stderr as they come. Nothing that the command started is alive afterwards.

        Raises:
            SandboxError: when it could not even be started.
        """

    def close(self) -> None:
        """End what the sandbox started. Harmless when called again."""

"""Commands, their mounts, and the interface of sandboxes.

No I/O.
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

    ``mounts`` are mounted in this order and unmounted afterwards. ``network`` False: only loopback. ``excluded`` are
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
class SandboxOptions:
    """``work_dir``: a directory of the engine. ``kept``: further paths that a build in place of ``/`` must not touch.

    ``parallel``: how many commands may be run at the same time.
    """

    work_dir: str
    kept: tuple[str, ...] = ()
    parallel: int = 1


class Sandbox(Protocol):
    """Runs commands, each isolated from the engine as well as the mode allows."""

    @property
    def kind(self) -> SandboxKind: ...

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
    def build_root(self) -> str | None:
        """The directory in which every stage with a RUN must be built; None if any directory will do."""

    @property
    def excluded(self) -> frozenset[str]:
        """Root-relative paths in ``build_root`` that never belong to an image, but to the engine and the kernel."""

    @property
    def kept(self) -> frozenset[str]:
        """Root-relative paths in ``build_root`` that, like mounts, stay as they are, whatever the image has there."""

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Run a command to its end; returns its exit code, 128 + n if it was killed by signal n.

        ``output`` receives stdout and stderr as they arrive. No process that the command started is alive afterwards.

        Raises:
            SandboxError: it could not be started.
        """

    def close(self) -> None:
        """Stop everything that the sandbox started. May be called again."""

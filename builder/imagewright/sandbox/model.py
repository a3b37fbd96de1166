"""What a sandbox is asked and what it is.

No I/O. Shared by the rungs, the process that runs them, and the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from imagewright.contract import SandboxKind


@dataclass(frozen=True, slots=True)
class RunCommand:
    """One command. ``env`` is all that it sees; ``workdir`` exists in ``rootfs``; ids are numbers of the image's."""

    rootfs: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """For the way to the process that runs it. Names that are not UTF-8 survive (surrogateescape)."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        value = json.loads(data)
        return cls(
            value["rootfs"],
            tuple(value["argv"]),
            tuple((k, v) for k, v in value["env"]),
            value["workdir"],
            value["uid"],
            value["gid"],
            tuple(value["groups"]),
        )


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """``work_dir`` is a folder of the engine's own. ``kept``: what else a build in place of ``/`` must leave alone."""

    work_dir: str
    kept: tuple[str, ...] = ()


class Sandbox(Protocol):
    """Something that runs commands, one at a time."""

    @property
    def kind(self) -> SandboxKind: ...

    @property
    def reason(self) -> str:
        """Why this rung and no other, as a sentence."""

    @property
    def build_root(self) -> str | None:
        """The folder in which every stage that has a RUN must be built; None where any folder will do."""

    @property
    def excluded(self) -> frozenset[str]:
        """Root-relative paths in ``build_root`` that are not the image's."""

    def run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Run a command to its end; its exit code, 128 + n where signal n ended it.

        ``output`` gets stdout and stderr as they come. Nothing that the command started is alive afterwards.

        Raises:
            SandboxError: when it could not even be started.
        """

    def close(self) -> None:
        """End what the sandbox started. Harmless when called again."""

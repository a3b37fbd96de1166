"""Runs one command in a root file system, isolated as well as the place allows: the rungs namespace, root and chroot.

The engine sees ``start`` and the ``Sandbox`` it gives; which rung is in use only shows in its ``kind`` and ``reason``.
"""

from imagewright.sandbox.choose import start
from imagewright.sandbox.model import (
    FileMount,
    FolderMount,
    RunCommand,
    RunnerLost,
    Sandbox,
    SandboxMount,
    SandboxOptions,
    SocketMount,
    TmpfsMount,
)

__all__ = [
    "FileMount",
    "FolderMount",
    "RunCommand",
    "RunnerLost",
    "Sandbox",
    "SandboxMount",
    "SandboxOptions",
    "SocketMount",
    "TmpfsMount",
    "start",
]

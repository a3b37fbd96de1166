"""The rungs without namespaces: ``root``, where the build's root is this container's own ``/``, and ``chroot``.

Runs in a forked child of the helper that has one thread and reaps orphans. Called by ``sandbox.helper``. Neither is a
security boundary: a command may read whatever files the container's root may. What can be taken away is taken away:
capabilities, environment, and the engine's memory, which isn't dumpable.
"""

from __future__ import annotations

import contextlib
import os

from imagewright.sandbox import linux
from imagewright.sandbox.descendants import end_all
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.process import become, exit_code
from imagewright.sandbox.stubs import Stubs, resolve

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")


def run_in_root(command: RunCommand) -> int:
    """Run a command in this container as it is."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    return _run(command, proc, linux.DEFAULT_CAPABILITIES)


def run_in_chroot(command: RunCommand) -> int:
    """Run a command after chroot(2) into its rootfs; without ``argv`` only try it.

    Raises:
        OSError: naming the system call that isn't allowed.
    """
    # Without /proc inside, this descriptor is how leftovers are found; the command never has it.
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    files = {path: data for path in _NETWORK_FILES if (data := _read(path))}
    try:
        os.chroot(command.rootfs)
    except PermissionError as error:
        raise OSError(error.errno, f"chroot: {error.strerror}") from error
    os.chdir("/")
    stubs = Stubs()
    try:
        _furnish(stubs, files)
        return _run(command, proc, linux.DEFAULT_CAPABILITIES - {linux.SYS_CHROOT, linux.MKNOD})
    finally:
        stubs.remove()


def _run(command: RunCommand, proc: int, kept: frozenset[int]) -> int:
    if not command.argv:
        return 0
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent()
            become(command, kept)
        finally:
            os._exit(125)
    status = os.waitpid(child, 0)[1]
    end_all(proc)
    return exit_code(status)


def _furnish(stubs: Stubs, files: dict[str, bytes]) -> None:
    """What programs can't do without, where the image has none: devices, the files of name resolution."""
    with contextlib.suppress(OSError):  # a /dev that is a link or a file: the image's own affair
        folder = resolve("/dev")
        stubs.directory(folder)
        for name, number in _DEVICES.items():
            stubs.device(f"{folder}/{name}", number)
    for path, data in files.items():
        with contextlib.suppress(OSError):
            stubs.file(resolve(path), data)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

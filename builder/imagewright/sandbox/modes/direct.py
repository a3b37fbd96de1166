"""The modes without namespaces: ``root``, where the build's root is this container's own ``/``, and ``chroot``.

Runs in a forked child of the runner with a single thread, which reaps orphans. Neither mode is a security boundary: a
command may read any file that the container's root may. What can be withheld is withheld: capabilities, the
environment, and the engine's memory, which is not dumpable.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import NetworkFile, RunCommand, SandboxMount
from imagewright.sandbox.mounts.emulated import EmulatedMounts, Root
from imagewright.sandbox.mounts.mountpoints import (
    MountPoints,
    network_file_target,
    read_network_file,
    resolve,
    resolve_target,
)
from imagewright.sandbox.processes.child import spawn
from imagewright.sandbox.processes.command import describe, exec_command
from imagewright.sandbox.processes.descendants import end_all

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")
_ENGINE = "/imagewright"  # the executor image's own directory, never replaced by a build, on the file system of /


def run_in_root(command: RunCommand, scratch: str) -> int:
    """Run a command directly in this container. ``scratch`` is an empty directory for this command.

    Raises:
        OSError: a mount, or isolation of the network, is not possible here.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    _isolate_network(command)
    root = Root("", _resolve_here, command.excluded)
    with EmulatedMounts(root, (scratch, _ENGINE)).in_place(command.mounts):
        return _run(command, proc, linux.DEFAULT_CAPABILITIES)


def run_in_chroot(command: RunCommand, scratch: str) -> int:
    """Run a command after chroot(2) into its rootfs; without ``argv`` only check that this works.

    Raises:
        OSError: naming the system call that is not permitted; a mount, or isolation of the network, is not possible
        here.
    """
    # There is no /proc inside: leftover processes are found through this descriptor, which the command never gets.
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    files = {path: data for path in _NETWORK_FILES if (data := read_network_file(path))}
    _isolate_network(command)

    def resolve_inside(mount: SandboxMount, made: MountPoints) -> str | None:
        with _changed_root(command.rootfs):
            return _resolve_here(mount, made)

    mount_points = MountPoints()
    try:
        with _changed_root(command.rootfs):
            _add_essentials(mount_points, files)
        emulated = EmulatedMounts(Root(command.rootfs, resolve_inside), (scratch,))
        with emulated.in_place(command.mounts), _changed_root(command.rootfs):
            return _run(command, proc, linux.DEFAULT_CAPABILITIES - {linux.SYS_CHROOT, linux.MKNOD})
    finally:
        mount_points.remove()


@contextlib.contextmanager
def _changed_root(rootfs: str) -> Iterator[None]:
    """Change this process's root to ``rootfs``, and back, which is possible for a process that may chroot again."""
    outside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chroot(rootfs)
    except PermissionError as error:
        os.close(outside)
        raise OSError(error.errno, f"chroot: {error.strerror}") from error
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(outside)
        os.chroot(".")
        os.close(outside)


def _resolve_here(mount: SandboxMount, made: MountPoints) -> str | None:
    target = network_file_target(mount.target) if isinstance(mount, NetworkFile) else resolve_target(mount.target)
    if target is not None:
        made.directory(os.path.dirname(target))
    return target


def _isolate_network(command: RunCommand) -> None:
    """Enter a new network namespace for a command without network; possible for a machine's root, not in a Pod."""
    if command.network:
        return
    try:
        linux.unshare(linux.CLONE_NEWNET)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot isolate the network (--network=none): {describe(error)}; the namespace sandbox can",
        ) from None
    linux.bring_loopback_up()


def _run(command: RunCommand, proc: int, kept: frozenset[int]) -> int:
    if not command.argv:
        return 0
    if not command.listens:
        kept -= {linux.NET_RAW}
    code = spawn(lambda parent: exec_command(command, kept, parent)).finish(None)
    end_all(proc)
    return code


def _add_essentials(mount_points: MountPoints, files: dict[str, bytes]) -> None:
    """Add what programs depend on if the image lacks it: devices, the files of name resolution."""
    with contextlib.suppress(OSError):  # the image's /dev is a link or a file
        directory = resolve("/dev")
        mount_points.directory(directory)
        for name, number in _DEVICES.items():
            mount_points.device(f"{directory}/{name}", number)
    for path, data in files.items():
        if (place := network_file_target(path)) is not None:
            mount_points.file(place, data)

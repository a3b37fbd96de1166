"""The rungs without namespaces: ``root``, where the build's root is this container's own ``/``, and ``chroot``.

Runs in the helper, which has one thread and reaps orphans. Called by ``sandbox.helper``. Neither is a security
boundary: a command may read whatever the container's root may. What can be taken away is taken away.
"""

from __future__ import annotations

import os
import signal
import stat

from imagewright.sandbox import linux
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.process import become, exit_code

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def run_in_root(command: RunCommand) -> int:
    """Run a command in this container as it is."""
    return _run(command, None, linux.DEFAULT_CAPABILITIES)


def run_in_chroot(command: RunCommand) -> int:
    """Run a command after chroot(2) into its rootfs; without ``argv`` only try it.

    Raises:
        OSError
    """
    made = _make_devices(command.rootfs)
    try:
        return _run(command, command.rootfs, linux.DEFAULT_CAPABILITIES - {linux.SYS_CHROOT, linux.MKNOD})
    finally:
        for directory, name in reversed(made):
            _remove(directory, name)
        for directory in {directory for directory, _ in made}:
            os.close(directory)


def _run(command: RunCommand, root: str | None, kept: frozenset[int]) -> int:
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent()
            if root is not None:
                os.chroot(root)
                os.chdir("/")
            if command.argv:
                become(command, kept)
            os._exit(0)
        except OSError as error:
            os.write(2, f"imagewright: {error}\n".encode())
        finally:
            os._exit(125)
    status = os.waitpid(child, 0)[1]
    _end_all()
    return exit_code(status)


def _end_all() -> None:
    """Kill what the command left behind until nothing is: orphans become this process's children (subreaper)."""
    while True:
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == own:
            found.append(int(name))
    return found


def _make_devices(rootfs: str) -> list[tuple[int, str]]:
    """The devices that programs can't do without, where the image has none; (folder, name) of what was made."""
    made: list[tuple[int, str]] = []
    root = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mkdir("dev", 0o755, dir_fd=root)
        made.append((os.dup(root), "dev"))
    except FileExistsError:
        pass
    try:
        folder = os.open("dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    except OSError:
        os.close(root)
        return made  # a link: the image's own affair
    os.close(root)
    for name, number in _DEVICES.items():
        try:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(*number), dir_fd=folder)
            os.chmod(name, 0o666, dir_fd=folder)  # noqa: S103 -- devices are for everybody
        except (FileExistsError, PermissionError):
            continue
        made.append((folder, name))
    if not any(directory == folder for directory, _ in made):
        os.close(folder)
    return made


def _remove(directory: int, name: str) -> None:
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
    except OSError:
        return  # the command put something into it, or took it away: that is the image's now

"""The ``namespace`` mode: new user, mount, PID, IPC and UTS namespaces for each command.

Runs in a forked child of the runner with a single thread.

The command's user namespace is a child of the engine's with the same ids, so it cannot access any of the engine's
processes, while owners on disk need no translation. The root is pivoted to the rootfs; mounts are prepared outside
(detached copies) and attached from inside, where no link leads out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Callable, Iterable
from dataclasses import field
from functools import partial

from imagewright.records import dataclass
from imagewright.sandbox.kernel import cgroupns, linux
from imagewright.sandbox.model import TMPFS_MODE, RunCommand, SandboxMount
from imagewright.sandbox.mounts.detached import DetachedMount, prepare
from imagewright.sandbox.mounts.mountpoints import (
    NETWORK_FILES,
    MountPoints,
    check_kind,
    network_file_target,
    read_network_file,
    resolve,
    resolve_target,
)
from imagewright.sandbox.processes.child import FAILED, Child, Parent, exit_code, spawn
from imagewright.sandbox.processes.command import describe, exec_command

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
# What containers are denied. The command's root may be the machine's own (the ids are the same), and then only this
# protects, for example, /proc/sys/kernel/core_pattern.
_READ_ONLY = ("bus", "dynamic_debug", "fs", "irq", "sys", "sysrq-trigger")
_HIDDEN = (
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats",
    # Docker shows these, to root only. They tell about the memory of the whole machine, and its log.
    "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "pagetypeinfo", "slabinfo", "vmallocinfo",
)  # fmt: skip
# The latter are other file systems, which a new sysfs, as in Docker, would not have.
_HIDDEN_SYS = (
    "firmware", "devices/virtual/powercap",
    "fs/bpf", "fs/fuse/connections", "fs/pstore", "kernel/config", "kernel/debug", "kernel/security", "kernel/tracing",
)  # fmt: skip
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS


def run(command: RunCommand, scratch: str, map_ids: Callable[[], None]) -> int:
    """Run a command in new namespaces; without ``argv`` only check that this works.

    Args:
        scratch: an empty directory for copies of files that are mounted into the rootfs.
        map_ids: requests the mapping of this process's ids from outside; called once the user namespace exists.

    Raises:
        OSError: naming the system call that is not permitted.
    """
    linux.unshare(linux.CLONE_NEWUSER)
    map_ids()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    linux.set_dumpable(False)  # only needed for the mapping; from here on nobody may inspect this process
    linux.unshare(_NAMESPACES if command.network else _NAMESPACES | linux.CLONE_NEWNET)
    if not command.network:
        linux.bring_loopback_up()
    init = spawn(lambda parent: _init(command, scratch, parent))
    return init.finish(init.receive())


def _init(command: RunCommand, scratch: str, parent: Parent) -> int:
    """PID 1 of the namespace: sets up the root, runs the command, and ends all processes with it."""
    try:
        linux.set_dumpable(False)
        root = _Root(command.rootfs, scratch, command.mounts)
        try:
            root.enter()
        except OSError:
            root.leave()
            raise
        code = 0
        if command.argv:
            code = _wait(spawn(lambda init: exec_command(command, linux.DEFAULT_CAPABILITIES, init)))
        _end_all()
        root.leave()
    except OSError as error:
        parent.report(error.errno or 0, describe(error))
        return FAILED
    return code


def _enter_here() -> bool:
    """Make the mount at the working directory the root; whether the old root can be unmounted.

    The seccomp profiles of container runtimes refuse pivot_root(2) even with SYS_ADMIN. Then the mount is moved over
    the old root, which no path leads to any more: ".." ends at the topmost mount of a namespace's root.
    """
    try:
        linux.pivot_root(".", ".")
    except PermissionError:
        linux.mount(".", "/", "", linux.MS_MOVE)
        os.chroot(".")
        return False
    return True


def _wait(child: Child) -> int:
    """Reap processes until the command ends; returns its exit code."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            return exit_code(status)


def _end_all() -> None:
    """Kill what the command left behind, such as daemons, before the cleanup."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


@dataclass(slots=True)
class _Root:
    """The command's root: its mounts, and the mount points created for them."""

    rootfs: str
    scratch: str
    asked: tuple[SandboxMount, ...] = ()
    mount_points: MountPoints = field(default_factory=MountPoints)
    mounted: list[tuple[int, str]] = field(default_factory=list)  # directory and name, the last one on top

    def enter(self) -> None:
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_SLAVE)
        proc = linux.clone_mount("/proc", recursive=True)
        sys_ = linux.clone_mount("/sys", recursive=True)
        linux.restrict_mount(sys_, linux.MOUNT_ATTR_RDONLY, recursive=True)
        devices = {
            name: linux.clone_mount(f"/dev/{name}", recursive=False)
            for name in _DEVICES
            if os.path.exists(f"/dev/{name}")
        }
        files = {path: linux.clone_mount(copy, recursive=False) for path, copy in self._copies().items()}
        asked = prepare(self.asked, self.scratch)
        linux.mount(self.rootfs, self.rootfs, "", linux.MS_BIND)
        # An image may contain a device for the machine's disk.
        linux.restrict_mount(self.rootfs, linux.MOUNT_ATTR_NODEV, recursive=False)
        old = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(self.rootfs)
        pivoted = _enter_here()
        os.chdir("/")
        # From here on every path is resolved inside the rootfs. The old root stays for now, hidden: the kernel only
        # permits a new /proc while another one is fully visible.
        self._attach("/dev", lambda target: self._dev(target, devices))
        self._attach("/proc", lambda target: self._proc(target, proc))
        self._attach("/sys", lambda target: self._sys(target, sys_))
        for path, fd in files.items():
            if (place := network_file_target(path)) is not None:
                self._attach(place, partial(linux.attach_mount, fd), directory=False)
            os.close(fd)
        for each in asked:
            self._attach_asked(each)
        if pivoted:
            os.fchdir(old)
            linux.umount(".")
            os.chdir("/")
        os.close(old)

    def leave(self) -> None:
        """Unmount everything and remove the mount points, even in renamed directories, so that none enters a layer."""
        for directory, name in reversed(self.mounted):
            with contextlib.suppress(OSError):
                os.fchdir(directory)
                linux.umount(name, linux.MNT_DETACH | linux.UMOUNT_NOFOLLOW)
        os.chdir("/")
        self.mount_points.remove()

    def _attach_asked(self, each: DetachedMount) -> None:
        target = resolve_target(each.target)
        check_kind(each.target, target, directory=each.directory)
        mode = stat.S_IMODE(os.stat(target).st_mode) if os.path.isdir(target) else TMPFS_MODE
        try:
            self._attach(target, lambda path: each.attach(path, mode), directory=each.directory)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            above = max((m.target for m in self.asked if each.target.startswith(f"{m.target}/")), key=len, default="/")
            text = (
                f'cannot create the mount point "{each.target}": the mount at "{above}" is read-only; '
                "create it in the source, or mount that with rw"
            )
            raise OSError(errno.EROFS, text) from None

    def _attach(self, path: str, mount: Callable[[str], None], *, directory: bool = True) -> None:
        target = resolve(path)
        if directory:
            self.mount_points.directory(target)
        else:
            self.mount_points.file(target)
        parent = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY)
        mount(target)
        self.mounted.append((parent, os.path.basename(target)))

    @staticmethod
    def _proc(target: str, outside: int) -> None:
        try:
            linux.mount("proc", target, "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        except PermissionError:
            # Parts of a container's /proc are masked, so a new one is not permitted. The outer one shows the engine's
            # processes; their user namespace protects them.
            linux.attach_mount(outside, target)
        cgroupns.forbid(target)
        for name in _READ_ONLY:
            path = f"{target}/{name}"
            if os.path.exists(path):
                copy = linux.clone_mount(path, recursive=True)
                linux.restrict_mount(copy, linux.MOUNT_ATTR_RDONLY, recursive=True)
                linux.attach_mount(copy, path)
                os.close(copy)
        _hide(target, _HIDDEN)

    @staticmethod
    def _sys(target: str, outside: int) -> None:
        linux.attach_mount(outside, target)
        _hide(target, _HIDDEN_SYS)

    @staticmethod
    def _dev(target: str, devices: dict[str, int]) -> None:
        linux.mount("tmpfs", target, "tmpfs", linux.MS_NOSUID, "mode=755,size=65536k")
        for name, fd in devices.items():
            path = f"{target}/{name}"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
            linux.attach_mount(fd, path)
        for name, link in _LINKS.items():
            os.symlink(link, f"{target}/{name}")
        for name in ("pts", "shm"):
            os.mkdir(f"{target}/{name}", 0o755)
        linux.mount(
            "shm", f"{target}/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "mode=1777,size=65536k"
        )
        linux.mount(
            "devpts",
            f"{target}/pts",
            "devpts",
            linux.MS_NOSUID | linux.MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        )
        os.symlink("pts/ptmx", f"{target}/ptmx")

    def _copies(self) -> dict[str, str]:
        """Copies of the files of name resolution, which a command may write without effect."""
        copies = {}
        for path in NETWORK_FILES:
            data = read_network_file(path)
            if data is None:
                continue
            copy = os.path.join(self.scratch, os.path.basename(path))
            with open(copy, "wb") as out:
                out.write(data)
            os.chmod(copy, 0o644)
            copies[path] = copy
        return copies


def _hide(directory: str, names: Iterable[str]) -> None:
    """Mask existing paths: files with /dev/null, directories with an empty one."""
    for path in (f"{directory}/{name}" for name in names):
        if os.path.isdir(path):
            linux.mount("tmpfs", path, "tmpfs", linux.MS_RDONLY, "mode=755,size=4k")
        elif os.path.exists(path):
            null = linux.clone_mount(resolve("/dev/null"), recursive=False)
            linux.attach_mount(null, path)
            os.close(null)

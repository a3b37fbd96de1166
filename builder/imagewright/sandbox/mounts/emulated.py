"""Emulates mounts in modes without them: files are put at the targets before the command and removed afterwards.

Creates, moves and removes files of a root file system, in a process with a single thread, while no command runs in it.
What the image has at a target is moved aside and back. After the command nothing in the root file system is trusted:
only directories and files that were opened before it are used, and links are not followed.

The command sees the same files. The differences are in docs/sandbox.md: read-only mounts can be written, and writes are
discarded; a secret is on disk while its command runs; a tmpfs is on disk and has no size limit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence

from imagewright import descent
from imagewright.descent import remove_tree, replace_directory
from imagewright.records import dataclass
from imagewright.sandbox.model import (
    TMPFS_MODE,
    DirectoryMount,
    DisposableMount,
    FileMount,
    NetworkFile,
    SandboxMount,
    SocketMount,
    TmpfsMount,
)
from imagewright.sandbox.mounts.copies import break_hard_links, copy
from imagewright.sandbox.mounts.mountpoints import MountPoints, check_kind, times_kept
from imagewright.sandbox.mounts.sockets import forward
from imagewright.sandbox.processes.child import spawn
from imagewright.sandbox.processes.command import describe


@dataclass(frozen=True, slots=True)
class Root:
    """A root file system seen from outside. ``path`` is its directory, "" for this process's own root.

    ``resolve`` returns where the target of a mount leads in it, following links inside, and creates the directories
    above; None if it is to be left out. ``excluded`` are root-relative paths that do not belong to the image.
    """

    path: str
    resolve: Callable[[SandboxMount, MountPoints], str | None]
    excluded: frozenset[str] = frozenset()


class EmulatedMounts:
    """All mounts of one command."""

    def __init__(self, root: Root, aside: Sequence[str]) -> None:
        """``aside``: directories for entries that are covered; one of them should be on the root's file system."""
        self._root = root
        self._mount_points = MountPoints()
        self._aside = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in aside if os.path.isdir(path)]
        self._targets: list[_Target] = []
        self._sources: dict[str, DirectoryMount] = {}  # the first mount of each

    @contextlib.contextmanager
    def in_place(self, mounts: Sequence[SandboxMount]) -> Iterator[None]:
        """Put all mounts in place, in order, and remove them in reverse order. Changes of caches are kept.

        Raises:
            OSError: naming the target and the mode that supports it; or what could not be removed, since it would get
                into a layer or be lost from a cache.
        """
        try:
            for mount in mounts:
                self._put(mount)
            yield
        except BaseException:
            self._take_out()
            raise
        failures = self._take_out()
        if failures:
            raise failures[0]

    def _put(self, mount: SandboxMount) -> None:
        path = self._root.resolve(mount, self._mount_points)
        if path is None or self._leaves_out(mount, path):
            return
        self._refuse_second_target(mount)
        directory = os.open(self._root.path + os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        target = _Target(mount.target, directory, os.path.basename(path), [*self._aside, directory])
        self._targets.append(target)
        with times_kept(directory):
            check_kind(mount.target, target.path, directory=_is_directory(mount))
            target.clear()
            _fill(target, mount)

    def _take_out(self) -> list[OSError]:
        failures = []
        for target in reversed(self._targets):
            try:
                with times_kept(target.directory):
                    target.restore()
            except OSError as error:
                text = f'cannot unmount "{target.written}": {describe(error)}'
                failures.append(OSError(error.errno, text))
            os.close(target.directory)
        self._targets.clear()
        self._mount_points.remove()
        for fd in self._aside:
            os.close(fd)
        self._aside.clear()
        return failures

    def _refuse_second_target(self, mount: SandboxMount) -> None:
        """A directory whose changes are kept can be at one target only, whichever of its mounts may be written to."""
        if not isinstance(mount, DirectoryMount):
            return
        first = self._sources.setdefault(mount.source, mount)
        if first is not mount and (first.writable or mount.writable):
            raise OSError(
                errno.EEXIST,
                f'cannot mount the source of "{first.target}" at "{mount.target}" as well: only the namespace sandbox can',
            )

    def _leaves_out(self, mount: SandboxMount, target: str) -> bool:
        """Whether nothing can be put at the target, which belongs to the container, and the command can do without.

        Raises:
            OSError: it cannot.
        """
        path = target.strip("/")
        for excluded in self._root.excluded:
            below = path.startswith(excluded + "/") and excluded != "dev"  # scripts of heredocs are in /dev
            if path == excluded or below:
                if isinstance(mount, NetworkFile):
                    return True
                raise OSError(
                    errno.EEXIST,
                    f'cannot mount at "{mount.target}" in the root sandbox: "/{excluded}" belongs to the container; '
                    "the namespace sandbox can",
                )
        return False


class _Target:
    """The target of an emulated mount: what is there during the command, and where the covered entry is."""

    def __init__(self, written: str, directory: int, name: str, aside: Sequence[int]) -> None:
        self.written, self.directory, self.name = written, directory, name
        self.mode = TMPFS_MODE  # of the directory that it covers
        self._aside = aside
        self._cleared = False
        self._moved: tuple[int, str] | None = None
        self.end: Callable[[], None] = lambda: None  # called before the target is removed

    @property
    def path(self) -> str:
        """A path for calls that take no descriptor; only valid while no command runs."""
        return f"/proc/self/fd/{self.directory}/{self.name}"

    def clear(self) -> None:
        """Move the existing entry aside."""
        if not os.path.lexists(self.path):
            self._cleared = True
            return
        self.mode = stat.S_IMODE(os.lstat(self.path).st_mode)
        hidden = f".imagewright-{os.getpid()}-{self.directory}"
        failure: OSError | None = None
        for aside in self._aside:
            try:
                os.rename(self.name, hidden, src_dir_fd=self.directory, dst_dir_fd=aside)
            except OSError as error:
                failure = error
                continue
            self._cleared, self._moved = True, (aside, hidden)
            return
        assert failure is not None, "its own directory is one to try"
        raise OSError(
            failure.errno,
            f'cannot mount over "{self.written}": {failure.strerror}; the namespace sandbox can',
        )

    def restore(self) -> None:
        """Restore the previous entry, whatever is there now."""
        if not self._cleared:
            return  # the entry is still the image's
        try:
            self.end()
        finally:
            _remove(self.directory, self.name)
            if self._moved is not None:
                aside, hidden = self._moved
                try:
                    os.rename(hidden, self.name, src_dir_fd=aside, dst_dir_fd=self.directory)
                except FileNotFoundError:  # the command removed the directory with the covered entry
                    _remove(aside, hidden)


def _remove(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        descent.remove(directory, os.fsencode(name))


def _is_directory(mount: SandboxMount) -> bool:
    return isinstance(mount, TmpfsMount) or (isinstance(mount, DirectoryMount) and os.path.isdir(mount.source))


def _fill(target: _Target, mount: SandboxMount) -> None:
    match mount:
        case TmpfsMount():
            os.mkdir(target.name, 0o700, dir_fd=target.directory)
            os.chmod(target.path, target.mode)
        case FileMount():
            _write(target, mount)
        case SocketMount():
            _forward_socket(target, mount)
        case DisposableMount(source=source):
            _move_or_copy(source, target)
        case DirectoryMount(source=source, writable=True):
            _move_in(target, source)
        case DirectoryMount(source=source):
            copy(source, target.path)


def _write(target: _Target, file: FileMount) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    with os.fdopen(os.open(target.name, flags, 0o600, dir_fd=target.directory), "wb") as out:
        fd = os.open(target.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=target.directory)
        target.end = lambda: _wipe(fd)
        out.write(file.content)
        os.fchown(out.fileno(), file.uid, file.gid)
        os.fchmod(out.fileno(), file.mode)


def _wipe(fd: int) -> None:
    """Erase the content, so that no hard link or new name of the file reveals it; remove the file if it was moved."""
    try:
        os.truncate(f"/proc/self/fd/{fd}", 0)
        where = _current_path(fd)
        if where is not None:
            os.unlink(where)
    finally:
        os.close(fd)


def _current_path(fd: int) -> str | None:
    """The present path of an open file or directory; None if it was removed. To be called while no command runs."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    try:
        return path if os.path.samestat(os.lstat(path), os.fstat(fd)) else None
    except OSError:
        return None


def _move_in(target: _Target, source: str) -> None:
    """Put a directory whose changes are kept at the target: renamed, else as a copy that replaces it afterwards."""
    moved = _move_or_copy(source, target)
    fd = os.open(target.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=target.directory)
    target.end = lambda: _move_back(fd, source, moved=moved)


def _move_or_copy(source: str, target: _Target) -> bool:
    """Put a file or directory at the target; whether it was moved. It is copied to another file system."""
    try:
        os.rename(source, target.name, dst_dir_fd=target.directory)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, target.path)
        return False
    return True


def _move_back(fd: int, source: str, *, moved: bool) -> None:
    """Move the directory itself back, wherever the command moved it to; an empty one if the command removed it."""
    try:
        where = _current_path(fd)
        if where is None:
            info = os.fstat(fd)
            where = f"{source}.empty"
            os.mkdir(where, 0o700)
            os.chown(where, info.st_uid, info.st_gid)
            os.chmod(where, stat.S_IMODE(info.st_mode))
        else:
            break_hard_links(where)
        if moved:
            os.rename(where, source)
        else:
            replace_directory(source, lambda new: copy(where, new))
            remove_tree(where)
    finally:
        os.close(fd)


# --- sockets


def _forward_socket(target: _Target, mount: SocketMount) -> None:
    """Start a process that listens at the target and forwards to the socket ``source`` until the command has ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(target.path)
    os.chown(target.name, mount.uid, mount.gid, dir_fd=target.directory, follow_symlinks=False)
    os.chmod(target.path, mount.mode)
    listener.listen()
    with listener:
        carrier = spawn(lambda parent: forward(listener, mount.source, parent), keep=(listener.fileno(),))
    target.end = carrier.close

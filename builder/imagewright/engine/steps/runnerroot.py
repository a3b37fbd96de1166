"""The ``/`` of the Pod's other container as the root file system that stages are built in.

The engine works on it through a descriptor, from a container of its own: commands see none of the engine's files,
mounts and processes. What a command is to see of them (the sources of mounts, sockets, the files of name resolution) is
copied there for the command and back. Everything there is hostile after the first command: paths are resolved below the
root.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from imagewright.descent import remove, replace_directory
from imagewright.errors import FileSystemError, Reason, SandboxError
from imagewright.fs.layer.changes import Changes
from imagewright.fs.paths import is_at_or_below
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.filecopy import FileCopier
from imagewright.fs.rootfs.mounts import parse_mountinfo
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.steps import RunStep
from imagewright.sandbox.model import (
    BuildDirectory,
    DirectoryMount,
    DisposableMount,
    NetworkFile,
    RunnerContainer,
    SandboxMount,
    SocketMount,
)
from imagewright.sandbox.mounts.mountpoints import NETWORK_FILES, read_network_file
from imagewright.sandbox.mounts.sockets import MAX_CONNECTIONS, forwarded

_KERNEL = (b"proc", b"sys", b"dev")  # where no image has files, and nobody mounts credentials
_PROGRAMS = b"imagewright"
_FULL_HINT = 'Free disk space on the node, or raise the limit of ephemeral storage: the image is built in the container "runner".'
_CACHES_FULL_HINT = (
    "Free some space on the volume of the caches, or name another with --cache-dir (ImageBuild: spec.cache.volume)."
)


class RunnerRoot:
    """The root file system ``rootfs`` of a build. It holds one stage at a time.

    Raises:
        SandboxError: reason ``NotIsolated``, something stays mounted that commands could read.
    """

    def __init__(self, directory: BuildDirectory, container: RunnerContainer) -> None:
        self.rootfs = Rootfs(directory.path, directory.excluded)
        self.inside = directory.inside
        self.excluded_paths = directory.excluded
        self._container = Rootfs(container.root)
        self.rootfs.full_hint = self._container.full_hint = _FULL_HINT
        self._sources = self._container.below(os.fsencode(container.sources.strip("/")))
        self._sources_inside = container.sources
        _detach_mounts(self._container, container.mounts)
        self._files = {path: data for path in NETWORK_FILES if (data := read_network_file(path))}
        self._own = os.fsencode(container.own)
        self._connections = threading.Semaphore(MAX_CONNECTIONS)
        self._programs = frozenset(_state_of_programs(self._container, self._own))
        # While these are open no other directory gets their inode numbers.
        written = (path for path, _, _ in self._programs if is_at_or_below(path, self._own))
        self._held = [self._container.below(path) for path in written]

    # --- as of ``BuildRoot``

    def release_contexts(self, contexts: Mapping[str, Rootfs], folders: Iterable[str]) -> dict[str, Rootfs]:
        """The contexts, which no image is in the way of."""
        return dict(contexts)

    def current_path(self, path: str) -> str:
        """No file of the engine's is moved."""
        return path

    def close(self) -> None:
        """Nothing has to be moved back."""

    def report_hidden(self, changes: Changes) -> None:
        """Nothing is hidden by mounts."""

    def before_run(self, step: RunStep) -> None:
        """Prepare for a command.

        Raises:
            SandboxError: reason ``NotIsolated``, an earlier command changed the runner's programs, which are given the
                secrets of this one.
        """
        if not self._has_its_programs():
            raise SandboxError(
                'a RUN changed files in "/imagewright", which the container that runs commands needs',
                reason=Reason.NOT_ISOLATED,
                hint="Leave /imagewright as it is: it is not in the image.",
            )

    def _has_its_programs(self) -> bool:
        """Whether all are as they were. What commands have added is not read to its end."""
        count = 0
        for state in _state_of_programs(self._container, self._own):
            if state not in self._programs:
                return False
            count += 1
        return count == len(self._programs)

    def after_run(self) -> tuple[bytes, ...]:
        """No entry of the image has moved along with a mount."""
        return ()

    def hint(self, step: RunStep, output: Sequence[str]) -> str:
        """No command fails because of a mount."""
        return ""

    @property
    def covered(self) -> tuple[bytes, ...]:
        """The image's entries that every command finds the engine's files of name resolution at."""
        found = []
        for name in self._files:
            try:
                path = self.rootfs.realpath(os.fsencode(name.strip("/")))
                directory = stat.S_ISDIR(self.rootfs.lstat(path).st_mode)
            except (OSError, FileSystemError):  # nothing is there that would be moved aside and back
                continue
            if not directory and not any(is_at_or_below(path, each) for each in _KERNEL):
                found.append(path)
        return tuple(found)

    @contextlib.contextmanager
    def served(self, mounts: Sequence[SandboxMount]) -> Iterator[Sequence[SandboxMount]]:
        """The mounts with sources in the runner's container, and the files of name resolution.

        Changes of caches are copied back when the command has ended.

        Raises:
            FileSystemError: a source cannot be copied.
        """
        name = os.fsencode(uuid.uuid4().hex)
        os.mkdir(name, 0o700, dir_fd=self._sources.fd)
        try:
            inside = f"{self._sources_inside}/{os.fsdecode(name)}"
            kept = {mount.source for mount in mounts if isinstance(mount, DirectoryMount) and mount.writable}
            folder = _Sources(self._sources.below(name), inside, kept, self._connections)
            with contextlib.ExitStack() as stack:
                served = [folder.serve(mount, stack) for mount in mounts]
                yield [*self._network_files(mounts), *served]
                folder.take_back()
        finally:
            remove(self._sources.fd, name, ignore_errors=True)

    def _network_files(self, mounts: Sequence[SandboxMount]) -> Iterator[NetworkFile]:
        """The engine's own files, which commands would otherwise share with it. A mount of the Dockerfile wins."""
        taken = {mount.target for mount in mounts}
        return (NetworkFile(path, data, 0o644) for path, data in self._files.items() if path not in taken)


class _Sources:
    """A directory of the runner's container with the sources of one command's mounts. ``inside`` is its path there.

    What the command changes in the sources that are ``kept`` is taken back. Each of them has one name here, at however
    many targets it is mounted: the runner refuses what would be two copies.
    """

    def __init__(self, rootfs: Rootfs, inside: str, kept: Iterable[str], connections: threading.Semaphore) -> None:
        """``connections`` has a slot for each connection to the engine's sockets."""
        self._rootfs = rootfs
        self._inside = inside
        self._kept = frozenset(kept)
        self._caches: dict[str, tuple[DirectoryMount, bytes]] = {}  # those of them that are here, with their names
        self._connections = connections
        self._count = 0

    def serve(self, mount: SandboxMount, stack: contextlib.ExitStack) -> SandboxMount:
        if isinstance(mount, SocketMount):
            return replace(mount, source=self._path(self._listen(mount, stack)))
        if not isinstance(mount, DirectoryMount):
            return mount
        if mount.source not in self._kept:
            return DisposableMount(mount.target, self._path(self._copy_in(mount)))
        if mount.source not in self._caches:
            self._caches[mount.source] = mount, self._copy_in(mount)
        return replace(mount, source=self._path(self._caches[mount.source][1]))

    def take_back(self) -> None:
        """Replace the sources of caches by what the command made of them."""
        for mount, name in self._caches.values():
            with _naming(f'keep what RUN wrote to the cache mount "{mount.target}"', _CACHES_FULL_HINT):
                replace_directory(mount.source, partial(self._copy_back, name))

    def _path(self, name: bytes) -> str:
        return f"{self._inside}/{os.fsdecode(name)}"

    def _new_name(self) -> bytes:
        self._count += 1
        return b"%d" % self._count

    def _listen(self, mount: SocketMount, stack: contextlib.ExitStack) -> bytes:
        name = self._new_name()
        path = f"/proc/self/fd/{self._rootfs.fd}/{os.fsdecode(name)}"
        with _naming(f'create the socket of the mount "{mount.target}" in the runner', self._rootfs.full_hint):
            stack.enter_context(forwarded(path, mount.source, slots=self._connections))
        return name

    def _copy_in(self, mount: DirectoryMount) -> bytes:
        name = self._new_name()
        with _naming(f'copy the source of the mount "{mount.target}" to the runner', self._rootfs.full_hint):
            self._copy(mount.source, name)
        return name

    def _copy(self, source: str, name: bytes) -> None:
        if os.path.isdir(source):
            os.mkdir(name, 0o700, dir_fd=self._rootfs.fd)
            tree.copy_tree(Rootfs(source), self._rootfs.below(name))
            return
        folder = Rootfs(os.path.dirname(source))
        entry = (folder.fd, os.fsencode(os.path.basename(source)))
        FileCopier(folder, self._rootfs).copy_entry(entry, (self._rootfs.fd, name), os.lstat(source))

    def _copy_back(self, name: bytes, new: str) -> None:
        os.mkdir(new, 0o700)
        tree.copy_tree(self._rootfs.below(name), Rootfs(new))


@contextlib.contextmanager
def _naming(action: str, full_hint: str) -> Iterator[None]:
    """Name what is copied, and the disk that is full, in an error."""
    try:
        yield
    except OSError as error:
        raise explain(error, action, full_hint=full_hint) from error
    except FileSystemError as error:
        hint = full_hint if error.reason is Reason.DISK_FULL else error.hint
        raise FileSystemError(f"cannot {action}: {error.why}", why=error.why, reason=error.reason, hint=hint) from error


def _detach_mounts(container: Rootfs, table: bytes) -> None:
    """Detach what the Pod mounts into the container: tokens that webhooks add to all containers, /etc/hosts.

    A mount point can be removed from another mount namespace, and the mount goes with it (unlink(2), rmdir(2) since
    Linux 3.18). To be called before the first command.
    """
    paths = {point.path for point in parse_mountinfo(table)}
    for path in sorted(paths):
        kernels = any(is_at_or_below(path, each) for each in _KERNEL)
        if kernels or any(path.startswith(above + b"/") for above in paths):
            continue
        above, _, name = path.rpartition(b"/")
        try:
            with container.directory(above) as parent:
                try:
                    os.unlink(name, dir_fd=parent)
                except IsADirectoryError:
                    os.rmdir(name, dir_fd=parent)
        except OSError as error:
            raise SandboxError(
                f'cannot detach "/{os.fsdecode(path)}" from the container that runs commands: {error.strerror}',
                reason=Reason.NOT_ISOLATED,
                hint='Keep webhooks from mounting volumes into the container "runner", or allow user namespaces.',
            ) from error


def _state_of_programs(container: Rootfs, own: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Path, inode and ctime, which no process can set, of all files of the runner's own.

    Of ``own``, which it writes to, only the directories themselves.
    """
    waiting = [_PROGRAMS]
    while waiting:
        path = waiting.pop()
        try:
            with container.directory(path) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    below = path + b"/" + os.fsencode(entry.name)
                    info = entry.stat(follow_symlinks=False)
                    written = is_at_or_below(below, own)
                    if entry.is_dir(follow_symlinks=False) and path != own:
                        waiting.append(below)
                    yield below, info.st_ino, 0 if written else info.st_ctime_ns
        except (OSError, FileSystemError):
            yield path, 0, 0

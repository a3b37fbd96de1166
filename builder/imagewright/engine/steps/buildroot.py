"""The container's own ``/`` as the root file system that stages are built in, for the ``root`` sandbox.

The engine, its work folder and what the container mounts are in the same root; ``runnerroot`` is that of a container of
its own.

Moves contexts aside and back. Checks what a RUN did to the container's mounts, and refuses one that would take a
mounted context for files of the image.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from imagewright.engine.events import Reporter
from imagewright.engine.workspace import Workspace
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.filecopy import copy_attributes
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.tree import changed_since
from imagewright.plan.steps import RunStep
from imagewright.sandbox.model import BuildDirectory, SandboxMount

_CLOCK_REALTIME_COARSE = 5  # linux/time.h; what inodes get their times from
_MAX_ENTRIES_CHECKED = 20_000  # entries of one mount: volumes may hold millions, on a slow network
_BUSY, _READ_ONLY = (
    "resource busy",
    "Read-only file system",
)  # EBUSY and EROFS as libc, busybox, Python and Node print them
_SHOWN = 3
_FULL_HINT = (
    "Free space on the disk that the message names: the image is built in the container's own file system, on the node's "
    "disk, within its limit of ephemeral storage."
)


class BuildRoot:
    """The root file system of a build, ``rootfs``. It holds one stage at a time."""

    def __init__(
        self, directory: BuildDirectory, workspace: Workspace, reporter: Reporter, needed: Iterable[str]
    ) -> None:
        """``needed`` are files and folders of this machine that the engine uses during the build: they stay."""
        self._masked = MaskedEntries(directory.path, workspace.masked, directory.excluded, directory.kept)
        self.rootfs = Rootfs(directory.path, directory.excluded, masked=self._masked)
        self.rootfs.full_hint = _FULL_HINT
        self._reporter = reporter
        self._aside = workspace.aside
        self._needed = {_relative(path) for path in (workspace.path, *needed)}
        self._moved: list[tuple[str, str]] = []  # contexts: original and current path
        self._contexts: set[bytes] = set()  # mounts that hold a context
        self._reported: set[tuple[str, bytes]] = set()
        self._began_ns = 0

    @property
    def excluded_paths(self) -> frozenset[str]:
        """Root-relative paths that are not part of the image."""
        return frozenset(os.fsdecode(path) for path in self.rootfs.excluded | self._masked.mounts)

    # --- contexts

    def release_contexts(self, contexts: Mapping[str, Rootfs], folders: Iterable[str]) -> dict[str, Rootfs]:
        """Move the folders of contexts out of the image's way, unless they are mounted; the contexts, moved.

        Args:
            folders: folders of this machine that contain the contexts.

        Raises:
            FileSystemError
        """
        for folder in sorted({os.path.realpath(path) for path in folders}):
            if self.current_path(folder) == folder:
                self._release(folder)
        return {name: Rootfs(self.current_path(root.path)) for name, root in contexts.items()}

    def _release(self, folder: str) -> None:
        path = _relative(folder)
        mount = self._masked.mount_of(path)
        if mount is None or self.rootfs.is_excluded(path):
            return  # an image never has files there
        needed = any(each.startswith(path + b"/") for each in self._needed)
        if needed or mount != path or not self._masked.can_release(path):
            self._contexts.add(mount)
            return
        aside = os.path.join(self._aside, str(len(self._moved)))
        os.mkdir(aside, 0o700)
        _move_aside(folder, aside)
        self._moved.append((folder, aside))
        self._masked.release(path)

    def current_path(self, path: str) -> str:
        """Where a file or folder of this machine is while contexts are moved aside, "" for ""."""
        real = os.path.realpath(path) if path else ""
        for before, aside in self._moved:
            if real == before or real.startswith(before + "/"):
                return aside + real[len(before) :]
        return path

    def close(self) -> None:
        """Move the contexts back, replacing the image's files there."""
        for folder, aside in self._moved:
            try:
                self._clear(folder)
                os.makedirs(folder, exist_ok=True)
                tree.move_tree(Rootfs(aside), Rootfs(folder))
            except (OSError, FileSystemError) as error:
                self._reporter.warning(f'cannot move the build context back to "{folder}": {error}')
        self._moved.clear()

    def _clear(self, folder: str) -> None:
        """Remove the image's files at a folder's path, but no mounts, which may have been moved there."""
        above, name = os.path.split(os.fsencode(folder))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.rootfs.directory(above.strip(b"/")) as fd:
            parent = self.rootfs.path_of(fd)
            tree.remove_entry(fd, parent + b"/" + name if parent else name, self.rootfs)

    # --- steps

    @property
    def inside(self) -> str:
        """The root as commands are given it."""
        return self.rootfs.path

    @property
    def covered(self) -> tuple[bytes, ...]:
        """Paths that every command finds something else at than the image's files."""
        return ()

    @contextlib.contextmanager
    def served(self, mounts: Sequence[SandboxMount]) -> Iterator[Sequence[SandboxMount]]:
        """The mounts with the paths that the command's process can open."""
        yield mounts

    def report_hidden(self, changes: Changes) -> None:
        """Report, once for each mount, that a COPY, ADD or WORKDIR wrote files there that no RUN will see."""
        for path in changes.written:
            mount = self._masked.mount_of(path)
            if mount is not None and self._is_new("hidden", mount):
                self._reporter.message(
                    f'"{_absolute(path)}" is in the image but hidden from RUN: "{_absolute(mount)}" is mounted in this container'
                )

    def before_run(self, step: RunStep) -> None:
        """Prepare for a command.

        Raises:
            FileSystemError: reason ``PathNotAllowed``, the command would take mounted files for the image's.
        """
        workdir = self.rootfs.resolve(os.fsencode(step.workdir.strip("/")))
        for mount in sorted(self._contexts):
            self._refuse_to_show_context(step, workdir, mount)
        mount_of_workdir = self._masked.mount_of(workdir)
        if mount_of_workdir is not None and not os.path.isdir(os.path.join(self.rootfs.path, os.fsdecode(workdir))):
            raise FileSystemError(
                f'cannot run a command in "{_absolute(workdir)}": the folder does not exist in "{_absolute(mount_of_workdir)}", '
                "which is mounted in this container",
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Mount the volume at another path, or use the namespace sandbox.",
            )
        self._began_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
        self._masked.before_command()

    def after_run(self) -> tuple[bytes, ...]:
        """Report what a command wrote into mounts, which is not in the image; the image's entries that it moved."""
        changes = self._masked.after_command()
        for path in changes.lost:
            if self._is_new("lost", path.rpartition(b"/")[0]):
                self._reporter.warning(
                    f'RUN wrote "{_absolute(path)}", which is not in the image: the image has no folder there, and the '
                    "container's own folder only leads to a mount"
                )
        ours = {self._masked.mount_of(path) for path in self._needed}
        for mount in self._masked.writable():
            if mount in ours or ("written", mount) in self._reported:
                continue
            found = changed_since(
                os.path.join(os.fsencode(self.rootfs.path), mount), self._began_ns, _MAX_ENTRIES_CHECKED
            )
            if found is not None and self._is_new("written", mount):
                self._reporter.warning(
                    f'RUN changed "{os.fsdecode(found)}", which is not in the image: "{_absolute(mount)}" is mounted in this '
                    "container"
                )
        return changes.moved

    def hint(self, step: RunStep, output: Sequence[str]) -> str:
        """The hint for a command that failed because it tried to replace, remove or change a mount; "" for others."""
        refused = [line for line in output if _BUSY in line or _READ_ONLY in line]
        mounts = sorted(_absolute(mount) for mount in self._masked.mounts)
        named: list[str] = []
        if refused:
            # sed -i prints the name of its temporary file: then the command itself names the mount.
            texts = ("\n".join(refused), _text(step))
            named = next((found for text in texts if (found := [each for each in mounts if _mentions(text, each)])), [])
        if not named and any(_BUSY in line for line in refused):
            named = mounts
        if not named:
            return ""
        shown = ", ".join(f'"{mount}"' for mount in named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
        return (
            f"RUN cannot replace or remove {shown}, mounted in this container: mount at another path, or use the namespace "
            "sandbox."
        )

    def _refuse_to_show_context(self, step: RunStep, workdir: bytes, mount: bytes) -> None:
        path = _absolute(mount)
        if workdir == mount or workdir.startswith(mount + b"/"):
            why = f'its working directory "{_absolute(workdir)}" is in "{path}"'
        elif self._masked.hides(mount):
            why = f'it would not see the image\'s files in "{path}"'
        elif _mentions(_text(step), path):
            why = f'it mentions "{path}"'
        else:
            return
        raise FileSystemError(
            f"cannot run the command in the root sandbox: {why}, where the build context is mounted",
            reason=Reason.PATH_NOT_ALLOWED,
            hint="Mount the context at another path, for example /kaniko/context, or use the namespace sandbox.",
        )

    def _is_new(self, event: str, path: bytes) -> bool:
        reported = (event, path) in self._reported
        self._reported.add((event, path))
        return not reported


def _move_aside(folder: str, aside: str) -> None:
    """Move the content of a folder to another by renaming; if that isn't possible, copy it and leave the original.

    Raises:
        FileSystemError
    """
    renamed = []
    mtime_ns = os.stat(folder).st_mtime_ns  # renaming entries changes it
    try:
        for name in os.listdir(folder):
            os.rename(os.path.join(folder, name), os.path.join(aside, name))
            renamed.append(name)
    except OSError:  # another file system, or a folder of overlayfs's lower layer
        for name in renamed:
            os.rename(os.path.join(aside, name), os.path.join(folder, name))
        tree.copy_tree(Rootfs(folder), Rootfs(aside))
    else:
        source, target = Rootfs(folder), Rootfs(aside)
        copy_attributes((source, source.fd), (target, target.fd))
        os.utime(target.fd, ns=(mtime_ns, mtime_ns))


def _text(step: RunStep) -> str:
    return "\n".join((*step.argv, step.script.content if step.script is not None else ""))


def _mentions(text: str, path: str) -> bool:
    """Whether a text contains a path, or one below it."""
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", text) is not None


def _relative(path: str) -> bytes:
    return os.fsencode(os.path.realpath(path).strip("/"))


def _absolute(path: bytes) -> str:
    return "/" + os.fsdecode(path)

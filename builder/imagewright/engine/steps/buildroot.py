"""The container's own ``/`` as the root file system that stages are built in, and what the container has mounted there.

Moves contexts aside and back; looks at what a RUN did to mounts, and refuses one that would take a context for the image's
files. For the ``root`` sandbox, which alone builds there.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence

from imagewright.engine.events import Reporter
from imagewright.engine.workspace import Workspace
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.attributes import copy_attributes
from imagewright.fs.rootfs.masked import MaskedEntries
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.rootfs.tree import changed_since
from imagewright.plan.steps import RunStep
from imagewright.sandbox.model import Sandbox

_CLOCK_REALTIME_COARSE = 5  # linux/time.h; what inodes get their times from
_LOOKED_AT = 20_000  # entries of one mount: volumes may hold millions, on a slow network
_BUSY, _READ_ONLY = (
    "resource busy",
    "Read-only file system",
)  # EBUSY and EROFS as libc, busybox, Python and Node write them
_SHOWN = 3


class BuildRoot:
    """One build's. ``rootfs`` is the root file system; it holds one stage at a time."""

    def __init__(self, sandbox: Sandbox, workspace: Workspace, reporter: Reporter, needed: Iterable[str]) -> None:
        """``needed``: files and folders of this machine that the engine uses during the build, where they are."""
        assert sandbox.build_root is not None
        self._masked = MaskedEntries(sandbox.build_root, workspace.shadow, sandbox.excluded, sandbox.kept)
        self.rootfs = Rootfs(sandbox.build_root, sandbox.excluded, masked=self._masked)
        self._reporter = reporter
        self._aside = workspace.aside
        self._needed = {_relative(path) for path in (workspace.path, *needed)}
        self._moved: list[tuple[str, str]] = []  # contexts: where they were, and where they are meanwhile
        self._contexts: set[bytes] = set()  # mounts that hold a context
        self._told: set[tuple[str, bytes]] = set()
        self._began_ns = 0

    @property
    def taken(self) -> frozenset[str]:
        """The paths that aren't the image's, root-relative."""
        return frozenset(os.fsdecode(path) for path in self.rootfs.excluded | self._masked.mounts)

    # --- contexts

    def free(self, contexts: Mapping[str, Rootfs], folders: Iterable[str]) -> dict[str, Rootfs]:
        """Move what contexts are taken from out of an image's way, where it isn't mounted; the contexts afterwards.

        Args:
            folders: those of this machine that contexts are, or are parts of.

        Raises:
            FileSystemError
        """
        for folder in sorted({os.path.realpath(path) for path in folders}):
            if self._now(folder) == folder:
                self._free(folder)
        return {name: Rootfs(self._now(root.path)) for name, root in contexts.items()}

    def _free(self, folder: str) -> None:
        path = _relative(folder)
        mount = self._masked.mount_of(path)
        if mount is None or self.rootfs.is_excluded(path):
            return  # nothing of an image ever comes there
        needed = any(each.startswith(path + b"/") for each in self._needed)
        if needed or mount != path or not self._masked.can_release(path):
            self._contexts.add(mount)
            return
        aside = os.path.join(self._aside, str(len(self._moved)))
        os.mkdir(aside, 0o700)
        _put_aside(folder, aside)
        self._moved.append((folder, aside))
        self._masked.release(path)

    def _now(self, path: str) -> str:
        for before, aside in self._moved:
            if path == before or path.startswith(before + "/"):
                return aside + path[len(before) :]
        return path

    def close(self) -> None:
        """Bring the contexts back to where they were, in the place of what an image has there."""
        for folder, aside in self._moved:
            try:
                self._clear(folder)
                os.makedirs(folder, exist_ok=True)
                tree.move_tree(Rootfs(aside), Rootfs(folder))
            except (OSError, FileSystemError) as error:
                self._reporter.warning(f'cannot move the build context back to "{folder}": {error}')
        self._moved.clear()

    def _clear(self, folder: str) -> None:
        """Remove what an image has in the place of a folder; mounts, which may have been moved there, are left alone."""
        above, name = os.path.split(os.fsencode(folder))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.rootfs.directory(above.strip(b"/")) as fd:
            parent = self.rootfs.path_of(fd)
            tree.remove_entry(fd, parent + b"/" + name if parent else name, self.rootfs)

    # --- steps

    def tell_of_hidden(self, changes: Changes) -> None:
        """Say once of each mount that what a COPY, ADD or WORKDIR brought there is in the image, and no RUN sees it."""
        for path in changes.written:
            mount = self._masked.mount_of(path)
            if mount is not None and self._is_new("hidden", mount):
                self._reporter.message(
                    f'"{_absolute(path)}" is in the image, but no RUN sees it: "{_absolute(mount)}" is mounted into this container'
                )

    def before_run(self, step: RunStep) -> None:
        """Get ready for a command.

        Raises:
            FileSystemError: reason ``PathNotAllowed``, where it would take for the image's what is mounted.
        """
        workdir = self.rootfs.resolve(os.fsencode(step.workdir.strip("/")))
        for mount in sorted(self._contexts):
            self._refuse_to_show_context(step, workdir, mount)
        mount_of_workdir = self._masked.mount_of(workdir)
        if mount_of_workdir is not None and not os.path.isdir(os.path.join(self.rootfs.path, os.fsdecode(workdir))):
            raise FileSystemError(
                f'cannot run a command in "{_absolute(workdir)}": "{_absolute(mount_of_workdir)}" is mounted into this '
                "container, and has no such folder",
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Mount the volume at another path, or let the build run in the namespace sandbox.",
            )
        self._began_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
        self._masked.before_command()

    def after_run(self) -> tuple[bytes, ...]:
        """Look what a command did to mounts, and say what of it isn't in the image; the image's entries that it moved."""
        changes = self._masked.after_command()
        for path in changes.lost:
            if self._is_new("lost", path.rpartition(b"/")[0]):
                self._reporter.warning(
                    f'RUN wrote "{_absolute(path)}", which is not in the image: the image has no folder there, and the '
                    "one on the disk leads to a mount"
                )
        ours = {self._masked.mount_of(path) for path in self._needed}
        for mount in self._masked.writable():
            if mount in ours or ("written", mount) in self._told:
                continue
            found = changed_since(os.path.join(os.fsencode(self.rootfs.path), mount), self._began_ns, _LOOKED_AT)
            if found is not None and self._is_new("written", mount):
                self._reporter.warning(
                    f'"{os.fsdecode(found)}" changed during RUN, and is not in the image: "{_absolute(mount)}" is mounted into '
                    "this container"
                )
        return changes.moved

    def hint(self, step: RunStep, output: Sequence[str]) -> str:
        """What to do about a command that failed since it wanted to replace, remove or change a mount; "" for others."""
        refused = [line for line in output if _BUSY in line or _READ_ONLY in line]
        mounts = sorted(_absolute(mount) for mount in self._masked.mounts)
        named: list[str] = []
        if refused:
            # sed -i names its own temporary file: then the command says which was meant.
            texts = ("\n".join(refused), _text(step))
            named = next((found for text in texts if (found := [each for each in mounts if _names(text, each)])), [])
        if not named and any(_BUSY in line for line in refused):
            named = mounts
        if not named:
            return ""
        shown = ", ".join(f'"{mount}"' for mount in named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
        verb = "is" if len(named) == 1 else "are"
        return (
            f"{shown} {verb} mounted into this container, so that no RUN can replace or remove it: mount it at another path, "
            "or let the build run in the namespace sandbox."
        )

    def _refuse_to_show_context(self, step: RunStep, workdir: bytes, mount: bytes) -> None:
        place = _absolute(mount)
        if workdir == mount or workdir.startswith(mount + b"/"):
            why = f'its working directory "{_absolute(workdir)}" is in "{place}"'
        elif self._masked.hides(mount):
            why = f'it would not see the files that the image has in "{place}"'
        elif _names(_text(step), place):
            why = f'it names "{place}"'
        else:
            return
        raise FileSystemError(
            f"cannot run the command in the root sandbox: {why}, where the build context is mounted",
            reason=Reason.PATH_NOT_ALLOWED,
            hint="Mount the context at another path, for example /kaniko/context, or let the build run in the namespace sandbox.",
        )

    def _is_new(self, what: str, place: bytes) -> bool:
        known = (what, place) in self._told
        self._told.add((what, place))
        return not known


def _put_aside(folder: str, aside: str) -> None:
    """Bring what is in a folder to another: by renaming, or where that isn't possible as a copy, and all is left as it was.

    Raises:
        FileSystemError
    """
    renamed = []
    mtime_ns = os.stat(folder).st_mtime_ns  # it moves with what leaves
    try:
        for name in os.listdir(folder):
            os.rename(os.path.join(folder, name), os.path.join(aside, name))
            renamed.append(name)
    except OSError:  # another file system; a folder of a lower layer of overlayfs
        for name in renamed:
            os.rename(os.path.join(aside, name), os.path.join(folder, name))
        tree.copy_tree(Rootfs(folder), Rootfs(aside))
    else:
        source, target = Rootfs(folder), Rootfs(aside)
        copy_attributes(source.fd, target.fd)
        os.utime(target.fd, ns=(mtime_ns, mtime_ns))


def _text(step: RunStep) -> str:
    return "\n".join((*step.argv, step.script.content if step.script is not None else ""))


def _names(text: str, path: str) -> bool:
    """Whether a text names a path, or one below it."""
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", text) is not None


def _relative(path: str) -> bytes:
    return os.fsencode(os.path.realpath(path).strip("/"))


def _absolute(path: bytes) -> str:
    return "/" + os.fsdecode(path)

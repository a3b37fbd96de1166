"""COPY and ADD: files of a context, stage or image into a root file system (Dockerfile reference, "COPY" and "ADD").

Reads below the source's root and writes below the target's. Called by the engine. It knows what it wrote, so no scan
follows it. BuildKit's behaviour is followed where builders differ; each corner is named where it is decided.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from imagewright.errors import FileSystemError, Reason
from imagewright.fs import archive, glob
from imagewright.fs.changes import Changes
from imagewright.fs.fileops import Attributes, FileCopier, read_xattrs
from imagewright.fs.mode import ModeChange
from imagewright.fs.places import Places
from imagewright.fs.rootfs import Rootfs, explain
from imagewright.fs.tree import MAX_DEPTH, Ownership, real_path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Ignore(Protocol):
    """What .dockerignore hides; paths are relative to the context, with ``/``."""

    def ignores(self, path: str, /) -> bool: ...

    def may_include_below(self, directory: str, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    ``patterns`` are relative to the source's root. ``destination`` is absolute; its trailing ``/`` says that a folder
    is meant. Without ``ownership``, files belong to 0:0, or with ``preserve_owner`` (``--from``) to whom they did.
    ``extract`` unpacks archives (ADD).
    """

    source: Rootfs
    patterns: tuple[str, ...]
    destination: str
    ownership: Ownership | None = None
    mode: ModeChange | None = None
    extract: bool = False
    ignore: Ignore | None = None
    preserve_owner: bool = False


def copy(rootfs: Rootfs, request: CopyRequest) -> Changes:
    """Carry a request out; the changes that it made.

    Raises:
        FileSystemError: ``FileNotFound`` for a source that isn't there; ``PathNotAllowed`` where the destination is
            not the image's, or a folder and a file are in each other's place.
    """
    copier = _Copier(rootfs, request)
    try:
        return copier.run()
    except OSError as error:
        raise explain(error, f"copying to {request.destination}") from error
    finally:
        copier.close()


class _Copier:
    def __init__(self, rootfs: Rootfs, request: CopyRequest) -> None:
        self._rootfs = rootfs
        self._request = request
        self._places = Places(rootfs)
        self._files = FileCopier()
        self._written: set[bytes] = set()

    def close(self) -> None:
        self._files.close()
        self._places.close()

    def run(self) -> Changes:
        matches = [match for pattern in self._request.patterns for match in self._matches(pattern)]
        for match in matches:
            self._copy_match(match, many=len(matches) > 1)
        return Changes(tuple(sorted(self._written)), ())

    # --- sources

    def _matches(self, pattern: str) -> list[bytes]:
        clean = _clean(pattern)
        if not glob.has_wildcard(pattern):
            return [os.fsencode(clean)]
        found = glob.expand(self._request.source, clean)
        # A wildcard that matches nothing copies nothing (BuildKit's AllowEmptyWildcard).
        return [path for path in found if not self._is_hidden(path)]

    def _is_hidden(self, path: bytes) -> bool:
        """Whether .dockerignore hides it wholly: a folder may hold exceptions."""
        ignore = self._request.ignore
        text = os.fsdecode(path)
        return ignore is not None and bool(path) and ignore.ignores(text) and not ignore.may_include_below(text)

    @contextmanager
    def _source(self, path: bytes) -> Iterator[tuple[bytes, int, os.stat_result]]:
        """(real path, O_PATH descriptor, metadata) of a source; a link at its end is followed inside the root."""
        source = self._request.source
        try:
            fd = source.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise self._missing(path) from error
            raise
        try:
            info = os.fstat(fd)
            real = os.readlink(b"/proc/self/fd/%d" % fd)
            root = os.readlink(b"/proc/self/fd/%d" % source.fd)
            real = real.removeprefix(root).strip(b"/")
            if self._is_hidden(real) or source.is_excluded(real):
                raise self._missing(path)
            yield real, fd, info
        finally:
            os.close(fd)

    def _missing(self, path: bytes) -> FileSystemError:
        text = os.fsdecode(path)
        if self._request.ignore is not None:
            hint = "Paths are relative to the context's folder."
            if self._is_hidden(path):
                hint = f".dockerignore hides it: add a line !{text} there, or copy something else."
            where = "the build context"
        else:
            hint = "Look at the path; it is that of the stage or image that --from names."
            where = "the source of --from"
        return FileSystemError(f"/{text} is not in {where}", reason=Reason.FILE_NOT_FOUND, hint=hint)

    # --- destinations

    def _copy_match(self, path: bytes, *, many: bool) -> None:
        request = self._request
        destination = os.fsencode(_clean(request.destination))
        wants_folder = request.destination.endswith(("/", "/.")) or many or not destination
        with self._source(path) as (real, fd, info):
            if stat.S_ISDIR(info.st_mode):
                opened = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._copy_contents(real, opened, info, destination)
                finally:
                    os.close(opened)
                return
            if request.extract and stat.S_ISREG(info.st_mode) and self._extract(fd, destination):
                return
            name = (path or real).rpartition(b"/")[2]
            if not wants_folder:
                wants_folder = self._places.existing(destination) is not None
            target = (destination + b"/" + name if destination else name) if wants_folder else destination
            if not target:
                raise FileSystemError("a file can't be copied onto /", reason=Reason.PATH_NOT_ALLOWED)
            parent, _, target_name = target.rpartition(b"/")
            folder = self._folder(parent)
            below = self._real(folder)
            source_folder = request.source.open_directory(real.rpartition(b"/")[0])
            try:
                self._copy_file((source_folder, real.rpartition(b"/")[2]), (folder, target_name), info, below)
            finally:
                os.close(source_folder)

    def _folder(self, path: bytes) -> int:
        """The folder at ``path`` of the target; missing ones are made, with mode 0755 and the owner of --chown."""
        if self._rootfs.is_excluded(path):
            raise self._not_allowed(path)
        return self._places.directory(path, self._make_folder)

    def _make_folder(self, parent: int, name: bytes) -> None:
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            owner = self._request.ownership or Ownership(0, 0)
            os.fchown(fd, owner.uid, owner.gid)
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)
        self._written.add(_join(self._real(parent), name))

    def _real(self, folder: int) -> bytes:
        real = real_path(self._rootfs, folder)
        if self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        return real

    def _not_allowed(self, path: bytes) -> FileSystemError:
        return FileSystemError(
            f"/{os.fsdecode(path)} can't be written: it is the executor's own, not the image's",
            reason=Reason.PATH_NOT_ALLOWED,
            hint="Copy to another folder, or let the build run in the namespace sandbox, which has a root of its own.",
        )

    # --- copying

    def _copy_contents(self, path: bytes, source: int, info: os.stat_result, destination: bytes) -> None:
        """A folder's contents into ``destination``. An existing folder keeps its own mode and owner, a new one gets the source's."""
        existed = self._places.existing(destination) is not None
        folder = self._folder(destination)
        real = self._real(folder)
        self._copy_folder((path, source), (real, folder), 0)
        if not existed:
            self._folder_metadata(source, folder, info)
            self._written.add(real)
        elif real:
            # The folder's time moved with what came into it.
            self._written.add(real)

    def _copy_folder(self, source: tuple[bytes, int], target: tuple[bytes, int], depth: int) -> None:
        request, ignore = self._request, self._request.ignore
        path, source_fd = source
        if depth > MAX_DEPTH:
            raise FileSystemError(
                f"/{os.fsdecode(path)[:200]}… is deeper than {MAX_DEPTH} folders", reason=Reason.LIMIT_EXCEEDED
            )
        with os.scandir(source_fd) as entries:
            found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
        found.sort(key=lambda pair: pair[0])
        for name, info in found:
            place = _join(path, name)
            if request.source.excluded and request.source.is_excluded(place):
                continue
            ignored = ignore is not None and ignore.ignores(os.fsdecode(place))
            if not stat.S_ISDIR(info.st_mode):
                if not ignored:
                    self._copy_file((source_fd, name), (target[1], name), info, target[0])
            elif not ignored or (ignore is not None and ignore.may_include_below(os.fsdecode(place))):
                self._copy_subfolder((place, source_fd), target, info, depth, hidden=ignored)

    def _copy_subfolder(
        self, source: tuple[bytes, int], target: tuple[bytes, int], info: os.stat_result, depth: int, *, hidden: bool
    ) -> None:
        """One folder in a folder. A hidden one is there only where something below it is not hidden."""
        place, above = source
        name = place.rpartition(b"/")[2]
        below = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            if hidden and not self._shows_something(place, below):
                return
            real = _join(target[0], name)
            if self._rootfs.excluded and self._rootfs.is_excluded(real):
                raise self._not_allowed(real)
            try:
                os.mkdir(name, 0o700, dir_fd=target[1])
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(name, dir_fd=target[1], follow_symlinks=False).st_mode):
                    raise FileSystemError(
                        f"the folder /{os.fsdecode(place)} can't be copied over /{os.fsdecode(real)}, which is none",
                        reason=Reason.PATH_NOT_ALLOWED,
                        hint="Copy it to where the link points, or remove what is in the way in an earlier RUN.",
                    ) from None
            self._written.add(real)
            folder = os.open(name, _DIRECTORY, dir_fd=target[1])
            try:
                self._copy_folder((place, below), (real, folder), depth + 1)
                self._folder_metadata(below, folder, info)
            finally:
                os.close(folder)
        finally:
            os.close(below)

    def _shows_something(self, path: bytes, fd: int) -> bool:
        """Whether a hidden folder holds something that .dockerignore takes in again."""
        ignore = self._request.ignore
        assert ignore is not None
        with os.scandir(fd) as entries:
            for entry in entries:
                place = _join(path, os.fsencode(entry.name))
                text = os.fsdecode(place)
                if not ignore.ignores(text):
                    return True
                if entry.is_dir(follow_symlinks=False) and ignore.may_include_below(text):
                    below = os.open(entry.name, _DIRECTORY, dir_fd=fd)
                    try:
                        if self._shows_something(place, below):
                            return True
                    finally:
                        os.close(below)
        return False

    def _copy_file(
        self, source: tuple[int, bytes], target: tuple[int, bytes], info: os.stat_result, below: bytes
    ) -> None:
        real = _join(below, target[1])
        if self._rootfs.excluded and self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        attributes = self._attributes(info)
        try:
            self._files.copy_entry(source, target, info, attributes)
        except FileExistsError:
            try:
                os.unlink(target[1], dir_fd=target[0])
            except (IsADirectoryError, PermissionError):
                raise FileSystemError(
                    f"the file {os.fsdecode(source[1])} can't be copied over the folder /{os.fsdecode(real)}",
                    reason=Reason.PATH_NOT_ALLOWED,
                    hint="End the destination with / to copy into the folder.",
                ) from None
            self._places.forget()
            self._files.copy_entry(source, target, info, attributes)
        if not stat.S_ISSOCK(info.st_mode):
            self._written.add(real)

    def _attributes(self, info: os.stat_result) -> Attributes:
        request = self._request
        mode = request.mode
        return Attributes(
            self._owner(info),
            None if mode is None else mode.apply(stat.S_IMODE(info.st_mode), is_directory=stat.S_ISDIR(info.st_mode)),
        )

    def _owner(self, info: os.stat_result) -> tuple[int, int]:
        if self._request.ownership is not None:
            return self._request.ownership.uid, self._request.ownership.gid
        return (info.st_uid, info.st_gid) if self._request.preserve_owner else (0, 0)

    def _folder_metadata(self, source: int, target: int, info: os.stat_result) -> None:
        attributes = self._attributes(info)
        os.fchown(target, *self._owner(info))
        os.fchmod(target, stat.S_IMODE(info.st_mode) if attributes.mode is None else attributes.mode)
        for name, value in read_xattrs(source).items():
            os.setxattr(target, name, value)
        os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))

    # --- archives

    def _extract(self, fd: int, destination: bytes) -> bool:
        """Unpack an archive into ``destination``; False where the file is none."""
        with open(b"/proc/self/fd/%d" % fd, "rb", buffering=0) as file:
            if not archive.is_tar(file):
                return False
            real = self._real(self._folder(destination))
            owner = self._request.ownership
            written = archive.extract(self._rootfs, file, real, (owner.uid, owner.gid) if owner else None)
        self._places.forget()
        parents: dict[bytes, bytes] = {}
        for path in written:
            parent, _, name = path.rpartition(b"/")
            if parent not in parents:
                with self._rootfs.directory(parent) as folder:
                    parents[parent] = real_path(self._rootfs, folder)
            self._written.add(_join(parents[parent], name))
        return True


def _clean(path: str) -> str:
    """Relative to the root, without ``.``; ``..`` can't leave it (BuildKit clamps)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name

"""COPY and ADD: files of a context, stage or image into a root file system (Dockerfile reference, "COPY" and "ADD").

Reads below the source's root and writes below the target's. Called by the engine. It knows what it wrote, so no scan
follows it. BuildKit's behaviour is followed where builders differ; each corner is named where it is decided.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from imagewright.errors import FileSystemError, Reason
from imagewright.fs import archive, glob
from imagewright.fs.changes import Changes
from imagewright.fs.fileops import Attributes, FileCopier, copy_attributes, make_folder, open_folder
from imagewright.fs.filters import Below, Ignore, Only, together
from imagewright.fs.mode import ModeChange
from imagewright.fs.places import Places
from imagewright.fs.rootfs import Rootfs, explain
from imagewright.fs.sources import Source, Sources, clean
from imagewright.fs.tree import MAX_DEPTH, Ownership, too_deep

_NEW_FOLDER = 0o755  # without --chmod


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    ``patterns`` are relative to the source's root. ``destination`` is absolute; its trailing ``/`` says that a folder
    is meant. Without ``ownership``, files belong to 0:0, or with ``preserve_owner`` (``--from``) to whom they did.
    ``extract`` unpacks archives (ADD). ``exclude`` is asked about paths below what is copied, a file's own name
    included. ``only`` are the matchers of the patterns, one each, for ``--parents``: the folders above what matches are
    copied too, but for those before ``/./``. ``several``: there are more sources than these.
    """

    source: Rootfs
    patterns: tuple[str, ...]
    destination: str
    ownership: Ownership | None = None
    mode: ModeChange | None = None
    extract: bool = False
    ignore: Ignore | None = None
    preserve_owner: bool = False
    exclude: Ignore | None = None
    only: tuple[ParentsPattern, ...] = ()
    several: bool = False


@dataclass(frozen=True, slots=True)
class ParentsPattern:
    """A source of ``COPY --parents``: ``pattern`` is relative to the folder ``base``, ``matcher`` says what it names."""

    base: str
    pattern: str
    matcher: Ignore


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


def filtered(request: CopyRequest, base: bytes, only: ParentsPattern | None = None) -> Sources:
    """The sources as they are seen while ``base`` is copied: --exclude is relative to that, .dockerignore to the context.

    ``only`` is the pattern of --parents that ``base`` is the folder of.
    """
    place = os.fsdecode(base)
    exclude = request.exclude and Below(request.exclude, place)
    matching = Below(Only(only.matcher, only.pattern), place) if only is not None else None
    return Sources(request.source, together(request.ignore, exclude, matching))


class _Copier:
    def __init__(self, rootfs: Rootfs, request: CopyRequest) -> None:
        self._rootfs = rootfs
        self._request = request
        self._sources = Sources(request.source, request.ignore)  # while a source is copied: as it is filtered
        self._places = Places(rootfs)
        self._files = FileCopier(rootfs)
        self._written: set[bytes] = set()
        self._folder_mode = _folder_mode(request.mode)

    def close(self) -> None:
        self._places.close()

    def run(self) -> Changes:
        request = self._request
        if request.only:
            for pattern in request.only:
                self._copy_with_parents(pattern)
        else:
            matches = self._sources.matches(request.patterns)
            for match in matches:
                with self._sources.open(match) as source, self._filtered(source.path):
                    self._copy_match(source, many=len(matches) > 1 or request.several)
        return Changes(tuple(sorted(self._written)), ())

    @contextmanager
    def _filtered(self, base: bytes, only: ParentsPattern | None = None) -> Iterator[None]:
        whole, self._sources = self._sources, filtered(self._request, base, only)
        yield
        self._sources = whole

    # --- destinations

    def _copy_with_parents(self, pattern: ParentsPattern) -> None:
        base = os.fsencode(clean(pattern.base))
        place = clean(f"{pattern.base}/{pattern.pattern}")
        with self._sources.open(base) as source:
            if not glob.has_wildcard(place):
                self._check_parents(os.fsencode(place), source.path, os.fsencode(clean(pattern.pattern)))
            with self._filtered(source.path, pattern):
                self._copy_contents(source, os.fsencode(clean(self._request.destination)))

    def _check_parents(self, place: bytes, base: bytes, pattern: bytes) -> None:
        """``pattern`` below ``base`` must be there, and not behind a link: what is kept is where things are (BuildKit)."""
        with self._sources.open(place):
            pass
        above, _, name = pattern.rpartition(b"/")
        parent = _join(base, above) if above else base
        with self._sources.open(parent) as folder:
            if folder.path != parent:
                raise FileSystemError(
                    f"/{os.fsdecode(place)} is reached by a symbolic link, which --parents does not follow",
                    reason=Reason.FILE_NOT_FOUND,
                    hint=f"Name it by where it is: /{os.fsdecode(_join(folder.path, name))}.",
                )

    def _copy_match(self, source: Source, *, many: bool) -> None:
        request = self._request
        destination = os.fsencode(clean(request.destination))
        if stat.S_ISDIR(source.info.st_mode):
            self._copy_contents(source, destination)
            return
        if request.exclude is not None and request.exclude.ignores(os.fsdecode(source.name)):
            return
        if request.extract and stat.S_ISREG(source.info.st_mode) and self._extract(source.fd, destination):
            return
        into_folder = not destination or request.destination.endswith(("/", "/."))
        if into_folder or self._places.existing(destination) is not None:
            destination = destination + b"/" + source.name if destination else source.name
        elif many:
            raise FileSystemError(
                f"several files can't become the one file {request.destination}",
                reason=Reason.USAGE_INVALID,
                hint=f"With several sources the destination is a folder; end it with a slash: {request.destination}/",
            )
        parent, _, name = destination.rpartition(b"/")
        folder = self._folder(parent)
        source_folder, _, source_name = source.path.rpartition(b"/")
        with request.source.directory(source_folder) as fd:
            self._copy_file((fd, source_name), (folder, name), source.info, self._real(folder))

    def _folder(self, path: bytes, mode: int | None = None) -> int:
        """The folder at ``path`` of the target; missing ones are made, with the owner and mode of --chown and --chmod.

        ``mode`` is one for them instead of that of --chmod.
        """
        if self._rootfs.is_excluded(path):
            raise self._not_allowed(path)
        return self._places.directory(path, partial(self._make_folder, self._folder_mode if mode is None else mode))

    def _make_folder(self, mode: int, parent: int, place: bytes) -> None:
        if self._rootfs.is_excluded(place):
            raise self._not_allowed(place)
        request = self._request
        owner = request.ownership or Ownership(0, 0)
        make_folder(self._rootfs, parent, place, (owner.uid, owner.gid), mode)
        self._written.add(place)

    def _real(self, folder: int) -> bytes:
        real = self._rootfs.path_of(folder)
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

    def _copy_contents(self, source: Source, destination: bytes) -> None:
        """A folder's contents into ``destination``, which never gets the folder's own owner and mode (BuildKit)."""
        existed = self._places.existing(destination) is not None
        folder = self._folder(destination)
        real = self._real(folder)
        opened = os.open(b"/proc/self/fd/%d" % source.fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._copy_folder((source.path, opened), (real, folder), 0)
        finally:
            os.close(opened)
        if not existed:  # the clock would be a different one on every build
            os.utime(folder, ns=(source.info.st_mtime_ns, source.info.st_mtime_ns))
        elif real:
            self._written.add(real)  # its time moved with what came into it

    def _copy_folder(self, source: tuple[bytes, int], target: tuple[bytes, int], depth: int) -> None:
        sources = self._sources
        path, source_fd = source
        if depth > MAX_DEPTH:
            raise too_deep(path)
        with os.scandir(source_fd) as entries:
            found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
        found.sort(key=lambda pair: pair[0])
        for name, info in found:
            place = _join(path, name)
            if sources.root.excluded and sources.root.is_excluded(place):
                continue
            hidden = sources.hides(place)
            if stat.S_ISDIR(info.st_mode):
                self._copy_subfolder((place, source_fd), target, info, depth, hidden=hidden)
            elif not hidden:
                self._copy_file((source_fd, name), (target[1], name), info, target[0])

    def _copy_subfolder(
        self, source: tuple[bytes, int], target: tuple[bytes, int], info: os.stat_result, depth: int, *, hidden: bool
    ) -> None:
        """One folder in a folder. A hidden one is there only where something below it is not hidden."""
        place, above = source
        name = place.rpartition(b"/")[2]
        with open_folder(above, name) as below:
            if hidden and not self._sources.shows_below(place, below):
                return
            real = _join(target[0], name)
            if self._rootfs.excluded and self._rootfs.is_excluded(real):
                raise self._not_allowed(real)
            existed = False
            try:
                self._rootfs.mkdir(target[1], real)
            except FileExistsError:
                home = self._rootfs.home(target[1], real)
                if not stat.S_ISDIR(os.stat(name, dir_fd=home, follow_symlinks=False).st_mode):
                    raise FileSystemError(
                        f"the folder /{os.fsdecode(place)} can't be copied over /{os.fsdecode(real)}, which is none",
                        reason=Reason.PATH_NOT_ALLOWED,
                        hint="Copy it to where the link points, or remove what is in the way in an earlier RUN.",
                    ) from None
                existed = True
            self._written.add(real)
            with open_folder(self._rootfs.home(target[1], real), name) as folder:
                self._copy_folder((place, below), (real, folder), depth + 1)
                attributes = self._attributes(info)
                if existed and hidden and self._request.only:  # on the way to what --parents copies (BuildKit)
                    before = os.fstat(folder)
                    attributes = replace(attributes, owner=(before.st_uid, before.st_gid))
                copy_attributes(below, folder, attributes)

    def _copy_file(
        self, source: tuple[int, bytes], target: tuple[int, bytes], info: os.stat_result, below: bytes
    ) -> None:
        real = _join(below, target[1])
        if self._rootfs.excluded and self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        attributes = self._attributes(info)
        if stat.S_ISLNK(info.st_mode) and self._rootfs.make_way(real, os.readlink(source[1], dir_fd=source[0])):
            self._places.forget()
        target = (self._rootfs.home(target[0], real), target[1])
        try:
            self._files.copy_entry(source, target, info, attributes)
        except FileExistsError:
            try:
                self._files.remove(target)
            except (IsADirectoryError, PermissionError):
                raise FileSystemError(
                    f"the file {os.fsdecode(source[1])} can't be copied over the folder /{os.fsdecode(real)}",
                    reason=Reason.PATH_NOT_ALLOWED,
                    hint="Remove the folder in an earlier RUN, or name another destination."
                    if self._request.destination.endswith("/")
                    else "End the destination with / to copy into the folder.",
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

    # --- archives

    def _extract(self, fd: int, destination: bytes) -> bool:
        """Unpack an archive into ``destination``; False where the file is none."""
        with open(b"/proc/self/fd/%d" % fd, "rb", buffering=0) as file:
            if not archive.is_tar(file):
                return False
            # --chmod is not for what comes out of an archive, nor for the folders that are made for it (BuildKit).
            real = self._real(self._folder(destination, _NEW_FOLDER))
            owner = self._request.ownership
            written = archive.extract(self._rootfs, file, real, (owner.uid, owner.gid) if owner else None)
        self._places.forget()
        for path in written:
            parent, _, name = path.rpartition(b"/")
            folder = self._places.existing(parent)
            # A later entry of the archive may have taken the place of an earlier one's folder.
            if folder is None:
                continue
            place = _join(self._real(folder), name)
            if _exists(self._rootfs.home(folder, place), name):
                self._written.add(place)
        return True


def _folder_mode(mode: ModeChange | None) -> int:
    """Of a folder made on the way: an octal --chmod without its special bits; a symbolic one is not for it (BuildKit)."""
    return _NEW_FOLDER if mode is None or mode.octal is None else mode.octal & 0o777


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name

"""COPY and ADD: files of a context, stage or image into a root file system (Dockerfile reference, "COPY" and "ADD").

Reads below the source's root and writes below the target's. Called by the engine. It knows what it wrote, so no scan
follows it. BuildKit's behaviour is followed where builders differ; each corner is named where it is decided.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from imagewright.descent import Descent, Walk, run
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy import archive, glob
from imagewright.fs.copy.filters import Ignore, OnlyMatching, RelativeTo, combine
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.sources import Source, Sources, clean
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.paths import check_length, join, quote_path
from imagewright.fs.rootfs.attributes import Attributes, Ownership, copy_attributes
from imagewright.fs.rootfs.directorycache import DirectoryCache, link_target
from imagewright.fs.rootfs.entrystate import EntryState
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.filecopy import FileCopier, make_directory
from imagewright.fs.rootfs.root import Rootfs

_NEW_DIRECTORY = 0o755  # without --chmod


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    ``patterns`` are relative to the source's root. ``destination`` is absolute; its trailing ``/`` says that a directory
    is meant. Without ``ownership``, files belong to 0:0, or with ``preserve_owner`` (``--from``) to whom they did.
    ``extract`` unpacks archives (ADD). ``exclude`` is asked about paths below what is copied, a file's own name
    included. ``only`` are the matchers of the patterns, one each, for ``--parents``: the directories above what matches are
    copied too, but for those before ``/./``.
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


@dataclass(frozen=True, slots=True)
class ParentsPattern:
    """A source of ``COPY --parents``: ``pattern`` is relative to the directory ``base``, ``matcher`` says what it names."""

    base: str
    pattern: str
    matcher: Ignore


def copy(rootfs: Rootfs, *requests: CopyRequest) -> Changes:
    """Carry the requests of one instruction out, in order; the changes that they made. What is written over its equal is none.

    Raises:
        FileSystemError: ``FileNotFound`` for a source that isn't there; ``PathNotAllowed`` where the destination is
            not the image's, or a directory and a file are in each other's place; ``UsageInvalid`` where several files would
            have one name.
    """
    written: set[bytes] = set()
    files: dict[bytes, tuple[str, bytes]] = {}
    for request in requests:
        copier = _Copier(rootfs, request, written, files)
        try:
            copier.run()
        except OSError as error:
            raise explain(error, f'copy to "{request.destination}"') from error
        finally:
            copier.close()
    return Changes(tuple(sorted(written)), ())


def filtered(request: CopyRequest, base: bytes, only: ParentsPattern | None = None) -> Sources:
    """The sources as they are seen while ``base`` is copied: --exclude is relative to that, .dockerignore to the context.

    ``only`` is the pattern of --parents that ``base`` is the directory of.
    """
    place = os.fsdecode(base)
    exclude = request.exclude and RelativeTo(request.exclude, place)
    matching = RelativeTo(OnlyMatching(only.matcher, only.pattern), place) if only is not None else None
    return Sources(request.source, combine(request.ignore, exclude, matching))


class _Copier:
    """Carries one request out. ``written`` and ``files``, the sources of files that are not in a directory by where they went, are
    of the whole instruction.
    """

    def __init__(
        self, rootfs: Rootfs, request: CopyRequest, written: set[bytes], files: dict[bytes, tuple[str, bytes]]
    ) -> None:
        self._rootfs = rootfs
        self._request = request
        self._sources = Sources(request.source, request.ignore)  # while a source is copied: as it is filtered
        self._directories = DirectoryCache(rootfs)
        self._files = FileCopier(rootfs)
        self._written = written
        self._single = files
        self._directory_mode = _directory_mode(request.mode)

    def close(self) -> None:
        self._directories.close()

    def run(self) -> None:
        request = self._request
        for pattern in request.only:
            self._copy_with_parents(pattern)
        for match in () if request.only else self._sources.matches(request.patterns):
            with self._sources.open(match) as source, self._filtered(source.path):
                self._copy_match(source)

    @contextmanager
    def _filtered(self, base: bytes, only: ParentsPattern | None = None) -> Iterator[None]:
        """While one source is copied. What is one file by hard links in two sources becomes two (BuildKit)."""
        whole, self._sources = self._sources, filtered(self._request, base, only)
        self._files = FileCopier(self._rootfs)
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
        parent = join(base, above) if above else base
        with self._sources.open(parent) as directory:
            if directory.path != parent:
                raise FileSystemError(
                    f"cannot copy {quote_path(place)}: it is reached by a symbolic link, which --parents does not follow",
                    reason=Reason.FILE_NOT_FOUND,
                    hint=f"Use its real path: {quote_path(join(directory.path, name))}.",
                )

    def _copy_match(self, source: Source) -> None:
        request = self._request
        destination = os.fsencode(clean(request.destination))
        if stat.S_ISDIR(source.info.st_mode):
            self._copy_contents(source, destination)
            return
        if request.exclude is not None and request.exclude.ignores(os.fsdecode(source.name)):
            return
        if request.extract and stat.S_ISREG(source.info.st_mode) and self._extract(source.fd, destination):
            return
        into_directory = not destination or request.destination.endswith(("/", "/."))
        if into_directory or self._directories.find(destination) is not None:
            parent, name = destination, source.name
        else:
            parent, name = self._follow_link(destination)
            self._refuse_second(join(parent, name), source)
        directory = self._directory(parent)
        source_directory, _, source_name = source.path.rpartition(b"/")
        with request.source.directory(source_directory) as fd:
            self._copy_file((fd, source_name), (directory, name), source.info, self._real(directory))

    def _follow_link(self, destination: bytes) -> tuple[bytes, bytes]:
        """The directory and the name that a file goes to: a link at the end of what is written is followed (BuildKit)."""
        while True:
            parent, _, name = destination.rpartition(b"/")
            directory = self._directories.find(parent)
            if directory is None:
                return parent, name
            real = self._real(directory)
            target = link_target(self._rootfs.parent_fd(directory, join(real, name)), name)
            if target is None:
                return parent, name
            # No circle: who looked for a directory there would have met it.
            destination = target if target.startswith(b"/") else real + b"/" + target
            destination = b"/".join(part for part in destination.split(b"/") if part not in (b"", b"."))

    def _refuse_second(self, place: bytes, source: Source) -> None:
        """Of several files of one name the last would be left, and nobody told (BuildKit)."""
        origin = (self._request.source.path, source.path)
        if self._single.setdefault(place, origin) != origin:
            destination = self._request.destination
            raise FileSystemError(
                f'cannot copy several files to "{destination}": not a directory',
                reason=Reason.USAGE_INVALID,
                hint=f'End the destination with a slash: "{destination}/".',
            )

    def _directory(self, path: bytes, mode: int | None = None) -> int:
        """The directory at ``path`` of the target; missing ones are made, with the owner and mode of --chown and --chmod.

        ``mode`` is one for them instead of that of --chmod.
        """
        if self._rootfs.is_excluded(path):
            raise self._not_allowed(path)
        return self._directories.ensure(
            path, partial(self._make_directory, self._directory_mode if mode is None else mode)
        )

    def _make_directory(self, mode: int, parent: int, place: bytes) -> None:
        if self._rootfs.is_excluded(place):
            raise self._not_allowed(place)
        request = self._request
        owner = request.ownership or Ownership(0, 0)
        make_directory(self._rootfs, parent, place, (owner.uid, owner.gid), mode)
        self._written.add(place)

    def _real(self, directory: int) -> bytes:
        real = self._rootfs.path_of(directory)
        if self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        return real

    def _not_allowed(self, path: bytes) -> FileSystemError:
        return FileSystemError(
            f"cannot write to {quote_path(path)}: it belongs to the executor, not to the image",
            reason=Reason.PATH_NOT_ALLOWED,
            hint="Copy to another directory, or use the namespace sandbox, which has its own root.",
        )

    # --- copying

    def _copy_contents(self, source: Source, destination: bytes) -> None:
        """A directory's contents into ``destination``, which never gets the directory's own owner and mode (BuildKit)."""
        existed = self._directories.find(destination) is not None
        directory = self._directory(destination)
        real = self._real(directory)
        opened = os.open(b"/proc/self/fd/%d" % source.fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Descent(opened) as down, Descent(directory) as target:
                run(self._copying((source.path, down), (real, target)))
        finally:
            os.close(opened)
        if not existed:  # the clock would be a different one on every build
            os.utime(directory, ns=(source.info.st_mtime_ns, source.info.st_mtime_ns))

    def _copying(self, source: tuple[bytes, Descent], target: tuple[bytes, Descent]) -> Walk[None]:
        """What is in the directory where ``source`` is into the one where ``target`` is, each with its path."""
        sources = self._sources
        path, down = source
        check_length(path)
        with os.scandir(down.fd) as entries:
            found = [(os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in entries]
        found.sort(key=lambda pair: pair[0])
        for name, info in found:
            place = join(path, name)
            if sources.root.excluded and sources.root.is_excluded(place):
                continue
            hidden = sources.hides(place)
            if not stat.S_ISDIR(info.st_mode):
                if not hidden:
                    self._copy_file((down.fd, name), (target[1].fd, name), info, target[0])
                continue
            below = down.enter(name)
            # A hidden one is there only where something below it is not hidden.
            if not hidden or sources.shows_below(place, below):
                yield self._copying_directory((place, down), target, info, hidden=hidden)
            down.leave()

    def _copying_directory(
        self, source: tuple[bytes, Descent], target: tuple[bytes, Descent], info: os.stat_result, *, hidden: bool
    ) -> Walk[None]:
        """The directory that ``source`` is in now, into the one where ``target`` is."""
        place, down = source
        above, into = target
        name = place.rpartition(b"/")[2]
        real = join(above, name)
        if self._rootfs.excluded and self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        before = self._make_or_find(into.fd, place, real)
        into.enter(name, self._rootfs.parent_fd(into.fd, real))
        yield self._copying(source, (real, into))
        attributes = self._attributes(info)
        if before is not None and hidden and self._request.only:  # on the way to what --parents copies (BuildKit)
            there = os.fstat(into.fd)
            attributes = replace(attributes, owner=(there.st_uid, there.st_gid))
        copy_attributes(down.fd, into.fd, attributes)
        into.leave()
        if before is None or not before.equals((self._rootfs.parent_fd(into.fd, real), name)):
            self._written.add(real)

    def _make_or_find(self, directory: int, place: bytes, real: bytes) -> EntryState | None:
        """Make a directory of the target; what it is where it was there."""
        try:
            self._rootfs.mkdir(directory, real)
        except FileExistsError:
            home, name = self._rootfs.parent_fd(directory, real), real.rpartition(b"/")[2]
            if not stat.S_ISDIR(os.stat(name, dir_fd=home, follow_symlinks=False).st_mode):
                raise FileSystemError(
                    f"cannot copy directory {quote_path(place)} to {quote_path(real)}: a non-directory exists there",
                    reason=Reason.PATH_NOT_ALLOWED,
                    hint="Remove it in an earlier RUN, or, if it is a symbolic link, copy to its target.",
                ) from None
            return EntryState((home, name))
        return None

    def _copy_file(
        self, source: tuple[int, bytes], target: tuple[int, bytes], info: os.stat_result, below: bytes
    ) -> None:
        real = join(below, target[1])
        if self._rootfs.excluded and self._rootfs.is_excluded(real):
            raise self._not_allowed(real)
        attributes = self._attributes(info)
        if stat.S_ISLNK(info.st_mode) and self._rootfs.relocate_mounts(real, os.readlink(source[1], dir_fd=source[0])):
            self._directories.invalidate()
        target = (self._rootfs.parent_fd(target[0], real), target[1])
        try:
            self._files.copy_entry(source, target, info, attributes)
        except FileExistsError:
            with EntryState(target) as before:
                self._remove_for_file(source[1], target, real)
                self._files.copy_entry(source, target, info, attributes)
                if stat.S_ISSOCK(info.st_mode) or before.equals(target):
                    return
        if not stat.S_ISSOCK(info.st_mode):
            self._written.add(real)

    def _remove_for_file(self, name: bytes, target: tuple[int, bytes], real: bytes) -> None:
        try:
            self._files.remove(target)
        except (IsADirectoryError, PermissionError):
            raise FileSystemError(
                f'cannot copy file "{os.fsdecode(name)}" to {quote_path(real)}: a directory exists there',
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Remove the directory in an earlier RUN, or use another destination."
                if self._request.destination.endswith("/")
                else "End the destination with / to copy into the directory.",
            ) from None
        self._directories.invalidate()

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
            # --chmod is not for what comes out of an archive, nor for the directories that are made for it (BuildKit).
            real = self._real(self._directory(destination, _NEW_DIRECTORY))
            owner = self._request.ownership
            # The destination is the archive's root: no link in it or in the archive leads out of it (BuildKit).
            root = self._rootfs.below(real)
            written = archive.extract(root, file, (owner.uid, owner.gid) if owner else None)
        self._directories.invalidate()
        self._written.update(join(real, path) for path in written)
        return True


def _directory_mode(mode: ModeChange | None) -> int:
    """Of a directory made on the way: an octal --chmod without its special bits; a symbolic one is not for it (BuildKit)."""
    return _NEW_DIRECTORY if mode is None or mode.octal is None else mode.octal & 0o777


def copy_linked(rootfs: Rootfs, empty: Rootfs, requests: Sequence[CopyRequest]) -> Changes:
    """``COPY --link``: carry the requests out in ``empty``, an empty root, and apply the result to ``rootfs`` as a layer.

    So no link of the image is followed, and whatever is at a destination is replaced.

    Raises:
        FileSystemError: as ``fs.copy.copy``.
    """
    changes = copy(empty, *requests)
    with tempfile.TemporaryFile(dir=empty.path) as layer:
        pack_layer(empty, changes, layer, PackOptions("none"))
        layer.seek(0)
        unpack_layer(rootfs, layer)
    return changes

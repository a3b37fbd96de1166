"""COPY and ADD: copies files of a context, stage or image to a root file system (Dockerfile reference, "COPY", "ADD").

Reads below the source's root and writes to a target, on disk or virtual. It records what it writes, so no scan is
needed. Where builders differ it behaves as BuildKit; comments mark these cases.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Generic

from imagewright.descent import Descent, Walk, run
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy import archive, glob
from imagewright.fs.copy.filters import Ignore, ParentsPattern, combine, while_copying
from imagewright.fs.copy.mode import ModeChange
from imagewright.fs.copy.sources import Source, Sources, clean
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.paths import check_length, join, quote_path
from imagewright.fs.rootfs.attributes import Attributes, Ownership
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.choice import Root, target_of
from imagewright.fs.targets.model import D, SourceEntry, State, Target, Way
from imagewright.records import dataclass

_NEW_DIRECTORY = 0o755  # without --chmod


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    ``patterns`` are relative to the source's root. ``destination`` is absolute; a trailing ``/`` denotes a directory.
    Without ``ownership``, files belong to 0:0, or with ``preserve_owner`` (``--from``) to their present owners.
    ``extract``: unpack archives (ADD); a virtual root needs the folder ``spool`` for their files until they are packed.
    ``exclude`` applies to paths relative to each copied source, including the name of a single file. ``only``
    (``--parents``) has a matcher for each pattern: directories above a match are copied too, except those before
    ``/./``.
    """

    source: Rootfs
    patterns: tuple[str, ...]
    destination: str
    ownership: Ownership | None = None
    mode: ModeChange | None = None
    extract: bool = False
    spool: Rootfs | None = None
    ignore: Ignore | None = None
    preserve_owner: bool = False
    exclude: Ignore | None = None
    only: tuple[ParentsPattern, ...] = ()


def copy(root: Root, *requests: CopyRequest, mtime_limit_ns: int | None = None) -> Changes:
    """Carry out the requests of one instruction, in order; returns the changes. Overwriting an equal file is none.

    ``mtime_limit_ns``: modification times are compared as if they were no later than that, as layers have them.

    Raises:
        FileSystemError: ``FileNotFound`` for a missing source; ``PathNotAllowed`` if the destination does not belong to
            the image, or if a file would replace a directory or a directory a file; ``UsageInvalid`` if several files
            would get one name.
        NotVirtualError: it has to be done on disk; the root, a virtual one, is then of no use any more.
    """
    written: set[bytes] = set()
    files: dict[bytes, tuple[str, bytes]] = {}
    target = target_of(root, mtime_limit_ns)
    try:
        for request in requests:
            try:
                _Copier(target, request, written, files).run()
            except OSError as error:
                raise explain(error, f'copy to "{request.destination}"', full_hint=target.full_hint) from error
    finally:
        target.close()
    return Changes(tuple(sorted(written)), ())


def filtered(request: CopyRequest, base: bytes, only: ParentsPattern | None = None) -> Sources:
    """The sources as filtered while ``base`` is copied: as ``while_copying``, and by .dockerignore."""
    return Sources(request.source, combine(request.ignore, while_copying(base, request.exclude, only)))


class _Copier(Generic[D]):
    """Carries out one request. ``written`` and ``files`` are shared by all requests of the instruction; ``files`` are
    the sources of files copied to a destination that is not a directory, by destination.
    """

    def __init__(
        self, target: Target[D], request: CopyRequest, written: set[bytes], files: dict[bytes, tuple[str, bytes]]
    ) -> None:
        self._target = target
        self._request = request
        self._sources = Sources(request.source, request.ignore)  # filtered while a source is copied
        self._files = target.copier(request.source)
        self._equal: dict[tuple[int, int], bytes] = {}
        self._written = written
        self._single = files
        self._directory_mode = _directory_mode(request.mode)

    def run(self) -> None:
        request = self._request
        for pattern in request.only:
            self._copy_with_parents(pattern)
        for match in () if request.only else self._sources.matches(request.patterns):
            with self._sources.open(match) as source, self._filtered(source.path):
                self._copy_match(source)

    @contextmanager
    def _filtered(self, base: bytes, only: ParentsPattern | None = None) -> Iterator[None]:
        """Apply the filters while one source is copied. Hard links across sources become separate files (BuildKit)."""
        whole, self._sources = self._sources, filtered(self._request, base, only)
        self._files = self._target.copier(self._request.source)
        self._equal.clear()
        yield
        self._sources = whole

    # --- destinations

    def _copy_with_parents(self, pattern: ParentsPattern) -> None:
        base = os.fsencode(clean(pattern.base))
        path = clean(f"{pattern.base}/{pattern.pattern}")
        with self._sources.open(base) as source:
            if not glob.has_wildcard(path):
                self._check_parents(os.fsencode(path), source.path, os.fsencode(clean(pattern.pattern)))
            with self._filtered(source.path, pattern):
                self._copy_contents(source, os.fsencode(clean(self._request.destination)))

    def _check_parents(self, path: bytes, base: bytes, pattern: bytes) -> None:
        """``pattern`` below ``base`` must exist and not be behind a link: --parents keeps real paths (BuildKit)."""
        with self._sources.open(path):
            pass
        above, _, name = pattern.rpartition(b"/")
        parent = join(base, above) if above else base
        with self._sources.open(parent) as directory:
            if directory.path != parent:
                raise FileSystemError(
                    f"cannot copy {quote_path(path)}: --parents does not follow the symbolic link in its path",
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
        if into_directory or self._target.find(destination) is not None:
            parent, name = destination, source.name
        else:
            parent, name = self._follow_link(destination)
            self._refuse_second(join(parent, name), source)
        directory = self._directory(parent)
        source_directory, _, source_name = source.path.rpartition(b"/")
        with request.source.directory(source_directory) as fd:
            entry = SourceEntry(request.source, fd, source_directory, source_name)
            self._copy_file(entry, (directory, join(self._real(directory), name)), source.info)

    def _follow_link(self, destination: bytes) -> tuple[bytes, bytes]:
        """The directory and name to copy a file to: a link at the end of the destination is followed (BuildKit)."""
        while True:
            parent, _, name = destination.rpartition(b"/")
            directory = self._target.find(parent)
            if directory is None:
                return parent, name
            real = self._real(directory)
            target = self._target.link_target(directory, join(real, name))
            if target is None:
                return parent, name
            # Not a loop: looking for a directory there would have detected it.
            destination = target if target.startswith(b"/") else real + b"/" + target
            destination = b"/".join(part for part in destination.split(b"/") if part not in (b"", b"."))

    def _refuse_second(self, path: bytes, source: Source) -> None:
        """Refuse several files for one name, of which only the last would remain (BuildKit)."""
        origin = (self._request.source.path, source.path)
        if self._single.setdefault(path, origin) != origin:
            destination = self._request.destination
            raise FileSystemError(
                f'cannot copy several files to "{destination}": not a directory',
                reason=Reason.USAGE_INVALID,
                hint=f'End the destination with a slash: "{destination}/".',
            )

    def _directory(self, path: bytes, mode: int | None = None) -> D:
        """The directory at ``path`` of the target; missing ones are created, with --chown and --chmod applied.

        ``mode`` overrides --chmod.
        """
        if self._target.is_excluded(path):
            raise self._not_allowed(path)
        return self._target.ensure(path, partial(self._make_directory, self._directory_mode if mode is None else mode))

    def _make_directory(self, mode: int, parent: D, path: bytes) -> None:
        if self._target.is_excluded(path):
            raise self._not_allowed(path)
        owner = self._request.ownership or Ownership(0, 0)
        self._target.make_directory(parent, path, (owner.uid, owner.gid), mode)
        self._written.add(path)

    def _real(self, directory: D) -> bytes:
        real = self._target.path_of(directory)
        if self._target.is_excluded(real):
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
        """Copy the content of a directory to ``destination``, but not the directory's own owner and mode (BuildKit)."""
        existed = self._target.find(destination) is not None
        directory = self._directory(destination)
        real = self._real(directory)
        opened = os.open(b"/proc/self/fd/%d" % source.fd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Descent(opened) as down, self._target.way(directory) as into:
                run(self._copying((source.path, down), (real, into)))
        finally:
            os.close(opened)
        if not existed:  # the current time would differ in every build
            self._target.set_mtime(directory, source.info.st_mtime_ns)

    def _copying(self, source: tuple[bytes, Descent], target: tuple[bytes, Way[D]]) -> Walk[None]:
        """Copy the content of the current directory of ``source`` to that of ``target``; each comes with its path."""
        sources, seen = self._sources, self._sources.root.inodes.seen
        path, down = source
        above, into = target
        check_length(path)
        with os.scandir(down.fd) as entries:
            found = [(os.fsencode(entry.name), seen(entry.stat(follow_symlinks=False))) for entry in entries]
        found.sort(key=lambda pair: pair[0])
        for name, info in found:
            child = join(path, name)
            if sources.root.excluded and sources.root.is_excluded(child):
                continue
            hidden = sources.hides(child)
            if not stat.S_ISDIR(info.st_mode):
                if not hidden:
                    entry = SourceEntry(sources.root, down.fd, path, name)
                    self._copy_file(entry, (into.directory, join(above, name)), info)
                continue
            below = down.enter(name)
            # A hidden directory is copied only if something below it is not hidden.
            if not hidden or sources.shows_below(child, below):
                yield self._copying_directory((child, down), target, info, hidden=hidden)
            down.leave()

    def _copying_directory(
        self, source: tuple[bytes, Descent], target: tuple[bytes, Way[D]], info: os.stat_result, *, hidden: bool
    ) -> Walk[None]:
        """Copy the current directory of ``source`` into that of ``target``."""
        path, down = source
        above, into = target
        real = join(above, path.rpartition(b"/")[2])
        if self._target.is_excluded(real):
            raise self._not_allowed(real)
        before = self._make_or_find(into.directory, path, real)
        into.enter(real)
        yield self._copying(source, (real, into))
        attributes = self._attributes(info)
        if before is not None and hidden and self._request.only:  # above a match of --parents (BuildKit)
            attributes = replace(attributes, owner=self._target.owner_of(into.directory))
        self._target.copy_attributes((self._request.source, down.fd), into.directory, attributes)
        into.leave()
        if before is None or not before.equals(into.directory, real):
            self._written.add(real)

    def _make_or_find(self, directory: D, path: bytes, real: bytes) -> State[D] | None:
        """Create a directory of the target; returns its state if it existed."""
        try:
            self._target.mkdir(directory, real)
        except FileExistsError:
            if not stat.S_ISDIR(self._target.stat(directory, real)[0]):
                raise FileSystemError(
                    f"cannot copy directory {quote_path(path)} to {quote_path(real)}: a non-directory exists there",
                    reason=Reason.PATH_NOT_ALLOWED,
                    hint="Remove it in an earlier RUN, or, if it is a symbolic link, copy to its target.",
                ) from None
            return self._target.state(directory, real)
        return None

    def _copy_file(self, source: SourceEntry, target: tuple[D, bytes], info: os.stat_result) -> None:
        """Copy an entry other than a directory to the path ``target[1]`` in an open directory."""
        real = target[1]
        if self._target.is_excluded(real):
            raise self._not_allowed(real)
        attributes = self._attributes(info)
        if stat.S_ISSOCK(info.st_mode):
            return
        if stat.S_ISLNK(info.st_mode):
            self._target.relocate_mounts(real, os.readlink(source.name, dir_fd=source.fd))
        try:
            self._files.copy(source, target, info, attributes)
        except FileExistsError:
            with closing(self._target.state(*target)) as before:
                self._remove_for_file(source.name, target)
                self._files.copy(source, target, info, attributes)
                if before.equals(*target):
                    if info.st_nlink > 1:
                        self._equal[info.st_dev, info.st_ino] = real
                    return
        self._written.add(real)
        # With another name of an equal file it is written, too: else it would have two names here, and none in layers.
        if info.st_nlink > 1 and (first := self._equal.pop((info.st_dev, info.st_ino), None)) is not None:
            self._written.add(first)

    def _remove_for_file(self, name: bytes, target: tuple[D, bytes]) -> None:
        try:
            self._files.remove(*target)
        except (IsADirectoryError, PermissionError):
            raise FileSystemError(
                f'cannot copy file "{os.fsdecode(name)}" to {quote_path(target[1])}: a directory exists there',
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Remove the directory in an earlier RUN, or use another destination."
                if self._request.destination.endswith("/")
                else "End the destination with / to copy into the directory.",
            ) from None

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
        """Extract an archive to ``destination``; False if the file is not an archive."""
        with open(b"/proc/self/fd/%d" % fd, "rb", buffering=0) as file:
            if not archive.is_tar(file):
                return False
            # --chmod applies neither to extracted files nor to the directories created for them (BuildKit).
            real = self._real(self._directory(destination, _NEW_DIRECTORY))
            owner = self._request.ownership
            # The destination is the root for the archive: no link in either leads out of it (BuildKit).
            root = self._target.below(real, self._request.spool)
            written = archive.extract(root, file, (owner.uid, owner.gid) if owner else None)
        self._target.invalidate()
        self._written.update(join(real, path) for path in written)
        return True


def _directory_mode(mode: ModeChange | None) -> int:
    """The mode of created parents: an octal --chmod without special bits; a symbolic one is ignored (BuildKit)."""
    return _NEW_DIRECTORY if mode is None or mode.octal is None else mode.octal & 0o777


def copy_linked(rootfs: Rootfs, empty: Rootfs, requests: Sequence[CopyRequest]) -> Changes:
    """``COPY --link``: carry out the requests in ``empty``, an empty root; apply the result to ``rootfs`` as a layer.

    Links of the image are not followed, and whatever exists at a destination is replaced.

    Raises:
        FileSystemError: as ``copy``.
    """
    changes = copy(empty, *requests)
    with tempfile.TemporaryFile(dir=empty.path) as layer:
        pack_layer(empty, changes, layer, PackOptions("none"))
        layer.seek(0)
        unpack_layer(rootfs, layer)
    return changes

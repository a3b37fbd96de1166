"""Sources of COPY and ADD: patterns are expanded to entries, filtered by .dockerignore, links followed inside the root.

Reads directories below the source's root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imagewright.descent import Descent, Walk, run
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy import glob
from imagewright.fs.copy.filters import Ignore
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.root import Rootfs
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """An entry to copy: ``name`` at the destination, ``path`` its real path, ``fd`` an O_PATH descriptor."""

    name: bytes
    path: bytes
    fd: int
    info: os.stat_result


class Sources:
    """A context, stage or image as a source of COPY. ``ignore`` is None except for contexts."""

    def __init__(self, root: Rootfs, ignore: Ignore | None) -> None:
        self.root = root
        self._ignore = ignore
        self._showing: dict[bytes, bool] = {}  # hidden directories, and whether something below them is shown

    def matches(self, patterns: Sequence[str]) -> list[bytes]:
        """The paths that match the patterns, in the order of the patterns, sorted within each.

        A pattern without wildcards is not looked up yet. One with wildcards may match nothing (BuildKit).

        Raises:
            FileSystemError: for an invalid pattern.
        """
        found: list[bytes] = []
        for pattern in patterns:
            path = clean(pattern)
            if glob.has_wildcard(path):
                found += [match for match in glob.expand(self.root, path) if self._is_shown(match)]
            else:
                found.append(os.fsencode(path))
        return found

    @contextmanager
    def open(self, path: bytes) -> Iterator[Source]:
        """Open one of the matches; a link at its end is followed inside the root.

        Raises:
            FileSystemError: reason ``FileNotFound``.
        """
        try:
            fd = self.root.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise self._missing(path) from error
            raise
        try:
            real, info = self.root.path_of(fd), self.root.inodes.fstat(fd)
            hidden = self._is_hidden(real, is_directory=stat.S_ISDIR(info.st_mode))
            if hidden or self.root.is_excluded(real) or (real != path and not self._is_shown(path)):
                raise self._missing(path, hidden=hidden)
            yield Source((path or real).rpartition(b"/")[2], real, fd, info)
        finally:
            os.close(fd)

    def hides(self, path: bytes) -> bool:
        """Whether .dockerignore hides a path; below a hidden directory something may be shown (``shows_below``)."""
        return self._ignore is not None and bool(path) and self._ignore.ignores(os.fsdecode(path))

    def shows_below(self, path: bytes, fd: int) -> bool:
        """Whether a hidden directory, open as ``fd``, contains something that .dockerignore includes again."""
        if self._ignore is None:
            return False
        with Descent(fd) as down:
            return run(self._looking(self._ignore, down, path))

    def _looking(self, ignore: Ignore, down: Descent, path: bytes) -> Walk[bool]:
        shows = self._showing.get(path)
        if shows is None:
            shows = ignore.may_include_below(os.fsdecode(path)) and (yield self._finding(ignore, down, path))
            self._showing[path] = shows
        return shows

    def _finding(self, ignore: Ignore, down: Descent, path: bytes) -> Walk[bool]:
        with os.scandir(down.fd) as entries:
            found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in found:
            child = path + b"/" + name
            if not ignore.ignores(os.fsdecode(child)):
                return True
            if is_directory:
                down.enter(name)
                if (yield self._looking(ignore, down, child)):
                    return True
                down.leave()
        return False

    def _is_hidden(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether an entry is hidden with everything below it."""
        if not self.hides(path):
            return False
        if not is_directory:
            return True
        with self.root.directory(path) as fd:
            return not self.shows_below(path, fd)

    def _is_shown(self, path: bytes) -> bool:
        """Whether a path, which may contain links, may be named as a source."""
        if self.root.is_excluded(path):
            return False
        if not self.hides(path):
            return True
        try:
            mode = self.root.lstat(path).st_mode
        except OSError:
            return True  # opening it reports the error
        return stat.S_ISDIR(mode) and not self._is_hidden(path, is_directory=True)

    def _is_empty(self) -> bool:
        with self.root.directory(b"") as fd, os.scandir(fd) as entries:
            return next(entries, None) is None

    def _missing(self, path: bytes, *, hidden: bool = False) -> FileSystemError:
        text = os.fsdecode(path)
        if self._ignore is None:
            hint = "Check the path: it is relative to the root of the stage or image that --from names."
            where = "the source of --from"
        elif hidden or self.hides(path):
            hint = f"Add a line !{text} to .dockerignore, or to the Dockerfile's own ignore file, which excludes it."
            where = "the build context"
        elif self._is_empty():
            hint = "Give the build a context with files: this one is empty, as with an inline Dockerfile."
            where = "the build context"
        else:
            hint = "Check the path: it is relative to the root of the build context."
            where = "the build context"
        return FileSystemError(f"{quote_path(path)} not found in {where}", reason=Reason.FILE_NOT_FOUND, hint=hint)


def clean(path: str) -> str:
    """Make a path relative to the root, without ``.``; ``..`` cannot leave the root (as in BuildKit)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)

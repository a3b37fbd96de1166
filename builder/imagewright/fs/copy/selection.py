"""What of an image is read by a COPY or a mount, found in the image's virtual root.

No I/O. A copy from the part that is found here is the same as one from the whole image: every name that is looked up,
and every directory that is listed, shows what the whole one shows, as far as it matters.
"""

from __future__ import annotations

import os

from imagewright.errors import FileSystemError
from imagewright.fs.copy import glob
from imagewright.fs.copy.filters import Ignore, ParentsPattern, while_copying
from imagewright.fs.copy.sources import clean
from imagewright.fs.paths import join
from imagewright.fs.targets.nodes import Directory
from imagewright.fs.targets.part import Part
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """Sources in an image: ``patterns``, ``exclude`` and ``only`` as in ``CopyRequest``; or ``path``, of a mount."""

    patterns: tuple[str, ...] = ()
    exclude: Ignore | None = None
    only: tuple[ParentsPattern, ...] = ()
    path: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the image."""
        paths = self.patterns if self.path is None else (self.path,)
        return not self.only and any(not clean(path) for path in paths)

    def add_to(self, part: Part) -> None:
        """Add what is read to a part of the image. What doesn't exist is refused by the one who reads it.

        Raises:
            NotVirtualError: only a disk can tell where a link leads.
        """
        if self.path is not None:
            self._add_source(part, os.fsencode(self.path))
        elif self.only:
            for only in self.only:
                self._add_with_parents(part, only)
        else:
            for pattern in self.patterns:
                for path in _matches(part, clean(pattern)):
                    self._add_source(part, path)

    def _add_source(self, part: Part, path: bytes) -> None:
        node = part.add_path(path)
        if isinstance(node, Directory):
            base = node.path_below(part.top)
            _add_tree(part, node, base, while_copying(base, self.exclude, None))

    def _add_with_parents(self, part: Part, pattern: ParentsPattern) -> None:
        base = part.add_path(os.fsencode(clean(pattern.base)))
        path = clean(f"{pattern.base}/{pattern.pattern}")
        if isinstance(base, Directory):
            real = base.path_below(part.top)
            if not glob.has_wildcard(path):  # it is looked up before anything is copied
                part.add_path(os.fsencode(path))
                above = os.fsencode(clean(pattern.pattern)).rpartition(b"/")[0]
                part.add_path(join(real, above) if above else real)
            _add_tree(part, base, real, while_copying(real, self.exclude, pattern))


def _add_tree(part: Part, directory: Directory, path: bytes, hidden: Ignore | None) -> None:
    """Add what is below a directory and not hidden; hidden directories if something below them is not."""
    waiting = [(directory, path)]
    while waiting:
        directory, path = waiting.pop()
        for name, node in directory.children.items():
            child = join(path, name)
            hides = hidden is not None and hidden.ignores(os.fsdecode(child))
            if not hides:
                part.add(directory, name)
            if isinstance(node, Directory) and (
                not hides or hidden is None or hidden.may_include_below(os.fsdecode(child))
            ):
                waiting.append((node, child))


def _matches(part: Part, pattern: str) -> list[bytes]:
    """The paths that match a pattern, as ``Sources.matches``; none if the pattern is invalid."""
    if not glob.has_wildcard(pattern):
        return [os.fsencode(pattern)]
    parts = pattern.split("/")
    first = next(index for index, each in enumerate(parts) if glob.has_wildcard(each))
    above = os.fsencode("/".join(parts[:first]))
    directory = part.add_path(above)
    found = [(above, directory)]
    for each in parts[first:]:
        try:
            expression = glob.compiled(each)
        except FileSystemError:
            return []
        found = [
            (join(path, name), node)
            for path, directory in found
            if isinstance(directory, Directory)
            for name, node in directory.children.items()
            if expression.fullmatch(os.fsdecode(name))
        ]
    return [path for path, _ in found]

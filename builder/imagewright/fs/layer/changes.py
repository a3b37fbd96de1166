"""Changes of a step to a root file system; for a RUN the difference of two snapshots (layer.md, "Determining Changes").

No I/O. A file with a new ctime counts as changed, content included, until ``layer.unmodified`` has compared it. A
directory counts as changed only if its mode, owner or xattrs changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace

from imagewright.fs.layer.snapshot import Record, Snapshot
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Changes:
    """Root-relative paths without links, sorted bytewise: what was written, and what was removed (whiteouts).

    ``touched`` are those of ``written`` for which only the ctime indicates a change.
    """

    written: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    touched: frozenset[bytes] = frozenset()

    @property
    def empty(self) -> bool:
        return not self.written and not self.removed

    def along_with(self, written: Iterable[bytes]) -> Changes:
        """These changes, with more paths written."""
        return replace(self, written=tuple(sorted({*self.written, *written})))

    def without(self, excluded: Iterable[bytes]) -> Changes:
        """These changes, except at and below the paths ``excluded``."""
        exact = frozenset(excluded)
        below = tuple(path + b"/" for path in exact)

        def rest(paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
            return tuple(path for path in paths if path not in exact and not path.startswith(below))

        return Changes(rest(self.written), rest(self.removed), self.touched) if exact else self


def diff(before: Snapshot, after: Snapshot) -> Changes:
    """The changes between two scans of one root file system."""
    found = _Found()
    for path, packed in after.directories.items():
        old = before.directories.get(path, b"")
        if packed != old:
            _directory(path, dict(Snapshot.entries(old)), packed, found)
    # A file with a new hard link is packed along with it, so that both are one file in the layer.
    touched = frozenset(path for path, inode in found.touched if inode not in found.inodes)
    return Changes(tuple(sorted(found.written)), tuple(sorted(found.removed)), touched)


@dataclass(slots=True)
class _Found:
    """``touched`` are paths and inodes; ``inodes`` are those of everything else that was written."""

    written: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    touched: list[tuple[bytes, int]] = field(default_factory=list)
    inodes: set[int] = field(default_factory=set)


def _directory(path: bytes, old: dict[bytes, Record], packed: bytes, found: _Found) -> None:
    prefix = path + b"/" if path else b""
    for name, record in Snapshot.entries(packed):
        previous = old.pop(name, None)
        if previous is not None and not _changed(previous, record):
            continue
        found.written.append(prefix + name)
        if previous is not None and previous == record._replace(ctime_ns=previous.ctime_ns):
            found.touched.append((prefix + name, record.inode))
        else:
            found.inodes.add(record.inode)
    found.removed.extend(prefix + name for name in old)


def _changed(old: Record, new: Record) -> bool:
    if old.is_directory and new.is_directory:
        return old.directory_key != new.directory_key
    return old != new

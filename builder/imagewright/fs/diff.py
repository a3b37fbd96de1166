"""Two snapshots make the changes between them (layer.md, "Determining Changes").

No I/O. Called by the engine after a RUN. A file whose ctime moved counts as changed, content included, until
``fs.settle`` has looked. A folder counts only when its mode, owner or xattrs changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imagewright.fs.changes import Changes
from imagewright.fs.snapshot import Record, Snapshot


def diff(before: Snapshot, after: Snapshot) -> Changes:
    """What was written and what is gone between two scans of one root file system."""
    found = _Found()
    for path, packed in after.folders.items():
        old = before.folders.get(path, b"")
        if packed != old:
            _folder(path, dict(Snapshot.entries(old)), packed, found)
    # A file that got another name goes into the layer with it, where both can be one file.
    touched = frozenset(path for path, inode in found.touched if inode not in found.inodes)
    return Changes(tuple(sorted(found.written)), tuple(sorted(found.removed)), touched)


@dataclass(slots=True)
class _Found:
    """``touched`` are paths and inodes; ``inodes`` those of all else that was written."""

    written: list[bytes] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    touched: list[tuple[bytes, int]] = field(default_factory=list)
    inodes: set[int] = field(default_factory=set)


def _folder(path: bytes, old: dict[bytes, Record], packed: bytes, found: _Found) -> None:
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
        return old.folder_key != new.folder_key
    return old != new

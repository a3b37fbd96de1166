"""Two snapshots make the changes between them (layer.md, "Determining Changes").

No I/O. Called by the engine after a RUN. A file whose ctime moved counts as changed, content included: that its
content is the same can't be known without the old one. A folder counts only when its mode, owner or xattrs changed.
"""

from __future__ import annotations

from imagewright.fs.changes import Changes
from imagewright.fs.snapshot import Record, Snapshot


def diff(before: Snapshot, after: Snapshot) -> Changes:
    """What was written and what is gone between two scans of one root file system."""
    written: list[bytes] = []
    removed: list[bytes] = []
    for path, packed in after.folders.items():
        old = before.folders.get(path, b"")
        if packed != old:
            _folder(path, dict(Snapshot.entries(old)), packed, (written, removed))
    return Changes(tuple(sorted(written)), tuple(sorted(removed)))


def _folder(path: bytes, old: dict[bytes, Record], packed: bytes, found: tuple[list[bytes], list[bytes]]) -> None:
    written, removed = found
    prefix = path + b"/" if path else b""
    for name, record in Snapshot.entries(packed):
        previous = old.pop(name, None)
        if previous is None or _changed(previous, record):
            written.append(prefix + name)
    removed.extend(prefix + name for name in old)


def _changed(old: Record, new: Record) -> bool:
    if old.is_directory and new.is_directory:
        return old.folder_key != new.folder_key
    return old != new

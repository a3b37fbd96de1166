"""Packs changes as a layer (layer.md, "Creating"): one deterministic tar.

Reads the root file system and writes to the stream it is given, with a few MiB of memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import LayerSink, PackedLayer, PackOptions
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.entrystate import clamped
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import BLOCK, HARDLINK, REGULAR, Entry
from imagewright.fs.targets.choice import Root, target_of
from imagewright.fs.targets.disk import changed_meanwhile
from imagewright.fs.targets.model import Target
from imagewright.streams import Writable

_WHITEOUT = b".wh."
_DEFAULTS = PackOptions()


def pack_layer(
    root: Root,
    changes: Changes,
    out: Writable,
    options: PackOptions = _DEFAULTS,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
    index: IndexWriter | None = None,
) -> PackedLayer:
    """Write a layer with these changes and their parent directories, and add its entries to ``index``.

    ``around`` is as in ``LayerSink``.

    Raises:
        FileSystemError: reason ``DiskFull`` among others.
    """
    sink = LayerSink(out, options, around)
    target = target_of(root)
    packer = _Packer(target, sink, options, index)
    try:
        packer.run(changes)
        return sink.finish()
    except OSError as error:
        raise explain(error, f"pack {quote_path(packer.current)}") from error
    finally:
        target.close()
        sink.stop()


class _Packer:
    def __init__(self, target: Target[Any], sink: LayerSink, options: PackOptions, index: IndexWriter | None) -> None:
        self._index = index
        self._target = target
        self._sink = sink
        self._limit_ns = options.mtime_limit_ns
        self._links: dict[Any, bytes] = {}
        self.current = b""

    def run(self, changes: Changes) -> None:
        for path, removed in _in_order(changes):
            if self._target.is_excluded(path):
                continue
            self.current = path
            if removed:
                self._whiteout(path)
            else:
                self._add(path)
        self._sink.write(writer.END)

    def _whiteout(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        marker = (parent + b"/" if parent else b"") + _WHITEOUT + name
        self._header(Entry(marker, REGULAR, 0, 0, 0, 0, 0))

    def _add(self, path: bytes) -> None:
        if path.rpartition(b"/")[2].startswith(_WHITEOUT):
            raise FileSystemError(
                f'cannot pack {quote_path(path)}: the prefix ".wh." is reserved for whiteouts in layers',
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Rename it, or remove it in the step that created it.",
            )
        found = self._target.packable(path)
        if found is None:
            return
        entry = found.entry
        entry.mtime_ns = clamped(entry.mtime_ns, self._limit_ns)
        first = path if found.inode is None else self._links.setdefault(found.inode, path)
        if first is not path:
            link = Entry(path, HARDLINK, entry.mode, entry.uid, entry.gid, 0, entry.mtime_ns, first)
            self._header(link)
            return
        with found.opened() as fd:
            self._check_xattrs(entry)
            if fd is None:
                self._header(entry)
                return
            if self._index is not None and self._index.keeps(entry):
                kept = _read(fd, entry.size)
                self._header(entry, kept)
                self._sink.write(kept)  # what the index has, even if the file changes meanwhile
                written = len(kept)
            else:
                self._header(entry)
                written = self._sink.write_from(fd, entry.size)
            if written < entry.size:
                raise changed_meanwhile(path, "truncated")
            if entry.size % BLOCK:
                self._sink.write(writer.padding(entry.size))

    def _header(self, entry: Entry, kept: bytes | None = None) -> None:
        self._sink.write(writer.header(entry))
        if self._index is not None:
            self._index.add(entry, kept)

    @staticmethod
    def _check_xattrs(entry: Entry) -> None:
        for name in entry.xattrs:
            if b"=" in name:  # PAX cannot represent it
                raise FileSystemError(
                    f'cannot pack {quote_path(entry.name)}: unsupported extended attribute "{os.fsdecode(name)}"',
                    hint="Remove the attribute in the step that set it: setfattr -x.",
                )


def _read(fd: int, count: int) -> bytes:
    """``count`` bytes, fewer only if the file ends."""
    parts: list[bytes] = []
    while count > 0 and (data := os.read(fd, count)):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _in_order(changes: Changes) -> Iterator[tuple[bytes, bool]]:
    """Every path once, parents first, sorted bytewise by component; with whether it is a whiteout."""
    paths: dict[bytes, bool] = {}
    for removed, group in ((False, changes.written), (True, changes.removed)):
        for path in group:
            above = path
            while (above := above.rpartition(b"/")[0]) and above not in paths:
                paths[above] = False
            paths[path] = removed
    for path in sorted(paths, key=lambda p: p.replace(b"/", b"\0")):  # sorts by component, since names contain no NUL
        yield path, paths[path]

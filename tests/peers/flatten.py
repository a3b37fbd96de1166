"""What an image is, as text that a person reads: its files compared with its base's, its configuration, its history.

Reads an OCI layout with the standard library's tarfile alone, so that neither builder's own code judges it.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

BASE_HISTORY = "tests/cluster"  # what ``cluster.push`` writes for each layer of a base image
_SHOWN_BYTES = 300
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "char device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(frozen=True, slots=True, eq=False)
class Inode:
    """One file, under however many names. Compared by identity: an inode that no layer touched is the same object."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: Decimal  # a float is too short for nanoseconds
    detail: str  # content, target or device numbers
    xattrs: tuple[tuple[str, str], ...]

    def same_as(self, other: Inode) -> bool:
        ours = (self.kind, self.mode, self.owner, self.detail, self.xattrs)
        theirs = (other.kind, other.mode, other.owner, other.detail, other.xattrs)
        return ours == theirs and (self.kind == "folder" or self.mtime == other.mtime)


Tree = Mapping[str, Inode]


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder that holds one image in the OCI layout."""

    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        index = json.loads((self.folder / "index.json").read_text())
        return self._json(index["manifests"][0]["digest"])

    @property
    def config(self) -> dict[str, Any]:
        return self._json(self.manifest["config"]["digest"])

    def layers(self) -> Iterator[tuple[str, Path]]:
        """(diff_id, file) of each, base first."""
        for diff_id, layer in zip(self.config["rootfs"]["diff_ids"] or [], self.manifest["layers"] or [], strict=True):
            yield diff_id, self.blob(layer["digest"])

    def blob(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.partition(":")[2]

    def _json(self, digest: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.blob(digest).read_text())
        return content


def describe(layout: Layout, since: float) -> str:
    """The whole result. Times at or after ``since`` (seconds of the epoch) are the build's own, and are not shown."""
    config = layout.config
    history = config.get("history") or []
    below = next((n for n, entry in enumerate(history) if entry.get("created_by") != BASE_HISTORY), len(history))
    layers = list(layout.layers())
    base = layers[: sum(not entry.get("empty_layer") for entry in history[:below])]
    before: Tree = _base_tree(tuple(base))
    after = dict(before)
    empty = [not apply(path, after) for _, path in layers[len(base) :]]
    sections = [
        ("files", list(changed(before, after, since))),
        ("config", list(_settings(config))),
        ("history", list(_entries(history[below:], iter(empty)))),
    ]
    return "".join(f"{title}\n" + "".join(f"  {line}\n" for line in lines) for title, lines in sections if lines)


def files_of(described: str) -> str:
    """The lines of a description that list files."""
    return described.partition("config\n")[0].removeprefix("files\n")


@lru_cache(maxsize=32)
def _base_tree(layers: tuple[tuple[str, Path], ...]) -> Tree:
    return _tree_of(tuple(_Named(diff_id, path) for diff_id, path in layers))


@dataclass(frozen=True, slots=True)
class _Named:
    """A layer that is equal to any with the same content, wherever it lies."""

    diff_id: str
    path: Path

    def __hash__(self) -> int:
        return hash(self.diff_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and other.diff_id == self.diff_id


@lru_cache(maxsize=32)
def _tree_of(layers: tuple[_Named, ...]) -> Tree:
    tree: dict[str, Inode] = {}
    for layer in layers:
        apply(layer.path, tree)
    return tree


def apply(layer: Path, tree: dict[str, Inode]) -> bool:
    """Change ``tree`` as the layer's tar says (OCI image specification, "Applying changesets").

    Gives whether it says anything.
    """
    opaque: list[str] = []
    gone: list[str] = []
    added: dict[str, Inode] = {}
    with tarfile.open(layer, "r:*") as tar:
        for member in tar:
            path = _path(member.name)
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                opaque.append(folder)
            elif name.startswith(".wh."):
                gone.append(f"{folder}/{name.removeprefix('.wh.')}")
            elif member.type == tarfile.LNKTYPE:
                target = _path(member.linkname)
                added[path] = added[target] if target in added else tree[target]
            elif path != "/":
                added[path] = _inode(tar, member)
    for folder in opaque:
        _remove(tree, folder, itself=False)
    for path in gone:
        _remove(tree, path, itself=True)
    for path, inode in added.items():
        if inode.kind != "folder" and path in tree:
            _remove(tree, path, itself=True)
        tree[path] = inode
    return bool(opaque or gone or added)


def _path(name: str) -> str:
    return "/" + "/".join(part for part in name.split("/") if part not in ("", "."))


def _remove(tree: dict[str, Inode], path: str, *, itself: bool) -> None:
    for found in [name for name in tree if name.startswith(f"{path}/") or (itself and name == path)]:
        del tree[found]


def _inode(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Inode:
    kind = _KINDS[member.type]
    detail = ""
    if kind == "file":
        stream = tar.extractfile(member)
        assert stream is not None
        detail = _content(stream, member.size)
    elif kind == "link":
        detail = f"-> {_word(member.linkname)}"
    elif kind.endswith("device"):
        detail = f"{member.devmajor}:{member.devminor}"
    xattrs = {k.removeprefix(_XATTR): v for k, v in member.pax_headers.items() if k.startswith(_XATTR)}
    mtime = Decimal(member.pax_headers.get("mtime", str(member.mtime)))
    return Inode(
        kind, stat.S_IMODE(member.mode), (member.uid, member.gid), mtime, detail, tuple(sorted(xattrs.items()))
    )


def _content(stream: IO[bytes], size: int) -> str:
    if size <= _SHOWN_BYTES:
        content = stream.read()
        try:
            return json.dumps(content.decode(), ensure_ascii=False)
        except UnicodeDecodeError:
            return f"sha256:{hashlib.sha256(content).hexdigest()} ({size} bytes)"
    return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()} ({size} bytes)"  # type: ignore[arg-type]


def changed(before: Tree, after: Tree, since: float) -> Iterator[str]:
    """A line for every path that isn't what it was."""
    first: dict[int, str] = {}
    for path in sorted(after):
        first.setdefault(id(after[path]), path)
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if new is None:
            if path.rpartition("/")[0] not in before or path.rpartition("/")[0] in after or "/" not in path[1:]:
                yield f"{_word(path)} is gone"
        elif old is not new and not (old and old.same_as(new) and first[id(new)] == path):
            if first[id(new)] != path:
                yield f"{_word(path)} hard link to {_word(first[id(new)])}"
            else:
                yield from _lines(path, new, since)


def _lines(path: str, inode: Inode, since: float) -> Iterator[str]:
    words = [_word(path), inode.kind]
    words += [] if inode.kind == "link" else [f"{inode.mode:04o}"]
    words += [f"{inode.owner[0]}:{inode.owner[1]}"]
    words += [_time(inode.mtime)] if inode.mtime < since and inode.kind != "folder" else []
    yield " ".join([*words, inode.detail]).rstrip()
    for name, value in inode.xattrs:
        raw = value.encode("utf-8", "surrogateescape")
        yield f"    {name} = {json.dumps(value) if value.isprintable() else 'hex ' + raw.hex()}"


def _time(seconds: Decimal) -> str:
    whole = math.floor(seconds)
    nanoseconds = int((seconds - whole) * 1_000_000_000)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanoseconds:09}Z" if nanoseconds else f"{text}Z"


def _word(path: str) -> str:
    return path if path.isprintable() and " " not in path else json.dumps(path)


def _settings(config: Mapping[str, Any]) -> Iterator[str]:
    platform = [config.get("os"), config.get("architecture"), config.get("variant")]
    yield "platform " + "/".join(part for part in platform if part)
    for key in sorted(config.get("config") or {}):
        value = config["config"][key]
        if value not in (None, "", [], {}, False):
            yield f"{key} {json.dumps(value, sort_keys=True, ensure_ascii=False)}"


def _entries(history: Sequence[Mapping[str, Any]], empty: Iterator[bool]) -> Iterator[str]:
    """Each history entry; a layer that holds nothing counts as none, which is how one builder writes it."""
    for entry in history:
        text = entry.get("created_by", "")
        text = text if text.isprintable() else json.dumps(text, ensure_ascii=False)
        author = f" (author {entry['author']})" if entry.get("author") else ""
        no_layer = entry.get("empty_layer") or next(empty)
        yield text + (" (no layer)" if no_layer else "") + author

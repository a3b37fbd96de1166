"""Write files that git can't hold, from a table of case.toml: modes, owners, links, devices, xattrs, archives.

Writes below a folder.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import zstandard

# Everything in a context is of one moment, long ago: a time that a build keeps is told from one that it made.
MOMENT = datetime.fromisoformat("2001-02-03T04:05:06+00:00").timestamp()

Entry = str | Mapping[str, Any]
_COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": lambda raw: gzip.compress(raw, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}
_KEYS = frozenset(
    {"content", "base64", "link", "hard", "fifo", "device", "archive", "members", "mode", "owner", "mtime", "xattrs"}
)


def write_tree(root: Path, entries: Mapping[str, Entry]) -> None:
    """Write every entry; then all that is below ``root`` gets the one moment, unless an entry says another.

    ``root`` itself keeps its time: BuildKit sends no context's root.

    A name that ends in ``/`` is a folder. A text is a file's content. A table has one of ``content``, ``base64``,
    ``link`` (its target), ``hard`` (another entry), ``fifo``, ``device`` ("c 1:3"), ``archive`` (a compression, with
    the table ``members``), and any of ``mode``, ``owner`` ("1:2"), ``mtime`` (RFC 3339) and ``xattrs``.
    """
    tables = {name: {"content": entry} if isinstance(entry, str) else dict(entry) for name, entry in entries.items()}
    for name, table in tables.items():
        unknown = set(table) - _KEYS
        assert not unknown, f"{name}: unknown {', '.join(sorted(unknown))}"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(root, path, name, table)
    for name, table in tables.items():
        _set_metadata(root / name, table)
    times = {
        root / name: datetime.fromisoformat(table["mtime"]).timestamp()
        for name, table in tables.items()
        if "mtime" in table
    }
    for folder, folders, files in os.walk(root, topdown=False):
        for path in (Path(folder, found) for found in [*files, *folders]):
            moment = times.get(path, MOMENT)
            os.utime(path, (moment, moment), follow_symlinks=False)


def _create(root: Path, path: Path, name: str, table: Mapping[str, Any]) -> None:
    if name.endswith("/"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    elif "link" in table:
        path.symlink_to(table["link"])
    elif "hard" in table:
        os.link(root / table["hard"], path, follow_symlinks=False)
    elif "fifo" in table:
        os.mkfifo(path, 0o644)
    elif "device" in table:
        kind, _, numbers = table["device"].partition(" ")
        major, _, minor = numbers.partition(":")
        os.mknod(path, (0o020644 if kind == "c" else 0o060644), os.makedev(int(major), int(minor)))
    else:
        path.write_bytes(_content(table))
        path.chmod(0o644)


def _content(table: Mapping[str, Any]) -> bytes:
    if "archive" in table:
        return _COMPRESSIONS[table["archive"]](_tar(table.get("members", {})))
    if "base64" in table:
        return base64.b64decode(table["base64"])
    return str(table.get("content", "")).encode()


def _tar(members: Mapping[str, Entry]) -> bytes:
    raw = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as scratch,
        tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        folder = Path(scratch, "tree")
        folder.mkdir()
        write_tree(folder, members)
        for name in members:  # in the order of the case
            tar.add(folder / name, name.rstrip("/"), recursive=False)
    return raw.getvalue()


def _set_metadata(path: Path, table: Mapping[str, Any]) -> None:
    if "owner" in table:
        user, _, group = table["owner"].partition(":")
        os.chown(path, int(user), int(group), follow_symlinks=False)
    if "mode" in table:
        path.chmod(int(table["mode"], 8))
    for key, value in table.get("xattrs", {}).items():
        os.setxattr(path, key, value.encode(), follow_symlinks=False)

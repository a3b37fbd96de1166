"""Users and groups by name, from the passwd and group files of a root file system.

Reads two files below the root. They come from an image and may be hostile: they must be regular, are of bounded size
and resolved inside the root.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Protocol

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.records import dataclass

_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_ID = (1 << 32) - 2  # -1 means "leave as it is" to chown(2)
_DIGITS = re.compile(r"[0-9]+")  # str.isdigit accepts superscripts


class UserFiles(Protocol):
    """A root file system, or what stands for one."""

    def read_file(self, path: bytes, limit: int) -> bytes:
        """As ``Rootfs.read_file``."""


@dataclass(frozen=True, slots=True)
class User:
    """The user of a RUN: ids, supplementary groups (sorted, including ``gid``) and home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def lookup_user(root: UserFiles, text: str) -> User:
    """``user[:group]`` of USER: names from the root's files, numbers with or without an entry there.

    A number without an entry has group 0 and home ``/``. Supplementary groups are those of the group file, unless a
    group is named, plus the user's own: without it, a process could drop its group to get around a file mode that
    denies the group more than others (as in the user lookup of containerd and BuildKit).

    Raises:
        FileSystemError: reason ``FileNotFound`` for an unknown name.
    """
    name, colon, group = text.partition(":")
    entry = next((e for e in _passwd(root) if e.name == name), None)
    if entry is None and _DIGITS.fullmatch(name):
        number = _number(name)
        entry = next((e for e in _passwd(root) if e.uid == number), None) or _Passwd("", number, 0, "/")
    if entry is None and name in ("", "root"):  # root exists without any files
        entry = _Passwd("", 0, 0, "/root")
    if entry is None:
        raise _unknown("user", name, "passwd")
    if colon and group:
        gid = _group(root, group)
        if gid is None:
            raise _unknown("group", group, "group")
        return User(entry.uid, gid, (gid,), entry.home)
    groups = {g.gid for g in _groups(root) if entry.name and entry.name in g.members}
    return User(entry.uid, entry.gid, tuple(sorted({entry.gid, *groups})), entry.home)


def lookup_ownership(root: UserFiles, text: str) -> Ownership:
    """``user[:group]`` of --chown. A number alone is also the group; a name alone implies its own group.

    Raises:
        FileSystemError: reason ``FileNotFound`` for an unknown name.
    """
    name, _, group = text.partition(":")
    owner = _owner(root, name)
    if owner is None:
        raise _unknown("user", name, "passwd")
    if not group:
        return owner
    gid = _number(group) if _DIGITS.fullmatch(group) else _group(root, group)
    if gid is None:
        raise _unknown("group", group, "group")
    return Ownership(owner.uid, gid)


def lookup_workdir_ownership(root: UserFiles, text: str) -> Ownership:
    """``lookup_ownership`` for WORKDIR: root instead of an unknown user, the user's own group instead of an unknown
    group (BuildKit). The user may be added later, or never.

    Raises:
        FileSystemError: an invalid id.
    """
    name, _, group = text.partition(":")
    owner = _owner(root, name) or Ownership(0, 0)
    gid = _group(root, group) if group else None
    return owner if gid is None else Ownership(owner.uid, gid)


def _owner(root: UserFiles, name: str) -> Ownership | None:
    """A user and their group; None for an unknown name."""
    if _DIGITS.fullmatch(name):
        return Ownership(_number(name), _number(name))
    entry = next((e for e in _passwd(root) if e.name == name), None)
    if entry is not None:
        return Ownership(entry.uid, entry.gid)
    return Ownership(0, 0) if name in ("", "root") else None


@dataclass(frozen=True, slots=True)
class _Passwd:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def _group(root: UserFiles, text: str) -> int | None:
    for group in _groups(root):
        if group.name == text:
            return group.gid
    if _DIGITS.fullmatch(text):
        return _number(text)
    return None


def _passwd(root: UserFiles) -> Iterator[_Passwd]:
    for fields in _lines(root, b"etc/passwd"):
        if len(fields) >= 6:
            uid, gid = _entry_id(fields[2]), _entry_id(fields[3])
            if uid is not None and gid is not None:
                yield _Passwd(fields[0], uid, gid, fields[5] or "/")


def _groups(root: UserFiles) -> Iterator[_Group]:
    for fields in _lines(root, b"etc/group"):
        if len(fields) >= 3 and (gid := _entry_id(fields[2])) is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield _Group(fields[0], gid, tuple(m for m in members if m))


def _lines(root: UserFiles, path: bytes) -> Iterator[list[str]]:
    try:
        data = root.read_file(path, _MAX_FILE_BYTES)
    except OSError:
        return  # an image without users
    for line in io.BytesIO(data):  # one at a time: a list of empty lines could take many MB
        yield line.decode("utf-8", "replace").rstrip("\n").split(":")


def _entry_id(text: str) -> int | None:
    """An id in a file; None if it is not valid: such lines are skipped, as by libc."""
    if not _DIGITS.fullmatch(text) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _MAX_ID else None


def _number(text: str) -> int:
    number = int(text) if len(text) <= 10 else _MAX_ID + 1
    if number > _MAX_ID:
        raise FileSystemError(
            f'invalid user or group id "{text[:40]}": the largest is {_MAX_ID}', reason=Reason.USAGE_INVALID
        )
    return number


def _unknown(kind: str, name: str, file: str) -> FileSystemError:
    return FileSystemError(
        f'{kind} "{name}" not found in /etc/{file} of the image',
        reason=Reason.FILE_NOT_FOUND,
        hint=f"Add the {kind} in an earlier step ({kind}add or add{kind}), or use its numeric id.",
    )

"""Failures of the file system as users see them: a full disk, paths that are too long, ids and capabilities that are missing.

Reads /proc/self: root may lack capabilities, and a user namespace maps only some ids.
"""

from __future__ import annotations

import errno
import os

from imagewright.errors import FileSystemError, Reason

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL_HINT = "Give the build a larger work directory: --work-dir, or the size of the Pod's workspace volume."
_MAX_PATH_BYTES = 4095  # PATH_MAX without the NUL: limits.h(0p)
_TOO_LONG_HINT = (
    "Use shorter names, or fewer directories inside each other: Linux takes names of 255 bytes and paths of 4095."
)
# What is needed to make files as an image has them (capabilities(7)), by number.
_NEEDED = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 31: "SETFCAP"}


def explain(error: OSError, what: str) -> FileSystemError:
    """A failure of the file system as users see it: a full disk and ids that are not mapped have reasons of their own."""
    if error.errno == errno.ENAMETOOLONG:
        return FileSystemError(f"{what} failed: {error.strerror}", reason=Reason.LIMIT_EXCEEDED, hint=_TOO_LONG_HINT)
    if error.errno in DISK_FULL:
        return FileSystemError(
            f"no space left while {what}",
            reason=Reason.DISK_FULL,
            hint=DISK_FULL_HINT,
        )
    denied = error.errno in (errno.EPERM, errno.EACCES)
    return FileSystemError(
        f"{what} failed: {error.strerror or error}",
        reason=Reason.LAYER_INVALID,
        hint=permission_hint() if denied else "",
    )


def check_length(path: bytes) -> None:
    """Refuse a root-relative path that no system call takes: nobody could unpack a layer that has it.

    Raises:
        FileSystemError: reason ``LimitExceeded``.
    """
    if len(path) > _MAX_PATH_BYTES:
        raise FileSystemError(
            f"the path /{os.fsdecode(path)[:100]}… is {len(path)} bytes long, in {path.count(b'/')} directories",
            reason=Reason.LIMIT_EXCEEDED,
            hint=_TOO_LONG_HINT,
        )


def owner_error(error: OSError, what: str, owner: tuple[int, int]) -> OSError | FileSystemError:
    """A failed chown as users see it; the error itself where it has nothing to do with ids."""
    who = f"{what} belongs to {owner[0]}:{owner[1]}"
    if error.errno == errno.EINVAL:
        users, alone = _ids("uid_map")
        groups, _ = _ids("gid_map")
        return FileSystemError(
            f"{who}, an id that this user namespace doesn't hold: it has the users {users} and the groups {groups}",
            reason=Reason.ID_OUT_OF_RANGE,
            hint=_ALONE if alone else _TOO_FEW,
        )
    if error.errno == errno.EPERM:
        return FileSystemError(
            f"{who}, and this process may not give files away",
            reason=Reason.ID_OUT_OF_RANGE,
            hint=permission_hint() or _REFUSED_BY_FILE_SYSTEM,
        )
    return error


_ALONE = "Run as root, or as a user with ranges in /etc/subuid and /etc/subgid and with newuidmap installed."
_TOO_FEW = (
    "Use ids that are there, or build where more are: in a Pod without `hostUsers: false` (profile plain or hardened), or "
    "as a user with larger ranges in /etc/subuid and /etc/subgid."
)
_REFUSED_BY_FILE_SYSTEM = (
    "The file system refuses it, as one over the network may: name a directory on another with --work-dir."
)


def permission_hint() -> str:
    """Which capabilities would help where something is not permitted; ``""`` where none is missing."""
    names = ", ".join(missing_capabilities(_read("status")))
    return f"Add {names} to the container's capabilities (securityContext.capabilities.add)." if names else ""


def missing_capabilities(status: str) -> tuple[str, ...]:
    """Names of the needed capabilities that are not in effect, by the text of /proc/PID/status (proc_pid_status(5))."""
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "")
    try:
        effective = int(line.partition(":")[2], 16)
    except ValueError:
        return ()
    return tuple(name for number, name in _NEEDED.items() if not effective >> number & 1)


def _ids(name: str) -> tuple[str, bool]:
    """The ids of this user namespace in words, and whether it is one alone (user_namespaces(7))."""
    rows = [line.split() for line in _read(name).splitlines()]
    ranges = [(int(inside), int(count)) for inside, _, count in rows]
    words = ", ".join(f"{first}-{first + count - 1}" if count > 1 else str(first) for first, count in ranges)
    return words, sum(count for _, count in ranges) == 1


def _read(name: str) -> str:
    try:
        with open(f"/proc/self/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

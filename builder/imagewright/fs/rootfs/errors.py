"""File system errors as users see them: full disks, paths that are too long, missing capabilities, unmapped ids.

Reads /proc/self.
"""

from __future__ import annotations

import errno
import os

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import TOO_LONG_HINT

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL_HINT = (
    "Give the build a larger work directory with --work-dir (ImageBuild: the operator's setting "
    "IMAGEWRIGHT_WORKSPACE_SIZE)."
)
# Capabilities needed to create the files of an image, by number (capabilities(7)).
_NEEDED = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 31: "SETFCAP"}


def explain(error: OSError, action: str, entry: str = "", full_hint: str = DISK_FULL_HINT) -> FileSystemError:
    """The error that users see: what could not be done (``action``, as in ``copy to "/app"``), and why.

    ``entry`` is the entry of an archive that ``action`` was applied to, quoted; ``full_hint`` what to do if the disk is
    full that was written to.
    """
    why, reason, hint = error.strerror or str(error), Reason.LAYER_INVALID, ""
    if error.errno == errno.ENAMETOOLONG:
        reason, hint = Reason.LIMIT_EXCEEDED, TOO_LONG_HINT
    elif error.errno in DISK_FULL:
        why, reason, hint = "no space left on device", Reason.DISK_FULL, full_hint
    elif error.errno in (errno.EPERM, errno.EACCES):
        hint = _denied_hint(error)
    if entry:
        return FileSystemError(f"cannot {action} {entry}: {why}", why=f"{entry}: {why}", reason=reason, hint=hint)
    return FileSystemError(f"cannot {action}: {why}", why=why, reason=reason, hint=hint)


def owner_error(error: OSError, what: str, owner: tuple[int, int]) -> OSError | FileSystemError:
    """A failed chown as users see it; ``error`` itself where ids are not the cause."""
    action = f"cannot change the owner of {what} to {owner[0]}:{owner[1]}"
    if error.errno == errno.EINVAL:
        users, alone = _ids("uid_map")
        groups, _ = _ids("gid_map")
        return FileSystemError(
            f"{action}: this user namespace maps only the users {users} and the groups {groups}",
            reason=Reason.ID_OUT_OF_RANGE,
            hint=_ALONE if alone else _TOO_FEW,
        )
    if error.errno == errno.EPERM:
        return FileSystemError(
            f"{action}: operation not permitted",
            reason=Reason.ID_OUT_OF_RANGE,
            hint=permission_hint() or _REFUSED_BY_FILE_SYSTEM,
        )
    return error


_ALONE = "Run as root, or as a user with ranges in /etc/subuid and /etc/subgid and with newuidmap installed."
_TOO_FEW = (
    "Use mapped ids, or build where more ids are mapped: in a Pod without `hostUsers: false` (profile plain or "
    "hardened), or as a user with larger ranges in /etc/subuid and /etc/subgid."
)
_REFUSED_BY_FILE_SYSTEM = (
    "Set --work-dir to a directory on another file system: network file systems may refuse to change owners."
)


def _denied_hint(error: OSError) -> str:
    """A hint for a file that may not be read or written."""
    if os.geteuid() == 0:
        return permission_hint()
    name = f'"{os.fsdecode(error.filename)}"' if isinstance(error.filename, bytes | str) else "the files"
    return f"Let user {os.geteuid()} read {name} and the directories above, or run as root."


def permission_hint() -> str:
    """A hint that names the missing capabilities; ``""`` if none is missing."""
    names = ", ".join(missing_capabilities(_read("status")))
    return f"Add {names} to the container's capabilities (securityContext.capabilities.add)." if names else ""


def missing_capabilities(status: str) -> tuple[str, ...]:
    """Names of the needed capabilities that are not effective, from /proc/PID/status (proc_pid_status(5))."""
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "")
    try:
        effective = int(line.partition(":")[2], 16)
    except ValueError:
        return ()
    return tuple(name for number, name in _NEEDED.items() if not effective >> number & 1)


def _ids(name: str) -> tuple[str, bool]:
    """The ids that this user namespace maps, as text, and whether it is only one (user_namespaces(7))."""
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

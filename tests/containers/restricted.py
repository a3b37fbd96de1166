"""Programs run as in a Pod that Pod Security ``restricted`` admits, under a container runtime's default seccomp
profile.

A user without rights, no capabilities, no way to more of either, and no namespaces. As a program, runs what its
arguments say once the calls that make namespaces are refused; it needs nothing but an interpreter.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

UID = 1000

_NUMBERS = {
    "x86_64": {"unshare": 272, "setns": 308, "clone": 56},
    "aarch64": {"unshare": 97, "setns": 268, "clone": 220},
}
_CLONE3 = 435
_CLONE_NEW = 0x7E020000  # each of CLONE_NEW*
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AND_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF: BPF_LD|W|ABS, JMP|JEQ, JMP|JSET, RET
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def restricted(words: Sequence[str], stage: Path, uid: int = UID) -> list[str]:
    """The command, to be started by root, that runs ``words`` as this user.

    The interpreter may live where only root can go: there the user sees it alone, mounted over an empty folder
    ``stage``.
    """
    lines = ["set -eu", "mount --make-rprivate /", *_interpreter(stage)]
    rights = f"--reuid={uid} --regid={uid} --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
    lines.append(f"exec setpriv {rights} -- {shlex.join([sys.executable, '-I', __file__, *words])}")
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


def give_away(folder: Path, uid: int = UID) -> None:
    """Give a folder and all below it to the user; nothing else of it changes."""
    for path in (folder, *folder.rglob("*")):
        info = path.lstat()
        capabilities = {name: os.getxattr(path, name, follow_symlinks=False) for name in _cleared(path)}
        os.chown(path, uid, uid, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(info.st_mode & 0o7777)  # chown(2) has taken setuid away
        for name, value in capabilities.items():
            os.setxattr(path, name, value, follow_symlinks=False)


def _cleared(path: Path) -> list[str]:
    """What chown(2) takes away."""
    return [name for name in os.listxattr(path, follow_symlinks=False) if name == "security.capability"]


def _interpreter(stage: Path) -> list[str]:
    base = Path(os.path.realpath(sys.base_prefix))
    closed = [folder for folder in base.parents if not folder.stat().st_mode & 0o001]
    if not closed:
        return []
    below = stage / base.relative_to(closed[-1])
    return [
        f"mkdir -p {stage} && mount -t tmpfs -o mode=755 tmpfs {stage} && mkdir -p {below}",
        f"mount --bind {base} {below} && mount --rbind {stage} {closed[-1]}",
    ]


def _refuse_namespaces() -> None:
    numbers = _NUMBERS[os.uname().machine]
    program = [(_LOAD, 0, 0, 0)]  # the number of the call
    for name in ("unshare", "setns"):
        program += [(_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    program += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    program += [(_EQUAL, 0, 3, numbers["clone"]), (_LOAD, 0, 0, 16)]  # its flags
    program += [(_AND_SET, 0, 1, _CLONE_NEW), (_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, filters, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    _refuse_namespaces()
    os.execvp(sys.argv[1], sys.argv[1:])

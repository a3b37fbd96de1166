"""Keeps a process and its descendants from creating cgroup namespaces (cgroup_namespaces(7)).

A cgroup namespace that belongs to a user namespace lets root there mount cgroupfs. Where the ids are the machine's own,
that root may write the files in it: kill and freeze processes outside, change limits, allow devices.

Changes the calling process, which must have CAP_SYS_ADMIN and CAP_SYS_RESOURCE in its user namespace.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import Final

from imagewright.records import dataclass
from imagewright.sandbox.kernel import linux

_CLONE_NEWCGROUP: Final = 0x02000000
_CLONE3: Final = 435  # the same number on every architecture
_X32_BIT: Final = 0x40000000  # system calls of the x32 ABI have the numbers of x86-64 with this bit

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _AND, _JUMP, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000  # with the error's number added
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


@dataclass(frozen=True, slots=True)
class _Abi:
    """Numbers of linux/audit.h and asm/unistd.h. ``flags``: the argument of clone(2) that has them."""

    architecture: int
    clone: int
    unshare: int
    flags: int = 0


# By machine as uname(2) names it: all ABIs that its kernels may offer.
_ABIS: Final = {
    "x86_64": (_Abi(0xC000003E, 56, 272), _Abi(0x40000003, 120, 310)),
    "aarch64": (_Abi(0xC00000B7, 220, 97), _Abi(0x40000028, 120, 337)),
    "riscv64": (_Abi(0xC00000F3, 220, 97),),
    "ppc64le": (_Abi(0xC0000015, 120, 282),),
    "s390x": (_Abi(0x80000016, 120, 303, flags=1), _Abi(0x00000016, 120, 303, flags=1)),
}


def forbid(proc: str) -> None:
    """Forbid new cgroup namespaces, in nested user namespaces too.

    Args:
        proc: where procfs is mounted. Its sys/user has the limits of the calling process's user namespace; where it is
            read-only, as in Pods, a system call filter takes its place.

    Raises:
        OSError: neither is possible.
    """
    try:
        fd = os.open(f"{proc}/sys/user/max_cgroup_namespaces", os.O_WRONLY)
    except OSError:
        linux.filter_system_calls(_program(_ABIS.get(os.uname().machine, ())))
        return
    with os.fdopen(fd, "wb") as file:
        file.write(b"0")


def _program(abis: tuple[_Abi, ...]) -> bytes:
    """A filter for seccomp(2), as an array of struct sock_filter.

    clone3(2), whose flags a filter cannot read, does not exist for it: C libraries fall back to clone(2) then.
    """
    if not abis:
        raise OSError(errno.ENOSYS, f"system call filters are not supported on {os.uname().machine}")
    program = [_instruction(_LOAD, _ARCHITECTURE)]
    for abi in abis:
        block = _block(abi)
        program += [_instruction(_JUMP_IF_EQUAL, abi.architecture, 0, len(block)), *block]
    program.append(_instruction(_RETURN, _FAIL + errno.ENOSYS))
    return b"".join(program)


def _block(abi: _Abi) -> list[bytes]:
    """Instructions for the calls of one ABI; they end with a return."""
    return [
        _instruction(_LOAD, _NUMBER),
        _instruction(_AND, ~_X32_BIT & 0xFFFFFFFF),
        _instruction(_JUMP_IF_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _FAIL + errno.ENOSYS),
        _instruction(_JUMP_IF_EQUAL, abi.clone, 2, 0),
        _instruction(_JUMP_IF_EQUAL, abi.unshare, 3, 0),
        _instruction(_RETURN, _ALLOW),
        _instruction(_LOAD, _low_half(abi.flags)),
        _instruction(_JUMP, 1),
        _instruction(_LOAD, _low_half(0)),
        _instruction(_JUMP_IF_SET, _CLONE_NEWCGROUP, 0, 1),
        _instruction(_RETURN, _FAIL + errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]


def _low_half(argument: int) -> int:
    """Where the 32 low bits of an argument are."""
    return _ARGUMENTS + 8 * argument + (4 if sys.byteorder == "big" else 0)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter; the jumps are relative to the next instruction."""
    return struct.pack("=HBBI", code, if_true, if_false, value)

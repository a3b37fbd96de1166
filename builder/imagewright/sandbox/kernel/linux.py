"""System calls that Python does not provide, through ctypes.

Changes the calling process, which must have a single thread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Final

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_MOVE: Final = 0x2000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2

_SYS_OPEN_TREE = 428  # the same number on every architecture, as all calls since Linux 5.1
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOVE_MOUNT_T_SYMLINKS = 0x10

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFF_RUNNING = 0x40

_KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64

_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280, "armv7l": 311}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217, "armv7l": 218}

# The default capabilities of containers in Docker and containerd (numbers of linux/capability.h).
DEFAULT_CAPABILITIES = frozenset(
    {
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        13,  # NET_RAW
        18,  # SYS_CHROOT
        27,  # MKNOD
        29,  # AUDIT_WRITE
        31,  # SETFCAP
    }
)
SETGID: Final = 6
SETUID: Final = 7
NET_RAW: Final = 13
SYS_CHROOT: Final = 18
MKNOD: Final = 27
SETFCAP: Final = 31


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def unshare(flags: int) -> None:
    """unshare(2)."""
    what = "unshare(CLONE_NEWUSER)" if flags == CLONE_NEWUSER else "unshare"
    try:
        _check(_LIBC.unshare(flags), what)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        # Reported as "No space left on device", although no device is full.
        text = f"{what}: too many namespaces (see /proc/sys/user)"
        raise OSError(errno.EUSERS, text) from error


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _LIBC.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount({target})")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_LIBC.umount2(os.fsencode(target), flags), f"umount({target})")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"pivot_root is not supported on {os.uname().machine}")
    _check(_LIBC.syscall(number, os.fsencode(new), os.fsencode(old)), "pivot_root")


def clone_mount(path: str, *, recursive: bool) -> int:
    """A detached copy of the mount at ``path`` (open_tree(2)), as a descriptor."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    fd = _LIBC.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags))
    _check(fd, f"open_tree({path})")
    return int(fd)


def attach_mount(fd: int, target: str) -> None:
    """Attach a detached mount at ``target``, links followed (move_mount(2))."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS
    result = _LIBC.syscall(_SYS_MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags))
    _check(result, f"move_mount({target})")


def restrict_mount(where: int | str, attributes: int, *, recursive: bool) -> None:
    """Add MOUNT_ATTR_* to a mount, detached (its descriptor) or attached (its path) (mount_setattr(2))."""
    fd, path = (where, b"") if isinstance(where, int) else (_AT_FDCWD, os.fsencode(where))
    flags = (0 if path else _AT_EMPTY_PATH) | (_AT_RECURSIVE if recursive else 0)
    attr = _MountAttr(attributes, 0, 0, 0)
    result = _LIBC.syscall(
        _SYS_MOUNT_SETATTR, fd, path, ctypes.c_uint(flags), ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr))
    )
    _check(result, f"mount_setattr({path.decode(errors='replace')})")


def bring_loopback_up() -> None:
    """Enable the loopback interface, which is down in a new network namespace (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)


def die_with_parent() -> None:
    """Have this process killed when its parent exits."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def set_dumpable(value: bool) -> None:
    """Set whether other processes of this user may inspect this one (ptrace, /proc/PID/environ, mem, root)."""
    _prctl(_PR_SET_DUMPABLE, int(value))


def hide_arguments() -> None:
    """Overwrite what /proc/PID/cmdline, which anybody can read, shows for this process and its children.

    Arguments may hold URLs with credentials. Python has its own copies by now.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5), counted from state
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        title = b"imagewright"[: end - start - 1]
        ctypes.memmove(start, title, len(title))


def pin_name_services() -> None:
    """Configure name lookups with the C library's own services, regardless of a later /etc/nsswitch.conf. glibc only.

    Otherwise that file would determine libraries (libnss_NAME.so.2) to be loaded into this process.
    """
    configure = getattr(_LIBC, "__nss_configure_lookup", None)
    if configure is not None:
        for database in (b"passwd", b"group", b"services", b"protocols", b"networks"):
            _check(configure(database, b"files"), "__nss_configure_lookup")
        _check(configure(b"hosts", b"files dns"), "__nss_configure_lookup")


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_capabilities(kept: frozenset[int]) -> None:
    """Drop all other capabilities: a program executed later cannot regain them, even as root.

    Raises:
        OSError: one cannot be dropped.
    """
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # Root gets the inheritable set on execve, regardless of the bounding set (CVE-2022-24769).
    _clear_inheritable()
    for number in range(_CAPABILITIES):
        # -1: unknown to this kernel. Not read from /proc, which the image could fake.
        if number not in kept and _LIBC.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            _check(_LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), f"dropping capability {number}")


def filter_system_calls(program: bytes) -> None:
    """Apply a filter, an array of struct sock_filter, to this process and its children for good (seccomp(2)).

    Requires CAP_SYS_ADMIN in the process's user namespace.
    """
    what = _FilterProgram(len(program) // 8, program)
    _check(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(what), 0, 0), "prctl(PR_SET_SECCOMP)")


def effective_capabilities() -> frozenset[int]:
    """The effective capabilities of this process, as numbers."""
    _, data = _own_capabilities()
    return frozenset(32 * half + bit for half in (0, 1) for bit in range(32) if data[half].effective >> bit & 1)


def _clear_inheritable() -> None:
    header, data = _own_capabilities()
    for half in data:
        half.inheritable = 0
    _check(_LIBC.capset(ctypes.byref(header), data), "capset")


def _own_capabilities() -> tuple[_CapabilityHeader, ctypes.Array[_CapabilityData]]:
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    _check(_LIBC.capget(ctypes.byref(header), data), "capget")
    return header, data


def join_new_session_keyring() -> None:
    """Replace the session keyring of the engine's user. If the call is refused, so is any other use of keys."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is not None:
        _LIBC.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)


def _prctl(option: int, value: int) -> None:
    _check(_LIBC.prctl(option, value, 0, 0, 0), f"prctl({option})")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")

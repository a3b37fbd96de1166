"""Which extended attributes an entry of a virtual root has: those that it would have on disk.

No I/O.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping

from imagewright.fs.rootfs.inodes import FOREIGN_XATTRS
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import NO_XATTRS

_ON_FILES = (b"user.", b"trusted.", b"security.")  # the kernel's name spaces, other than ACLs: xattr(7)
_ACL = b"system.posix_acl_"
_CAPABILITY = b"security.capability"
_CAPABILITY_BYTES = {b"\2": 20, b"\3": 24}  # by revision: linux/capability.h
_MAX_NAME_BYTES, _MAX_VALUE_BYTES = 255, 65536  # linux/limits.h


def possible_xattrs(xattrs: Mapping[bytes, bytes], mode: int) -> Mapping[bytes, bytes]:
    """The extended attributes that an entry has once it is on disk.

    Raises:
        NotVirtualError: one is an ACL, which changes modes, and what is created below; or only the kernel can tell
            whether it is valid.
    """
    if not xattrs:
        return NO_XATTRS
    if any(name.startswith(_ACL) or not _is_plain(name, value) for name, value in xattrs.items()):
        raise NotVirtualError("a file has an access control list, or another attribute that only the kernel can judge")
    ordinary = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return {
        name: value
        for name, value in sorted(xattrs.items())
        if name.startswith(_ON_FILES if ordinary else _ON_FILES[1:]) and not name.startswith(FOREIGN_XATTRS)
    }


def _is_plain(name: bytes, value: bytes) -> bool:
    if name == _CAPABILITY:
        return _CAPABILITY_BYTES.get(value[3:4]) == len(value)
    return not name.endswith(b".") and len(name) <= _MAX_NAME_BYTES and len(value) <= _MAX_VALUE_BYTES

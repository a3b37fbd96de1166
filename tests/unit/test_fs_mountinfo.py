"""Parsing the mount table, with any characters in paths."""

from __future__ import annotations

from imagewright.fs.rootfs.mounts import MountPoint, parse_mountinfo

_TABLE = (
    "22 1 0:21 / / rw - overlay overlay rw\n"
    "23 22 0:22 / /proc rw,nosuid shared:5 - proc proc rw\n"
    "24 22 8:1 /hosts /etc/hosts ro,relatime master:1 - ext4 /dev/sda1 rw\n"
    "25 22 8:1 / /mit\\040Leerzeichen/und\\011Tab rw - ext4 /dev/sda1 rw\n"
    "26 22 8:1 / /zurück\\134nach rw - ext4 /dev/sda1 ro\n"
).encode() + b"27 22 8:1 / /kein-\xff-utf8 rw - ext4 /dev/sda1 rw\n"


def test_mount_paths_are_root_relative_and_unescaped() -> None:
    assert parse_mountinfo(_TABLE) == (
        MountPoint(23, b"proc", False),
        MountPoint(24, b"etc/hosts", True),
        MountPoint(25, b"mit Leerzeichen/und\tTab", False),
        MountPoint(26, "zurück\\nach".encode(), False),
        MountPoint(27, b"kein-\xff-utf8", False),
    )


def test_only_mounts_below_the_directory_count() -> None:
    assert parse_mountinfo(_TABLE, b"/etc") == (MountPoint(24, b"hosts", True),)
    assert parse_mountinfo(_TABLE, b"/et") == ()

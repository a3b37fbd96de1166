"""The root sandbox leaves alone whatever is mounted, whatever its path is made of."""

from __future__ import annotations

from imagewright.fs.rootfs import Rootfs
from imagewright.sandbox.choose import mount_points

_MOUNTINFO = (
    "22 1 0:21 / / rw - overlay overlay rw\n"
    "23 22 0:22 / /proc rw,nosuid shared:5 - proc proc rw\n"
    "24 22 8:1 /hosts /etc/hosts rw master:1 - ext4 /dev/sda1 rw\n"
    "25 22 8:1 / /mit\\040Leerzeichen/und\\011Tab rw - ext4 /dev/sda1 rw\n"
    "26 22 8:1 / /zurück\\134nach rw - ext4 /dev/sda1 rw\n"
).encode() + b"27 22 8:1 / /kein-\xff-utf8 rw - ext4 /dev/sda1 rw\n"


def test_paths_are_root_relative_and_as_they_are_on_disk() -> None:
    assert mount_points(_MOUNTINFO) == {
        "proc",
        "etc/hosts",
        "mit Leerzeichen/und\tTab",
        "zurück\\nach",
        "kein-\udcff-utf8",
    }


def test_a_root_file_system_that_excludes_them_knows_them_by_their_bytes() -> None:
    rootfs = Rootfs("/", mount_points(_MOUNTINFO))
    for path in ("zurück\\nach".encode(), b"kein-\xff-utf8", b"mit Leerzeichen/und\tTab/darunter"):
        assert rootfs.is_excluded(path)

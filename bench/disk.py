"""An empty file system for one build, and what was written to it.

Makes and mounts an ext4 in a sparse file below BENCH_DIR (/var/tmp); as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SIZE = 48 << 30  # sparse
_SECTOR = 512  # the unit of /sys/block/*/stat, whatever the device's own
_MARGIN = 4 << 30  # left free for everybody else
_INTERVAL_S = 0.05


@dataclass(slots=True)
class Written:
    """``peak`` are the bytes in use at most, ``device`` those that reached the device."""

    peak: int = 0
    device: int = 0

    @property
    def bytes(self) -> int:
        """At least so many were written: a file that is removed soon enough never reaches the device."""
        return max(self.peak, self.device)


@dataclass(frozen=True, slots=True)
class Disk:
    folder: Path
    device: str  # its name in /sys/block

    @contextmanager
    def counted(self) -> Iterator[Written]:
        """Count what is written until the end, written back included."""
        written, ended = Written(), threading.Event()
        os.sync()
        begin, used = self._sectors(), self._used()

        def watch() -> None:
            while not ended.wait(_INTERVAL_S):
                written.peak = max(written.peak, self._used() - used)

        thread = threading.Thread(target=watch, name="disk")
        thread.start()
        try:
            yield written
        finally:
            ended.set()
            thread.join()
            os.sync()
            written.device = (self._sectors() - begin) * _SECTOR

    def _sectors(self) -> int:
        return int(Path("/sys/block", self.device, "stat").read_text().split()[6])

    def _used(self) -> int:
        info = os.statvfs(self.folder)  # blocks that wait for write-back count as used
        return (info.f_blocks - info.f_bfree) * info.f_frsize


def parent() -> Path:
    return Path(os.environ.get("BENCH_DIR") or "/var/tmp")


def lacking(needed: int) -> str:
    """Why a workload that needs so many bytes can't run; "" if it can."""
    free = shutil.disk_usage(parent()).free
    if free >= needed + _MARGIN:
        return ""
    return f"needs {needed / 1e9:.0f} GB and {_MARGIN / 1e9:.0f} GB to spare below {parent()}, where {free / 1e9:.0f} GB are free"


@contextmanager
def fresh_disk() -> Iterator[Disk]:
    """An empty ext4.

    For minutes after many files were deleted ext4 passes over their inodes one by one (its ``recently_deleted``), so on
    a shared file system each build would pay for how many files the one before it had.
    """
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=parent()))
    image, folder = place / "disk", place / "mnt"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE)
    device = ""
    try:
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)], check=True)
        found = ["losetup", "--find", "--show", str(image)]
        device = subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
        subprocess.run(["mount", device, str(folder)], check=True)
        yield Disk(folder, Path(device).name)
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", "--recursive", str(folder)], check=False)
        if device:
            subprocess.run(["losetup", "--detach", device], check=False)
        shutil.rmtree(place, ignore_errors=True)

"""The builders that are compared: each builds and pushes one image from nothing, as a process of its own.

Runs programs and removes what they leave.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall time in seconds, tidying up included; peak resident memory of the builder's own process in MiB."""

    seconds: float
    memory_mib: float


class BuildFailed(Exception):
    """What the builder said."""


def imagewright(context: Path, host: str, tag: str, folder: Path) -> Measured:
    """Our engine."""
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={context}", f"--destination={host}/{tag}",
        f"--registry-endpoint=docker.io={host}", f"--work-dir={folder}", "--verbosity=warn",
    ]  # fmt: skip
    return _measure([command], {})


def buildah(context: Path, host: str, tag: str, folder: Path) -> Measured:
    """Debian's buildah, as root, with the overlay driver where the file system allows it."""
    config = folder / "registries.conf"
    config.write_text(
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{host}"\ninsecure = true\n'
        f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
    )
    common = ["buildah", f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=overlay"]
    image = f"{host}/{tag}"
    build = [*common, "bud", "--isolation=chroot", "--layers=false", "--network=host", "--tls-verify=false",
             "--format=oci", "-t", image, str(context)]  # fmt: skip
    push = [*common, "push", "--tls-verify=false", image]
    try:
        return _measure([build, push], {"CONTAINERS_REGISTRIES_CONF": str(config)})
    finally:
        subprocess.run(["umount", f"{folder}/root/overlay"], check=False, capture_output=True)


BUILDERS = {"imagewright": imagewright, "buildah": buildah}


def run(builder: str, context: Path, host: str, tag: str) -> Measured:
    """One build with an empty store, on a file system of its own whose device has nothing left to write."""
    with fresh_disk() as folder:
        os.sync()
        return BUILDERS[builder](context, host, tag, folder)


@contextmanager
def fresh_disk() -> Iterator[Path]:
    """An empty ext4 in a sparse file below BENCH_DIR (/var/tmp).

    For minutes after many files were deleted ext4 passes over their inodes one by one (its ``recently_deleted``), so on
    a shared file system each build would pay for how many files the one before it had.
    """
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR") or "/var/tmp"))
    image, folder = place / "disk", place / "mnt"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 30)
    mounted = False
    try:
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
        mounted = True
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--recursive", str(folder)], check=False)
        shutil.rmtree(place, ignore_errors=True)


def _measure(commands: list[list[str]], environment: dict[str, str]) -> Measured:
    peak = 0.0
    begin = time.monotonic()
    for command in commands:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        memory: list[float] = [0.0]
        watcher = threading.Thread(target=_watch, args=(process, memory))
        watcher.start()
        output, _ = process.communicate()
        watcher.join()
        peak = max(peak, memory[0])
        if process.returncode != 0:
            raise BuildFailed(f"{' '.join(command)}\n{output[-3000:]}")
    return Measured(time.monotonic() - begin, peak)


def _watch(process: subprocess.Popen[str], memory: list[float]) -> None:
    """The builder's own high-water mark, without that of the commands it runs."""
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                for line in file:
                    if line.startswith("VmHWM"):
                        memory[0] = int(line.split()[1]) / 1024
        except (OSError, ValueError):
            return
        time.sleep(0.05)

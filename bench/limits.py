"""What the machine can do at best with the largest layer of the large base: what a build's time is to be compared with.

Reads from the registry, writes an empty file system, runs tar.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from isal import igzip

from bench import remote
from bench.disk import fresh_disk

_CHUNK = 1 << 20


def limits(host: str, image: str) -> dict[str, float]:
    """Seconds for one thread, by what is done; the sizes in the names."""
    repository, _, tag = image.removeprefix(f"{host}/").partition(":")
    layer = max(remote.layers(host, repository, tag), key=lambda layer: layer["size"])
    with fresh_disk() as disk:
        packed, folder = disk.folder / "layer.tar.gz", disk.folder / "unpacked"
        folder.mkdir()
        with remote.open_blob(host, repository, layer["digest"]) as source, packed.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        os.sync()
        size = 0

        def inflate() -> None:
            nonlocal size
            with igzip.open(packed, "rb") as stream:  # type: ignore[no-untyped-call]
                while data := stream.read(_CHUNK):
                    size += len(data)

        def digest() -> None:
            hasher, data = hashlib.sha256(), bytes(_CHUNK)
            for _ in range(size // _CHUNK):
                hasher.update(data)

        found = {"inflate": _timed(inflate), "SHA-256": _timed(digest)}
        found["write, with sync"] = _timed(lambda: _write(disk.folder / "written", size))
        tar = ["tar", "--extract", "--gzip", f"--file={packed}", f"--directory={folder}"]
        found["tar -xzf, with sync"] = _timed(lambda: _extract(tar))
    sizes = f"{layer['size'] / 1e6:.0f} MB to {size / 1e6:.0f} MB"
    return {f"{what} ({sizes})": round(seconds, 3) for what, seconds in found.items()}


def _timed(action: Callable[[], None]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def _write(path: Path, size: int) -> None:
    data = os.urandom(_CHUNK)
    with path.open("wb") as file:
        for _ in range(size // _CHUNK):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _extract(command: list[str]) -> None:
    subprocess.run(command, check=True)
    os.sync()

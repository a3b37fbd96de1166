"""Memory does not grow with the content of a layer: a file of 2 GB, and 100,000 files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine

pytestmark = [pytest.mark.root, pytest.mark.registry]

MIB = 1024 * 1024
LIMIT_MIB = 300


def peak_mib(engine: Engine, context: Path) -> float:
    """Build and push; the high-water mark of the engine and its helper, without that of the commands they run."""
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={context}", f"--destination={engine.host}/memory:1",
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder / 'work'}",
    ]  # fmt: skip
    marks: dict[int, int] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def watch() -> None:
        while process.poll() is None:
            for pid in (process.pid, *children(process.pid)):
                marks[pid] = max(marks.get(pid, 0), high_water_kib(pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    assert process.returncode == 0, output
    return sum(marks.values()) / 1024


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def high_water_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def test_a_file_of_two_gigabytes(engine: Engine) -> None:
    context = engine.context(
        "FROM busybox AS made\nCOPY big /big\nFROM busybox\nCOPY --from=made /big /again\nRUN rm /again\n"
    )
    with open(context / "big", "wb") as file:
        block = os.urandom(MIB)
        for number in range(2048):
            file.write(number.to_bytes(8, "big") + block[8:])
    assert peak_mib(engine, context) < LIMIT_MIB


def test_a_hundred_thousand_files(engine: Engine) -> None:
    script = "for d in $(seq 100); do mkdir -p /many/$d; (cd /many/$d && seq 1000 | xargs touch); done"
    context = engine.context(f"FROM busybox\nRUN {script}\nRUN echo x >/many/1/1\n")
    assert peak_mib(engine, context) < LIMIT_MIB

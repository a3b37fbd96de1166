"""The files that workloads copy: the same bytes on every machine.

Writes folders.
"""

from __future__ import annotations

import random
from pathlib import Path

_GO_MOD = "module example.com/bench\n\ngo 1.22\n"
_MAIN_GO = """\
package main

import (
\t"fmt"
\t"net/http"
)

func main() { fmt.Println(http.StatusText(%d)) }
"""


def one_file(path: Path) -> None:
    (path / "app.py").write_text("print('hello')\n")


def many_files(path: Path, count: int) -> None:
    """Small files of text, 50 a folder, 5.9 KB each on average: 25,000 are 147 MB."""
    numbers = random.Random(1)
    for folder in range(count // 50):
        place = path / "files" / f"{folder:03d}"
        place.mkdir(parents=True)
        for name in range(50):
            size = int(numbers.expovariate(1 / 5880)) + 1
            (place / f"{name:02d}.txt").write_bytes(numbers.randbytes(size // 2 + 1).hex().encode()[:size])


def go_program(path: Path) -> None:
    (path / "go.mod").write_text(_GO_MOD)
    (path / "main.go").write_text(_MAIN_GO % 200)


def change_go_program(path: Path) -> None:
    (path / "main.go").write_text(_MAIN_GO % 404)


def monorepo(path: Path, count: int) -> None:
    """``count`` files of 200 bytes in folders of 200; ``.dockerignore`` leaves the 300 of one service."""
    for number in range(count // 200):
        place = path / "services" / f"{number:04d}" / "src"
        place.mkdir(parents=True)
        for name in range(200):
            (place / f"{name:03d}.ts").write_text(f"export const it = {number * 200 + name};\n".ljust(200, "/"))
    for name in range(300):
        place = path / "services" / "ours" / "src"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name:03d}.ts").write_text(f"export const it = {name};\n".ljust(200, "/"))
    ignored = "services/*\n!services/ours\n**/node_modules\n**/*.log\n"
    (path / ".dockerignore").write_text(ignored)


def ten_files(path: Path) -> None:
    for number in range(10):
        _source(path, number, "one")


def change_one_file(path: Path) -> None:
    _source(path, 3, "another")


def change_all_files(path: Path) -> None:
    for number in range(10):
        _source(path, number, "another")


def _source(path: Path, number: int, version: str) -> None:
    (path / "src").mkdir(exist_ok=True)
    (path / "src" / f"{number}.py").write_text(f"version = {version!r}\n" * 100)

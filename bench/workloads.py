"""The workloads w1 to w4, and g75 to g300, which show how time grows: each a context that is written once, and the base
images they start from.

Writes folders below the cache. docs/performance.md says what each is like in real life.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOOLBOX = "bench/toolbox:1"  # a large base: compilers and runtimes of several languages
TOOLBOX_DOCKERFILE = """\
FROM golang
RUN apt-get update && apt-get install -y --no-install-recommends \\
    build-essential clang llvm cmake git python3-full python3-dev nodejs npm rustc cargo ruby-full \\
    && rm -rf /var/lib/apt/lists/*
"""


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    says: str
    dockerfile: str
    fill: Callable[[Path], None]

    def write(self, folder: Path) -> Path:
        """The context, made if it isn't there."""
        path = folder / self.name
        if not (path / "done").exists():
            path.mkdir(parents=True, exist_ok=True)
            self.fill(path)
            (path / ".dockerignore").write_text("done\n")
            (path / "done").touch()
        (path / "Dockerfile").write_text(self.dockerfile)
        return path


def _nothing(path: Path) -> None:
    (path / "app.py").write_text("print('hello')\n")


def _many_files(path: Path) -> None:
    """25,000 files of 147 MB in 500 folders; the same bytes on every machine."""
    numbers = random.Random(1)
    for folder in range(500):
        place = path / "files" / f"{folder:03d}"
        place.mkdir(parents=True)
        for name in range(50):
            size = int(numbers.expovariate(1 / 5880)) + 1
            (place / f"{name:02d}.txt").write_bytes(numbers.randbytes(size // 2 + 1).hex().encode()[:size])


def _go_program(path: Path) -> None:
    (path / "go.mod").write_text("module example.com/bench\n\ngo 1.22\n")
    (path / "main.go").write_text(
        'package main\n\nimport (\n\t"fmt"\n\t"net/http"\n)\n\nfunc main() { fmt.Println(http.StatusText(200)) }\n'
    )


WORKLOADS = (
    Workload(
        "w1",
        "pip install of Django and friends on a Python base",
        "FROM python\nWORKDIR /app\nRUN pip install --no-cache-dir --break-system-packages django djangorestframework celery"
        " requests\nCOPY app.py .\nCMD python3 app.py\n",
        _nothing,
    ),
    Workload(
        "w2",
        "ten small RUNs on a large base",
        f"FROM docker.io/{TOOLBOX}\n" + "".join(f"RUN echo {n} > /file-{n}\n" for n in range(10)),
        _nothing,
    ),
    Workload("w3", "COPY of 25,000 small files", "FROM debian\nCOPY files /files\n", _many_files),
    Workload(
        "w4",
        "go build on the large base, the binary into a small image",
        f"FROM docker.io/{TOOLBOX} AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\n"
        'FROM alpine\nCOPY --from=build /app /app\nCMD ["/app"]\n',
        _go_program,
    ),
)

# The same base with ever more small steps: what each adds must stay the same.
GROWTH = tuple(
    Workload(
        f"g{count}",
        f"{count} small RUNs on the large base",
        f"FROM docker.io/{TOOLBOX}\n" + "".join(f"RUN echo {n} > /file-{n}\n" for n in range(count)),
        _nothing,
    )
    for count in (75, 150, 300)
)

"""How much CPU a build takes from its start to the first byte that it asks of a registry.

    PYTHONPATH=.:tests .venv/bin/python -m bench.start [RUNS]

Starts ``imagewright build`` of a small Dockerfile with a base at a port of this process, which answers nothing, and
prints what the build and its helper processes had used when the first byte arrived. Byte code is kept in a folder of
its own, as the executor image has it; the first run, which compiles it, isn't counted.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median


def main() -> None:
    """Print the least and the median of some runs, 20 if not told otherwise."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        kept = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
        environment = {name: value for name, value in os.environ.items() if name not in kept}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        measured = [_start(Path(folder, str(number)), environment) for number in range(runs + 1)][1:]
    for name, values in zip(("CPU", "wall time"), zip(*measured, strict=True), strict=True):
        print(f"{name}: least {min(values) * 1000:.0f} ms, median {median(values) * 1000:.0f} ms")


def _start(folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds of CPU, and of wall time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        context = folder / "context"
        context.mkdir(parents=True)
        (context / "Dockerfile").write_text(f"FROM 127.0.0.1:{server.getsockname()[1]}/base\nCOPY a /a\nRUN true\n")
        (context / "a").touch()
        words = ["build", "--no-push", "--insecure", f"--work-dir={folder}/work", str(context)]
        program = [sys.executable, "-m", "imagewright", *words]
        begin = time.monotonic()
        build = subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                wall = time.monotonic() - begin
                return sum(_cpu(pid) for pid in _family(build.pid)) + _ended_children(build.pid), wall
        finally:
            os.killpg(build.pid, signal.SIGKILL)
            build.wait()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu(pid: int) -> float:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def _ended_children(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

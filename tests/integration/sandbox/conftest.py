"""Root file systems and modes to run commands in, for the sandbox's tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.sandbox.choose import start
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand, SandboxOptions
from imagewright.sandbox.runner.client import Runner

HERE = Path(__file__).parent
Engine = Callable[..., subprocess.CompletedProcess[str]]
PROGRAMS = ("attack", "ask", "nest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the sandbox's tests need root"))


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """A directory with ``PROGRAMS`` and ``busybox``, statically linked, that every user may read."""
    directory = Path(tempfile.mkdtemp(prefix="sandbox-programs-"))
    directory.chmod(0o755)
    for name in PROGRAMS:
        subprocess.run(["gcc", "-O1", "-w", "-static", "-o", directory / name, HERE / f"{name}.c"], check=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is missing: run scripts/setup"
    shutil.copy(busybox, directory / "busybox")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def rootfs(tmp_path: Path, programs: Path) -> Path:
    """A minimal image: only /bin."""
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    root.chmod(0o755)
    shutil.copy(programs / "busybox", root / "bin/busybox")
    for name in PROGRAMS:
        shutil.copy(programs / name, root / "bin" / name)
    names = subprocess.run([programs / "busybox", "--list"], check=True, capture_output=True, text=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


@dataclass
class Outcome:
    code: int
    text: str


@dataclass
class Mode:
    """A sandbox with a root file system to run scripts in. ``inside``: the directory in which files may be created."""

    kind: SandboxKind
    rootfs: Path
    inside: str
    attack: str
    execute: Callable[[RunCommand, Callable[[bytes], None]], int]
    chunks: list[bytes] = field(default_factory=list)

    def run(self, *argv: str, env: dict[str, str] | None = None, user: tuple[int, ...] = (0, 0)) -> Outcome:
        return self.command(
            RunCommand(
                str(self.rootfs),
                argv,
                tuple((env or {"PATH": "/bin:/usr/bin"}).items()),
                "/",
                user[0],
                user[1],
                user[2:],
            )
        )

    def sh(self, script: str, user: tuple[int, ...] = (0, 0)) -> Outcome:
        return self.run("/bin/sh", "-c", script, user=user)

    def command(self, command: RunCommand) -> Outcome:
        chunks: list[bytes] = []
        code = self.execute(command, chunks.append)
        return Outcome(code, b"".join(chunks).decode())


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def namespace(rootfs: Path, work: Path) -> Iterator[Mode]:
    sandbox = start(SandboxKind.NAMESPACE, SandboxOptions(str(work)))
    yield Mode(sandbox.kind, rootfs, "/", "/bin/attack", sandbox.run)
    sandbox.close()
    linux.set_dumpable(True)


@pytest.fixture
def chroot(rootfs: Path, work: Path) -> Iterator[Mode]:
    sandbox = start(SandboxKind.CHROOT, SandboxOptions(str(work)))
    yield Mode(sandbox.kind, rootfs, "/", "/bin/attack", sandbox.run)
    sandbox.close()
    linux.set_dumpable(True)


@pytest.fixture
def root(work: Path, programs: Path) -> Iterator[Mode]:
    """The mode ``root`` on this machine's own root, which ``start`` refuses: only for harmless scripts."""
    runner = Runner(str(work))
    yield Mode(
        SandboxKind.ROOT,
        Path("/"),
        str(programs),
        str(programs / "attack"),
        lambda command, output: runner.run(SandboxKind.ROOT, command, output),
    )
    runner.close()


@pytest.fixture(params=["namespace", "root", "chroot"])
def mode(request: pytest.FixtureRequest) -> Mode:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Mode)
    return found


@pytest.fixture
def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SECRET": "hunter2-registry-password"}


@pytest.fixture
def engine(rootfs: Path, work: Path, environment: dict[str, str]) -> Engine:
    """Run a script in a mode of a process like the engine, in a place made by ``prelude``."""

    def run(kind: str, script: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HERE / "engine_process.py"), kind, str(work), str(rootfs), script]
        if prelude:
            place = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", f'{prelude} "$@"', "sh"]
            command = [*place, *command]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


class Running:
    """Finds processes by words in their command lines, separated by NUL."""

    def __call__(self, words: str) -> list[str]:
        """Their present pids."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if words in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"):
                    found.append(pid)
            except OSError:
                continue
        return found

    def await_start(self, words: str) -> None:
        """Wait for one: a shell that printed something may not have executed its next command yet."""
        assert eventually(lambda: self(words)), f"{words!r} never started"

    def await_end(self, words: str) -> None:
        """Wait until none is left."""
        assert eventually(lambda: not self(words)), f"{words!r} still runs: {self(words)}"


def eventually(true: Callable[[], object]) -> bool:
    for _ in range(1000):
        if true():
            return True
        time.sleep(0.03)
    return False


@pytest.fixture
def running() -> Running:
    return Running()

"""Commands that run in parallel, and how they are stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.choose import start
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand, Sandbox, SandboxOptions
from imagewright.sandbox.runner.client import RunnerPool

pytestmark = pytest.mark.root

COUNT = 3
TRUE = RunCommand("/", ("/bin/true",), (), "/")


@pytest.fixture(params=[SandboxKind.NAMESPACE, SandboxKind.CHROOT])
def sandbox(request: pytest.FixtureRequest, work: Path) -> Iterator[Sandbox]:
    found = start(request.param, SandboxOptions(str(work), parallel=COUNT))
    yield found
    found.close()
    linux.set_dumpable(True)


@pytest.fixture
def roots(rootfs: Path, tmp_path: Path) -> list[Path]:
    """A root file system for each command, as each stage has its own."""
    roots = [tmp_path / f"rootfs-{number}" for number in range(12)]
    for root in roots:
        shutil.copytree(rootfs, root, symlinks=True)
    return roots


def shell(rootfs: Path, script: str, *words: str) -> RunCommand:
    return RunCommand(str(rootfs), ("/bin/sh", "-c", script, *words), (("PATH", "/bin"),), "/")


def text(sandbox: Sandbox, command: RunCommand) -> str:
    chunks: list[bytes] = []
    sandbox.run(command, chunks.append)
    return b"".join(chunks).decode()


def test_configured_number_of_commands_runs_in_parallel(sandbox: Sandbox, roots: list[Path]) -> None:
    assert sandbox.parallel == COUNT
    all_here = threading.Barrier(COUNT)

    def output(root: Path, data: bytes) -> None:
        all_here.wait()
        (root / "go").touch()

    def run(root: Path) -> int:
        script = "echo here; until [ -e /go ]; do sleep 0.02; done"
        return sandbox.run(shell(root, script), lambda data: output(root, data))

    with ThreadPoolExecutor(COUNT) as threads:
        assert list(threads.map(run, roots[:COUNT])) == [0] * COUNT


def test_further_commands_wait_and_outputs_stay_separate(sandbox: Sandbox, roots: list[Path]) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do echo $0; done; head -c 100000 /dev/zero | tr '\\0' $0"
    names = "abcdefghijkl"
    commands = [shell(root, script, name) for root, name in zip(roots, names, strict=True)]
    with ThreadPoolExecutor(len(names)) as threads:
        found = list(threads.map(lambda command: text(sandbox, command), commands))
    assert found == [f"{name}\n" * 8 + name * 100_000 for name in names]


def test_close_stops_running_and_waiting_commands(
    sandbox: Sandbox, roots: list[Path], running: Callable[[str], list[str]]
) -> None:
    name = f"8{time.time_ns() % 10**9}"
    failures: list[str] = []

    def run(root: Path) -> None:
        with pytest.raises(SandboxError) as caught:
            sandbox.run(shell(root, f"sleep {name}"), lambda data: None)
        failures.append(caught.value.message)

    threads = [threading.Thread(target=run, args=(root,)) for root in roots[: COUNT + 2]]
    for thread in threads:
        thread.start()
    while len(running(f"sleep\0{name}")) < COUNT:
        time.sleep(0.01)
    sandbox.close()
    for thread in threads:
        thread.join()
    assert len(failures) == COUNT + 2
    assert set(failures) == {"the process that runs commands was stopped"}
    assert running(f"sleep\0{name}") == []


def test_exception_of_an_output_reader_stops_only_its_command(
    sandbox: Sandbox, rootfs: Path, running: Callable[[str], list[str]]
) -> None:
    name = f"7{time.time_ns() % 10**9}"

    def output(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.run(shell(rootfs, f"echo now; sleep {name}"), output)
    assert running(f"sleep\0{name}") == []
    found = []
    for _ in range(COUNT):
        try:
            found.append(text(sandbox, shell(rootfs, "echo fine")))
        except SandboxError as error:
            found.append(error.message)
    assert sorted(found) == ["fine\n", "fine\n", "the process that runs commands was stopped"]


def test_runners_do_not_share_descriptors(work: Path) -> None:
    """Otherwise some would not notice the engine's exit, and one could impersonate the engine."""
    before = sockets("self")
    runners = RunnerPool(str(work), COUNT)
    try:
        ours = sockets("self") - before
        assert len(ours) == COUNT
        for runner in runners._all:
            assert runners.run(SandboxKind.ROOT, TRUE, lambda data: None) == 0  # each in its turn: it has begun
            assert len(sockets(runner.pid) - before) == 1
            assert not sockets(runner.pid) & ours
    finally:
        runners.close()


def sockets(pid: int | str) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of the directory that is read
            found.add(os.readlink(path))
    return {link for link in found if link.startswith("socket:")}


def test_root_mode_keeps_one_runner(work: Path) -> None:
    runners = RunnerPool(str(work), COUNT)
    runners.keep_one()
    assert len(runners) == 1
    assert runners.run(SandboxKind.ROOT, TRUE, lambda data: None) == 0
    runners.close()

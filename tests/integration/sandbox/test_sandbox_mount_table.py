"""The table of docs/sandbox.md, "What RUN mounts": every cell is tested to be true."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.sandbox.model import DirectoryMount, FileMount, RunCommand, SandboxMount, SocketMount, TmpfsMount

if TYPE_CHECKING:
    from conftest import Mode

pytestmark = pytest.mark.root

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[2] / "docs" / "sandbox.md"
MEANS = ("real", "by other means", "refused")


def table() -> dict[tuple[str, str], str]:
    """How (mount, mode) is implemented, from the table."""
    section = DOCUMENT.read_text().partition("## What RUN mounts\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    modes = [cell.strip("`") for cell in rows[0][1:]]
    return {(row[0].strip("`"), mode): cell for row in rows[2:] for mode, cell in zip(modes, row[1:], strict=True)}


@dataclass(frozen=True)
class Cell:
    """What the command does with a mount at ``m``; ``seen``: what is at the target if the mount is emulated."""

    mount: Callable[[str, Path], SandboxMount]
    script: str
    answer: str
    seen: str
    kept: bool = False


CELLS = {
    "--mount=type=bind": Cell(lambda at, source: DirectoryMount(at, str(source)), "cat m/file", "content", "file"),
    "--mount=type=bind,rw": Cell(
        lambda at, source: DirectoryMount(at, str(source), discard=True), "echo >m/new; cat m/file", "content", "new"
    ),
    "--mount=type=cache": Cell(
        lambda at, source: DirectoryMount(at, str(source), writable=True), "echo >m/new; cat m/file", "content", "new", True
    ),
    "--mount=type=tmpfs": Cell(lambda at, _: TmpfsMount(at), "echo >m/new; ls m", "new\n", "new"),
    "--mount=type=secret": Cell(lambda at, _: FileMount(at, b"hunter2"), "cat m", "hunter2", "hunter2"),
    "--mount=type=ssh": Cell(lambda at, source: SocketMount(at, f"{source}/agent"), "$ASK m text", "TEXT", ""),
    "a script of a heredoc": Cell(lambda _, __: FileMount("/dev/pipes/EOF", b"#!$SH sh\necho ran", 0o755), "", "ran\n", ""),
}  # fmt: skip


def test_table_and_tests_are_complete() -> None:
    assert {row for row, _ in table()} == {*CELLS, "--network=none"}
    assert {mode for _, mode in table()} == {"namespace", "root", "chroot"}
    assert all(re.match("|".join(MEANS), cell) for cell in table().values())


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file, and an agent that answers in capitals."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("content")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "agent"))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(connection.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        yield directory
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("row", CELLS)
def test_mount_behaves_as_documented(mode: Mode, row: str, source: Path) -> None:
    says = table()[row, mode.kind.value]
    cell = CELLS[row]
    base = Path(mode.inside) / "base-of-the-table"
    outside = Path(f"{mode.rootfs}{base}")
    outside.mkdir()
    directory = "/bin" if mode.inside == "/" else mode.inside
    mount = cell.mount(f"{base}/m", source)
    script = cell.script
    if row == "a script of a heredoc":
        assert isinstance(mount, FileMount)
        mount = FileMount(mount.target, mount.content.replace(b"$SH", f"{directory}/busybox".encode()), mount.mode)
        script = mount.target
    before = sorted(os.listdir(source))
    chunks: list[bytes] = []
    places: list[str] = []

    def output(data: bytes) -> None:
        chunks.append(data)
        if b"ready" in data:
            places.append(content(outside / "m"))
            (outside / "go").touch()  # the command waits for it

    words = f"cd {base}; ASK={directory}/ask; {script}; echo ready; until [ -e go ]; do sleep 0.02; done; rm go"
    command = RunCommand(
        str(mode.rootfs),
        (f"{directory}/busybox", "sh", "-c", words),
        (("PATH", "/bin:/usr/bin"),),
        "/",
        mounts=(mount,),
    )
    try:
        assert mode.execute(command, output) == 0
        assert b"".join(chunks).decode() == f"{cell.answer}ready\n"
        (seen,) = places
        assert (cell.seen != "" and cell.seen in seen) == (says.startswith("by other means") and cell.seen != "")
        assert not says.startswith("refused")
        assert sorted({*before, "new"} if cell.kept else before) == sorted(os.listdir(source))
        assert os.listdir(outside) == []
    finally:
        shutil.rmtree(outside)


def content(path: Path) -> str:
    """What is at a mount point outside while the command runs."""
    if path.is_dir():
        return " ".join(os.listdir(path))
    return path.read_text() if path.is_file() else ""


@pytest.mark.parametrize("rights", ["all", "as in a Pod"])
def test_network_none_behaves_as_documented(mode: Mode, work: Path, rights: str) -> None:
    says = table()["--network=none", mode.kind.value]
    busybox = "/bin/busybox" if mode.inside == "/" else f"{mode.inside}/busybox"
    confined = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"] if rights != "all" else []
    words = [busybox, "sh", "-c", "ip -o link | cut -d: -f2; ip -o -4 addr show lo | grep -c 127.0.0.1"]
    done = subprocess.run(
        [*confined, sys.executable, HERE / "network_process.py", mode.kind.value, work, mode.rootfs, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if says.startswith("real") or rights == "all":
        assert (done.returncode, done.stdout.split()) == (0, ["lo", "1"])
    else:
        assert done.returncode == 99
        assert "cannot isolate the network (--network=none)" in done.stdout
        assert "the namespace sandbox can" in done.stdout

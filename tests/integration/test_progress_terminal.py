"""A build on a real terminal (a pty): what is left on it, and that Ctrl-C gives it back."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"


class Terminal:
    """A program on a terminal of its own, which is its controlling one: Ctrl-C reaches it as on a person's."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        self.text = ""

        environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "HOME": str(folder), "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
        )
        os.close(slave)

    def read_until(self, there: Callable[[str], bool]) -> None:
        """Read what it writes until ``there`` is content, or the program has ended."""
        while not there(self.text):
            ready, _, _ = select.select([self.master], [], [], 60)
            assert ready, f"it hangs: {self.text!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                return
            if not data:
                return
            self.text += data.decode()

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        self.read_until(lambda text: False)
        return self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Terminal]]:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is needed: run scripts/setup as root")
    shutil.copy(busybox, tmp_path / "busybox")
    started: list[Terminal] = []

    def run(dockerfile: str) -> Terminal:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        program = [
            sys.executable,
            "-m",
            "imagewright",
            "build",
            "--context=.",
            "--no-push",
            f"--work-dir={tmp_path}/work",
        ]
        started.append(Terminal(program, tmp_path))
        return started[-1]

    (tmp_path / "work").mkdir()
    yield run
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()
        os.close(terminal.master)


BASE = "FROM scratch\nCOPY busybox /bin/busybox\n"


def test_a_build_shows_its_output_while_it_runs_and_leaves_a_line_for_each_step(
    start: Callable[[str], Terminal],
) -> None:
    terminal = start(BASE + 'RUN ["/bin/busybox", "sh", "-c", "echo the output; /bin/busybox sleep 1"]\n')
    assert terminal.end() == 0, terminal.text
    assert terminal.text.count(HIDE) == terminal.text.count(SHOW) == 1
    assert terminal.text.index(HIDE) < terminal.text.index("    the output") < terminal.text.index(SHOW)
    plain = re.sub(r"\x1b\[[0-?]*[@-~]", "", terminal.text)
    assert re.search(r"✓ \[stage-0 2/3\] COPY busybox /bin/busybox  \d+\.\d s", plain)
    assert re.search(r"✓ \[stage-0 3/3\] RUN .*the output.*  [1-9]\d*\.\d s", plain)
    assert re.search(r"sha256:[0-9a-f]{64}\r\n$", plain)


def test_a_failing_step_ends_with_its_place_and_its_output(start: Callable[[str], Terminal]) -> None:
    terminal = start(BASE + 'RUN ["/bin/busybox", "sh", "-c", "echo \\\\\\\\033[31mno rule; exit 3"]\nUSER 1\n')
    assert terminal.end() == 7, terminal.text
    last = re.sub(r"\x1b\[[0-?]*[@-~]", "", terminal.text[terminal.text.index(SHOW) :])
    for words in (
        "failed with exit code 3: ",
        "[StepFailed]",
        "--> Dockerfile:3",
        "2 | COPY busybox",
        "3 | RUN",
        "4 | USER 1",
        "no rule",
    ):
        assert words in last


def test_ctrl_c_ends_the_build_and_gives_the_terminal_back(start: Callable[[str], Terminal], tmp_path: Path) -> None:
    terminal = start(BASE + 'RUN ["/bin/busybox", "sh", "-c", "echo begun; /bin/busybox sleep 1000"]\n')
    terminal.read_until(lambda text: "    begun" in text)
    terminal.press(b"\x03")
    assert terminal.end() == 130, terminal.text
    assert terminal.text.count(SHOW) == 1
    assert "cancelled" in terminal.text
    assert "Traceback" not in terminal.text
    assert os.listdir(tmp_path / "work") == []

"""``kubectl imagewright`` as a user runs it, with a kubeconfig.

I/O: runs it, here or as a process.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from imagewright_kubectl import main


class Plugin:
    """The plugin, in one namespace of one cluster."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig, self._namespace = kubeconfig, namespace

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on while the test does something else."""
        return subprocess.Popen(
            [sys.executable, "-m", "imagewright_kubectl", *self._words(words)],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command to its end, in this process: starting one takes longer than most commands."""
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), _given(stdin):
            code = main.run(self._words(words))
        out.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), err.getvalue())

    def output(self, *words: str, stdin: str = "") -> str:
        """What a command writes that must succeed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _words(self, words: tuple[str, ...]) -> list[str]:
        place = [f"--kubeconfig={self._kubeconfig}", f"--namespace={self._namespace}"]
        return [*words[:1], *place, *words[1:]]


@contextmanager
def _given(text: str) -> Iterator[None]:
    """Standard input."""
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = before


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "IMAGEWRIGHT_"))}

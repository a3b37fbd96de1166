"""The operator as a process of its own, which can be killed, frozen and started again.

I/O: one process, its log in a file that is given.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagebuilds.waiting import PATIENCE_S
from servers.running import free_port

_PROGRAM = ("-m", "imagewright_operator")


class Operator:
    """The operator's process. ``program`` is what Python is given instead of its module."""

    def __init__(self, kubeconfig: Path, log: Path, program: Sequence[str] = _PROGRAM, **settings: str) -> None:
        self._kubeconfig, self._log, self._program, self._settings = kubeconfig, log, program, settings
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.port = free_port()
        settings = {"RESYNC_SECONDS": "2", **self._settings, "HTTP_PORT": str(self.port)}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("IMAGEWRIGHT_", "KUBE"))},
            **{f"IMAGEWRIGHT_{name}": value for name, value in settings.items()},
            "KUBECONFIG": str(self._kubeconfig),
        }
        with self._log.open("ab") as log:
            command = [sys.executable, "-W", "ignore:Unverified", *self._program]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._log.parent)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def exit_code(self) -> int | None:
        """None while it runs; that of a signal is below zero."""
        return self._process.poll() if self._process is not None else None

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def operators_in(folder: Path) -> Iterator[Callable[..., Operator]]:
    """Starts operators, ``start(kubeconfig, **settings)``; at the end none runs and each one's log is printed."""
    made: list[Operator] = []
    key = folder / "signing.key"  # of all operators of one test, as replicas have one
    if not key.exists():
        key.write_bytes(os.urandom(32))

    def start(kubeconfig: Path, **settings: Any) -> Operator:
        given = {"SIGNING_KEY_FILE": str(key), **settings}
        operator = Operator(kubeconfig, folder / f"operator-{len(made)}.log", **given)
        made.append(operator)
        operator.start()
        return operator

    try:
        yield start
    finally:
        for operator in made:
            if operator.is_running():
                operator.kill()
            sys.stdout.write(operator.log())

"""A Pod for tests of the engine: the executor on this machine, and beside it a runner in a container of its own.

The runner has its own root, mounts and processes, as in a cluster; the two share a directory for their socket.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from containers.container import (
    OWN_PROCESSES,
    REPOSITORY,
    Container,
    Layer,
    empty_container,
    layers_of,
    make_base,
    write_context,
)

from imagewright.contract import REQUEST_ENV
from imagewright.contract.coding import read
from imagewright.contract.request import BuildRequest


@dataclass(slots=True)
class Pod:
    """``directory`` is a new one. ``log`` and ``code`` are the executor's last."""

    directory: Path
    runner: Container
    log: str = ""
    code: int = 0
    runner_code: int | None = None

    @property
    def work(self) -> Path:
        return self.directory / "work"

    @property
    def layout(self) -> Path:
        return self.directory / "out"

    def context(self, dockerfile: str, files: Mapping[str, str] = {}) -> Path:
        return write_context(self.directory / "context", dockerfile, files)

    def request(self, context: Path, run: Mapping[str, object] = {}) -> BuildRequest:
        base = {"name": "base", "source": {"kind": "ociLayout", "path": str(self.runner.root / "kaniko/base")}}
        return read(
            BuildRequest,
            {
                "context": {"source": {"kind": "directory", "path": str(context)}, "named": [base]},
                "run": {"sandbox": "root", "runner_socket": str(self.socket), **run},
                "output": {"push": False, "oci_layout_path": str(self.layout)},
                "work_dir": str(self.work),
            },
        )

    @property
    def socket(self) -> Path:
        return self.directory / "runner/socket"

    def start_runner(self) -> subprocess.Popen[str]:
        command = self.runner.command("runner", "/kaniko/runner/socket")
        command[1:1] = OWN_PROCESSES
        return subprocess.Popen(
            command, env=self.runner.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def start_executor(self, request: BuildRequest, *before: str) -> subprocess.Popen[str]:
        """``before``: the words of a program that runs the engine's."""
        env = {**os.environ, REQUEST_ENV: request.encode(), "PYTHONPATH": str(REPOSITORY / "builder")}
        return subprocess.Popen(
            [*before, sys.executable, "-m", "imagewright", "execute"],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def execute(self, request: BuildRequest, *before: str) -> None:
        """Run both containers to their end."""
        shutil.rmtree(self.layout, ignore_errors=True)
        self.socket.unlink(missing_ok=True)  # each Pod has a directory of its own
        runner = self.start_runner()
        try:
            executor = self.start_executor(request, *before)
            self.log = executor.communicate(timeout=300)[0]
            self.code = executor.returncode
            output = runner.communicate(timeout=30)[0]
            self.runner_code = runner.returncode
        finally:
            if runner.poll() is None:
                runner.send_signal(signal.SIGKILL)
                runner.wait()
        assert "Traceback" not in self.log + output, self.log + output

    def build(self, dockerfile: str, files: Mapping[str, str] = {}, **run: object) -> list[Layer]:
        """Build what must succeed; its layers, the base's first."""
        self.execute(self.request(self.context(dockerfile, files), run))
        assert self.code == 0, self.log
        return layers_of(self.layout)


def empty_pod(directory: Path) -> Pod:
    """A Pod with the image ``base``, and with what a kubelet mounts into each container."""
    runner = empty_container(directory / "runner-container")
    make_base(runner)
    runner.file("etc/resolv.conf", "nameserver 192.0.2.53\n")
    (directory / "runner").mkdir(parents=True)
    runner.mounted["kaniko/runner"] = directory / "runner"
    return Pod(directory, runner)

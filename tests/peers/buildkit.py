"""BuildKit's own daemon and client, from start to end: what this project's behaviour is measured by.

Starts buildkitd as root with folders and a socket of its own; it pulls from one registry, whatever an image's name
says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cluster.processes import eventually


@dataclass(frozen=True, slots=True)
class Build:
    """One build: a folder with its Dockerfile, and what a user gives on the command line."""

    context: Path
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    ssh: Mapping[str, Path] = field(default_factory=dict)
    build_contexts: Mapping[str, Path] = field(default_factory=dict)
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error`` is empty when there is an image in ``layout``."""

    layout: Path
    error: str
    log: str


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """``programs`` has buildkitd and buildctl. ``state`` gets content, socket and log.

    ``registry`` is reached over plain HTTP, and the names of ``hosts`` lead to it. ``starter`` is put before the
    command, to start it in another way.
    """

    programs: Path
    runc: Path
    state: Path
    registry: str
    hosts: tuple[str, ...] = ()
    # Overlay file systems break hard links that reach below a layer; a copy of the tree keeps them.
    snapshotter: str = "native"
    starter: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Daemon:
    """buildkitd, from construction to ``close``; its content stays in ``state``. Also a context manager."""

    def __init__(self, options: DaemonOptions) -> None:
        self._options = options
        state = options.state
        self.address = f"unix://{state}/buildkitd.sock"
        self._log = state / "buildkitd.log"
        state.mkdir(parents=True, exist_ok=True)
        config = state / "buildkitd.toml"
        config.write_text(_config(options))
        command = [*options.starter, str(options.programs / "buildkitd"), f"--config={config}"]
        command += [f"--root={state}/root", f"--addr={self.address}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=dict(options.environment)
            )
        try:
            eventually(self._answers, "buildkitd to answer", problem=self._log.read_text)
        except BaseException:
            self.close()
            raise

    @property
    def client(self) -> list[str]:
        """The client's program and the daemon's address."""
        return [str(self._options.programs / "buildctl"), f"--addr={self.address}"]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        command = [*self.client, "debug", "workers"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


class BuildKit:
    """Builds with a daemon that runs from construction to ``close``; also a context manager."""

    def __init__(self, programs: Path, runc: Path, state: Path, registry: str, hosts: Iterable[str]) -> None:
        self._builds = 0
        self.since = time.time()  # WORKDIR's folders may come from an earlier build, whatever the cache options say
        self._state = state
        self._daemon = Daemon(DaemonOptions(programs, runc, state, registry, tuple(hosts)))

    def build(self, build: Build) -> Outcome:
        """Build without any cache, with the frontend that is part of the daemon."""
        self._forget_contexts()
        self._builds += 1
        layout = self._state / f"layout-{self._builds}"
        # With a command line given, the frontend fetches no other one that a "# syntax=" line names.
        options = {"cmdline": "built-in", "image-resolve-mode": "pull"}
        options |= {"target": build.target} if build.target else {}
        options |= {"platform": build.platform} if build.platform else {}
        options |= {f"build-arg:{name}": value for name, value in build.build_args.items()}
        options |= {f"label:{name}": value for name, value in build.labels.items()}
        options |= {f"context:{name}": f"local:{name}" for name in build.build_contexts}
        locals_ = {"context": build.context, "dockerfile": build.context, **build.build_contexts}
        command = [*self._daemon.client, "build", "--progress=plain", "--no-cache"]
        command += ["--frontend=dockerfile.v0", f"--output=type=oci,dest={layout},tar=false"]
        command += [f"--opt={name}={value}" for name, value in options.items()]
        command += [f"--local={name}={path}" for name, path in locals_.items()]
        command += [f"--secret=id={name},src={path}" for name, path in build.secrets.items()]
        command += [f"--ssh={name}={path}" for name, path in build.ssh.items()]
        command += [f"--allow={name}" for name in build.allow]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._state)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        return Outcome(layout, _error(done.stderr) if done.returncode else "", done.stderr)

    def _forget_contexts(self) -> None:
        """Of contexts that it has seen, BuildKit takes a file of the same path, size and time for the one that it
        has.
        """
        command = [*self._daemon.client, "prune", "--all", "--filter=type==source.local"]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        self._daemon.close()
        shutil.rmtree(self._state / "root", ignore_errors=True)  # GBs of trees, which pytest would keep

    def __enter__(self) -> BuildKit:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _error(log: str) -> str:
    """buildctl's last words."""
    found = [line for line in log.splitlines() if line.startswith("error: ")]
    return found[-1] if found else log[-2000:]


def _config(options: DaemonOptions) -> str:
    quoted = json.dumps  # a JSON string is a TOML string
    worker = {"snapshotter": options.snapshotter, "binary": str(options.runc), "networkMode": "host"}
    sections = [
        'insecure-entitlements = ["network.host", "security.insecure"]',
        f"[otel]\nsocketPath = {quoted(f'{options.state}/otel.sock')}",
        "[cdi]\ndisabled = true",
        "[worker.oci]\nenabled = true\n" + "\n".join(f"{name} = {quoted(value)}" for name, value in worker.items()),
        "[worker.containerd]\nenabled = false",
        f"[registry.{quoted(options.registry)}]\nhttp = true",
        *(f"[registry.{quoted(host)}]\nmirrors = [{quoted(options.registry)}]" for host in options.hosts),
    ]
    return "\n".join(sections) + "\n"

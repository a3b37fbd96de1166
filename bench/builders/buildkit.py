"""BuildKit as tests/peers has it, with its fastest snapshotter: as root, or without any rights of the machine's root.

Starts buildkitd before the clock: an advantage over builders whose start is measured. In a fresh place its state is
empty; a warm store is that state.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cluster.binaries import binaries
from peers.buildkit import Daemon, DaemonOptions
from peers.programs import programs

from bench.builders.model import Commands, Site, Spent, Task, Worker
from bench.builders.ordinaryuser import USER

_NAME = 60  # characters of a vertex's name in a profile


@dataclass(frozen=True, slots=True)
class BuildKitWorker:
    site: Site
    client: Sequence[str]
    programs: Sequence[Path]

    def commands(self, task: Task) -> Commands:
        host = self.site.host
        build = [*self.client, "build", f"--progress={'rawjson' if task.profile else 'plain'}"]
        build += ["--frontend=dockerfile.v0", "--opt=cmdline=built-in", f"--local=context={task.context}"]
        build += [f"--local=dockerfile={task.context}", f"--output=type=image,name={host}/{task.image}:1,push=true"]
        if task.cache:
            build += [f"--export-cache=type=registry,ref={host}/{task.cache}:cache,mode=max"]
            build += [f"--import-cache=type=registry,ref={host}/{task.cache}:cache"]
        return Commands([build], self.site.environment)

    def profile(self, output: str) -> list[Spent]:
        """Each vertex's own time, the longest first; they run side by side."""
        begun: dict[str, tuple[str, float, float]] = {}
        for line in output.splitlines():
            if line.startswith("{"):
                for vertex in json.loads(line).get("vertexes") or ():
                    if "started" in vertex and "completed" in vertex:
                        begun[vertex["digest"]] = (
                            vertex["name"][:_NAME],
                            _time(vertex["started"]),
                            _time(vertex["completed"]),
                        )
        spent = [Spent(name, end - begin) for name, begin, end in begun.values()]
        return sorted(spent, key=lambda one: -one.seconds)[:15]


@dataclass(frozen=True, slots=True)
class BuildKit:
    """``rootless``: the daemon is root of a user namespace only."""

    rootless: bool = False

    def left_out(self) -> str:
        return ""

    @contextmanager
    def ready(self, site: Site) -> Iterator[Worker]:
        state = site.folder / "store" / "buildkit"
        options = DaemonOptions(
            programs(), binaries() / "runc", state, site.host, snapshotter="overlayfs", environment=site.environment
        )
        if self.rootless:
            options = _for_ordinary_user(options, site)
        with Daemon(options) as daemon:
            yield BuildKitWorker(site, daemon.client, (*options.programs.iterdir(), options.runc))


def _for_ordinary_user(options: DaemonOptions, site: Site) -> DaemonOptions:
    """With copies of the programs where the user may execute them, and folders that are the user's."""
    own = site.folder / "programs"
    own.mkdir(exist_ok=True)
    for program in (*options.programs.iterdir(), options.runc):
        shutil.copy2(program, own)
    options.state.mkdir(parents=True, exist_ok=True)  # it has files of a build before, where the store is warm
    environment = {**options.environment, "XDG_RUNTIME_DIR": str(site.folder / "tmp")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    for folder in (site.folder, *site.folder.iterdir(), options.state):
        os.chown(folder, USER, USER)
    site.folder.parent.chmod(0o755)
    starter = (sys.executable, "-m", "bench.builders.ordinaryuser")
    return replace(options, programs=own, runc=own / options.runc.name, starter=starter, environment=environment)


def _time(text: str) -> float:
    """RFC 3339, with nanoseconds."""
    head, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(head).timestamp() + float(f"0.{rest or 0}")

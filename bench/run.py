"""One measured build, after the one that fills caches and stores where the workload has them.

Runs the builder's commands, and counts around them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import memory, verify
from bench.builders.model import Builder, BuildFailed, Commands, Site, Spent, Task
from bench.disk import Disk, fresh_disk
from bench.figures import Measured
from bench.registry import Registry
from bench.workloads import Scale, Workload


@dataclass(frozen=True, slots=True)
class Bench:
    """What all builds of one run of the bench share. ``contexts`` is the folder of contexts."""

    registry: Registry
    contexts: Path
    scale: Scale
    run_id: str
    profile: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    measured: Measured
    spent: list[Spent]


def build(bench: Bench, workload: Workload, name: str, builder: Builder, number: int) -> Built:
    """Build a workload with the builder called ``name``.

    Raises:
        BuildFailed
    """
    host = bench.registry.host
    unique = f"{workload.name}-{name}-{bench.run_id}-{number}"
    cache = f"bench/cache-{unique}" if workload.cache else ""
    dockerfile = workload.dockerfile.format(host=host, scale=bench.scale.name)
    bases = tuple(dict.fromkeys(line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")))
    with fresh_disk() as disk:
        context = _context(bench, workload)
        (context / "Dockerfile").write_text(dockerfile)
        store = disk.folder / "store" if workload.warm else None
        task = Task(context, f"bench/{unique}", cache, store, bases)
        if workload.seeded:
            if store is not None:
                store.mkdir()
                _seed(builder, Site(host, disk.folder), task)
            else:
                with fresh_disk() as other:
                    _seed(builder, Site(host, other.folder), task)
            if workload.change is not None:
                workload.change(context)
        task = Task(context, f"bench/{unique}-measured", cache, store, bases, bench.profile)
        built = _measured(bench, builder, disk, task)
    if workload.large_mb:
        wrong = verify.large_file(host, task.image, "1", workload.large_mb * 1_000_000)
        if wrong:
            raise BuildFailed(f"the image is wrong: {wrong}")
    return built


def _context(bench: Bench, workload: Workload) -> Path:
    """The context, made if it isn't there; a copy of it if it is going to be changed."""
    place = bench.contexts / bench.scale.name / workload.name
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        (place / "files").mkdir(parents=True)
        workload.fill(place / "files")
        (place / "done").touch()
    context = place / "files"
    if workload.change is not None:
        context = Path(shutil.copytree(context, place / "changed", dirs_exist_ok=True))
        workload.fill(context)
    return context


def _seed(builder: Builder, site: Site, task: Task) -> None:
    with builder.ready(site) as worker:
        _run(worker.commands(task), before=True)


def _measured(bench: Bench, builder: Builder, disk: Disk, task: Task) -> Built:
    others = memory.children_now()
    registry = bench.registry
    with builder.ready(Site(registry.host, disk.folder)) as worker:
        commands = worker.commands(task)
        down, up, requests = registry.proxy.down, registry.proxy.up, registry.requests()
        with disk.counted() as written, memory.watched(worker.programs, others) as peak:
            begin = time.monotonic()
            output = _run(commands, before=False)
            seconds = time.monotonic() - begin
        measured = Measured(
            round(seconds, 3),
            peak.tree,
            peak.own,
            registry.proxy.down - down,
            registry.proxy.up - up,
            written.bytes,
            registry.requests() - requests,
        )
        return Built(measured, worker.profile(output) if task.profile else [])


def _run(commands: Commands, *, before: bool) -> str:
    """The output of all, errors included."""
    lines: Sequence[Sequence[str]] = (*(commands.before if before else ()), *commands.lines)
    output = ""
    for line in lines:
        done = subprocess.run(
            line, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=dict(commands.environment),
        )  # fmt: skip
        output += done.stdout
        if done.returncode != 0:
            raise BuildFailed(f"{' '.join(line)}\n{done.stdout[-3000:]}")
    return output

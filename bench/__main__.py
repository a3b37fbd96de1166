"""Builds the workloads with every builder, alternating, and prints times, ratios and peak memory.

What ``scripts/bench`` runs. Not a test: figures belong in docs/performance.md, with the machine they are from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.binaries import binaries
from cluster.images import publish
from cluster.places import cache_root
from cluster.progress import say, step
from servers.registry import RegistryServer, RegistryServerOptions

from bench.runners import BUILDERS, BuildFailed, Measured, run
from bench.workloads import GROWTH, TOOLBOX, TOOLBOX_DOCKERFILE, WORKLOADS


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("workload", nargs="*", help="w1 w2 w3 w4 (all without), g75 g150 g300")
    parser.add_argument("--runs", type=int, default=3, help="of each builder (the median counts)")
    parser.add_argument("--builder", action="append", choices=sorted(BUILDERS), help="only this one")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    given = parser.parse_args(arguments)
    chosen = [w for w in WORKLOADS + GROWTH if w.name in given.workload] if given.workload else list(WORKLOADS)
    cache = cache_root() / "bench"
    with RegistryServer(RegistryServerOptions(cache / "registry", binaries() / "registry")) as registry:
        host = registry.host
        prepare(host, cache)
        figures = {}
        for workload in chosen:
            context = workload.write(cache / "contexts")
            figures[workload.name] = measure(workload.name, context, host, given.runs, given.builder or list(BUILDERS))
    report(figures)
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=1))
    return 0


def prepare(host: str, cache: Path) -> None:
    """The base images, once for a cache."""
    stamp = cache / "prepared"
    before = stamp.read_text() if stamp.exists() else ""
    published = publish(host, before)
    if published != before:
        with (
            step(f"Building the large base {TOOLBOX} with our engine", "three minutes"),
            tempfile.TemporaryDirectory() as folder,
        ):
            Path(folder, "Dockerfile").write_text(TOOLBOX_DOCKERFILE)
            command = [sys.executable, "-m", "imagewright", "build", f"--context={folder}",
                       f"--destination={host}/{TOOLBOX}", f"--registry-endpoint=docker.io={host}"]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise BuildFailed(done.stderr[-3000:])
        stamp.write_text(published)


def measure(name: str, context: Path, host: str, runs: int, builders: list[str]) -> dict[str, list[list[float]]]:
    """[seconds, MiB] of each run by builder. The order alternates, so that neither always meets a warm cache."""
    found: dict[str, list[list[float]]] = {builder: [] for builder in builders}
    for number in range(runs):
        for builder in builders if number % 2 == 0 else reversed(builders):
            one: Measured = run(builder, context, host, f"bench/{name}-{builder}-{os.getpid()}-{number}:1")
            say(f"{name} {builder}: {one.seconds:.1f} s, {one.memory_mib:.0f} MiB")
            found[builder].append([round(one.seconds, 2), round(one.memory_mib, 1)])
    return found


def report(figures: dict[str, dict[str, list[list[float]]]]) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}; medians")
    print(f"{'':4} {'builder':12} {'seconds':>8} {'least':>7} {'most':>7} {'peak MiB':>9} {'ratio':>6}")
    for name, builders in figures.items():
        base = statistics.median(s for s, _ in builders["buildah"]) if "buildah" in builders else 0.0
        for builder, runs in builders.items():
            seconds = [s for s, _ in runs]
            middle = statistics.median(seconds)
            ratio = f"{middle / base:.2f}" if base else ""
            memory = max(m for _, m in runs)
            print(
                f"{name:4} {builder:12} {middle:8.1f} {min(seconds):7.1f} {max(seconds):7.1f} {memory:9.0f} {ratio:>6}"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

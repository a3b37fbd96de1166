"""Builds the workloads with every builder, alternating, and prints times, ratios and what each took.

What ``scripts/bench`` runs. Not a test: figures belong in docs/performance.md, with the machine they are from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.places import ClusterError, cache_root
from cluster.progress import say

from bench import memory
from bench.arguments import UnknownWorkload, chosen_by, parser
from bench.bases import prepare
from bench.builders.model import Builder, BuildFailed, Spent
from bench.builders.table import BUILDERS
from bench.disk import lacking
from bench.figures import Figures, Results
from bench.limits import limits
from bench.registry import started
from bench.run import Bench, Built, build
from bench.table import markdown
from bench.workloads import FULL, SMALL, TOOLBOX, Scale, Workload, named_only, workloads


def main(arguments: Sequence[str]) -> int:
    """Run the bench; 1 if a builder has no figures of a workload."""
    given = parser().parse_args(arguments)
    scale = SMALL if given.small else FULL
    chosen = chosen_by(given.workload, scale)
    if given.list:
        print("".join(f"{one.name:7} {one.says}\n" for one in (*workloads(scale), *named_only(scale))), end="")
        return 0
    memory.adopt_orphans()
    figures = Figures(_machine(scale))
    builders = _builders(given.builder, figures)
    cache = cache_root() / "bench"
    with started(cache) as registry:
        bench = Bench(registry, cache / "contexts", scale, str(os.getpid()), given.profile)
        prepare(registry.host, cache, scale, "".join(one.dockerfile for one in chosen) + TOOLBOX * given.limits)
        whole = False
        try:
            if given.limits:
                figures.limits = limits(registry.host, TOOLBOX.format(host=registry.host, scale=scale.name))
            for workload in chosen:
                results = figures.workloads[workload.name] = Results(workload.says)
                _measure(bench, workload, builders, given.runs, results)
            whole = not any(results.left_out for results in figures.workloads.values())
        except KeyboardInterrupt:
            say("interrupted: what was measured until now follows")
    _write(figures, given)
    return 0 if whole else 1


def _builders(names: Sequence[str] | None, figures: Figures) -> dict[str, Builder]:
    found = {}
    for name in names or BUILDERS:
        builder = BUILDERS[name]()
        why = builder.left_out()
        if why:
            say(f"{name} is left out: {why}")
            figures.left_out[name] = why
        else:
            found[name] = builder
    return found


def _measure(bench: Bench, workload: Workload, builders: Mapping[str, Builder], runs: int, results: Results) -> None:
    """Add the runs of one workload to ``results``. A builder that fails is left out.

    The order alternates, so that none always meets a warm page cache.
    """
    able = [name for name in builders if workload.only in ("", name)]
    for number in range(runs):
        for name in able if number % 2 == 0 else reversed(able):
            why = results.left_out.get(name) or lacking(workload.needs)
            if not why:
                try:
                    built = build(bench, workload, name, builders[name], number)
                except BuildFailed as error:
                    why = str(error)
                    say(f"{workload.name} {name} failed: {why}")
                else:
                    results.runs.setdefault(name, []).append(built.measured)
                    _report(workload, name, built)
            if why:
                results.left_out[name] = why


def _report(workload: Workload, name: str, built: Built) -> None:
    say(f"{workload.name} {name}: {built.measured.seconds:.1f} s, {built.measured.memory / 1024:.0f} MiB")
    for line in profile_lines(built.spent):
        say(f"  {line}")


def profile_lines(spent: Sequence[Spent]) -> list[str]:
    """A line for each part."""
    width = max((len(one.what) for one in spent), default=0)
    return [f"{one.what:{width}}  {one.seconds:7.2f} s  {one.more}".rstrip() for one in spent]


def _write(figures: Figures, given: argparse.Namespace) -> None:
    table = markdown(figures)
    print(table, end="")
    if given.markdown:
        Path(given.markdown).write_text(table)
    text = json.dumps(figures.to_json(), indent=1)
    if given.json:
        Path(given.json).write_text(text + "\n")
    if given.picture:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(text)
            file.flush()
            # matplotlib is in an environment of its own: the product's and the tests' don't have it.
            python = os.environ.get("BENCH_PICTURE_PYTHON", sys.executable)
            subprocess.run([python, "-m", "bench.picture", file.name, given.picture], check=True)


def _machine(scale: Scale) -> str:
    size = "" if scale is FULL else f"; scale {scale.name}, figures say nothing"
    return f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}{size}"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BuildFailed, ClusterError, UnknownWorkload) as problem:
        sys.exit(f"bench: {problem}")

"""The figures of docs/performance.md about the operator:
``PYTHONPATH=tests .venv/bin/python -m imagebuilds.scale_report``.

I/O: an API server, an operator and a fake kubelet on this machine, in a temporary folder. Run by hand; arguments: how
many builds, in how many namespaces, how many at once, how many finished ones afterwards, and seconds of idleness to
measure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.binaries import binaries
from imagebuilds.apiserver import ApiServer
from imagebuilds.operator_process import Operator
from imagebuilds.rest import DirectNamespace, Rest
from imagebuilds.scale import Costs, build_all, finished_copies, ready_in_s

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser()
    for name, default in (("builds", 1000), ("namespaces", 20), ("at-once", 50), ("finished", 10_000), ("idle", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        api = ApiServer(Path(folder), binaries())
        operator = Operator(
            api.kubeconfig("operator-token"),
            Path(folder) / "operator.log",
            RESYNC_SECONDS="3600",
            MAX_BUILDS=str(given.at_once),
        )
        try:
            api.kubectl("apply", "--kustomize", str(ROOT / "deploy"))
            api.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
            report(api, operator, given)
        finally:
            if operator.is_running():
                operator.kill()
            api.stop()
    return 0


def report(api: ApiServer, operator: Operator, given: argparse.Namespace) -> None:
    rest = Rest(api)
    places = [DirectNamespace(api, rest, f"scale-{number}") for number in range(given.namespaces)]
    operator.start()
    say(f"started with nothing there: ready in {ready_in_s(operator):.1f} s, {Costs.of(operator).memory_mib:.0f} MiB")
    before = Costs.of(operator)
    took, latencies = build_all(places, given.builds, given.at_once, runs_s=5.0)
    after = Costs.of(operator)
    asked = after.requests - before.requests
    say(f"{given.builds} builds in {given.namespaces} namespaces, {given.at_once} at once, 5 s each: {took:.0f} s")
    say(f"  CPU {1000 * (after.cpu_s - before.cpu_s) / given.builds:.0f} ms a build; peak {after.peak_mib:.0f} MiB")
    say(f"  {sum(asked.values()) / given.builds:.1f} requests a build: {dict(asked.most_common())}")
    say(f"  {latencies}")
    restarted(operator, f"{given.builds} finished")
    operator.kill()
    template = rest.get(places[0].path("imagebuilds"), limit="1")["items"][0]
    missing = max(0, given.finished - given.builds)
    with ThreadPoolExecutor(4) as pool:
        shares = [[f"old-{number}" for number in range(missing)][start :: len(places)] for start in range(len(places))]
        list(pool.map(lambda pair: finished_copies(*pair, template), zip(places, shares, strict=True)))
    restarted(operator, f"{given.finished} finished")
    time.sleep(30)
    before = Costs.of(operator)
    time.sleep(given.idle)
    after = Costs.of(operator)
    busy = (after.cpu_s - before.cpu_s) / given.idle
    say(f"{given.finished} finished, idle for {given.idle} s: {100 * busy:.2f} % of a core, {after.memory_mib:.0f} MiB")
    say(f"  peak {after.peak_mib:.0f} MiB; requests: {dict((after.requests - before.requests).most_common())}")


def restarted(operator: Operator, what: str) -> None:
    if operator.is_running():
        operator.kill()
    operator.start()
    took = ready_in_s(operator)
    costs = Costs.of(operator)
    say(f"started with {what}: ready in {took:.1f} s, CPU {costs.cpu_s:.1f} s, {costs.peak_mib:.0f} MiB at most")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

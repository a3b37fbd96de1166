"""``scripts/test``: all tiers, each as parallel as it may run, with what remains on the way and the costs at the end.

``--quick``   unit tests and planned cases only
``--peers``   BuildKit and buildah answer all cases again; else they answer a part that moves on with each commit

Other arguments are pytest's. I/O: runs pytest, brings the test cluster up and down, prints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.lifecycle import down
from cluster.places import places_from_environment
from cluster.processes import Processes
from proof.durations import Durations
from proof.report import PhaseTime, tables
from times.records import VARIABLE, Record, TimedTest, kept

ROOT = Path(__file__).parents[2]
_NO_TESTS = 5  # pytest's exit code where none was selected


@dataclass(frozen=True, slots=True)
class Phase:
    """Tests that may run together: by ``marks``, on so many workers (0: in one process)."""

    name: str
    marks: str
    workers: int


_CORES = os.cpu_count() or 1
_PHASES = (
    # Many wait for a server or a process more than they compute: one worker more than there are cores.
    Phase("side by side", "not cluster and not alone", _CORES + 1),
    Phase("on the cluster, side by side", "cluster and not alone", _CORES),
    Phase("alone", "alone", 0),
)
_QUICK = (Phase("quick", "not alone", _CORES),)
_QUICK_PATHS = ("tests/unit", "tests/cases/test_cases.py")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="unit tests and planned cases only")
    parser.add_argument("--peers", action="store_true", help="BuildKit and buildah answer all cases again")
    parser.add_argument("-m", dest="marks", default="", help="as pytest's")
    given, rest = parser.parse_known_args(arguments)
    rest += ["--peers=again"] if given.peers else []
    rest += _QUICK_PATHS if given.quick else ()
    with tempfile.TemporaryDirectory(prefix="imagewright-times-") as folder, _prepared(needed=not given.quick):
        os.environ |= {VARIABLE: folder, "IMAGEWRIGHT_KEEP_CLUSTER": "1"}
        outcomes = [_run(phase, given.marks, rest) for phase in (_QUICK if given.quick else _PHASES)]
        records = list(kept(Path(folder)))
    Durations.load().updated(records)
    print(tables([cost for _, cost in outcomes], records))
    return verdict([code for code, _ in outcomes], records)


@contextmanager
def _prepared(*, needed: bool) -> Iterator[None]:
    """What the tests need is made in the background; a cluster that they have brought up goes down in the end."""
    if not needed:
        yield
        return
    places = places_from_environment()
    was_up = Processes(places).supervisor_pid() != 0
    making = subprocess.Popen([sys.executable, "-m", "proof.prepare"], cwd=ROOT)
    try:
        yield
    finally:
        making.terminate()  # it has ended long ago, but after an interrupt
        making.wait()
        if not was_up and os.geteuid() == 0:
            down(places)


def _run(phase: Phase, marks: str, rest: Sequence[str]) -> tuple[int, PhaseTime]:
    """pytest's exit code, and what the phase cost."""
    print(f"\n== {phase.name}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", f"({marks}) and ({phase.marks})" if marks else phase.marks]
    command += [f"--numprocesses={phase.workers}", "--dist=loadgroup", "--no-loadscope-reorder"]
    start, busy = time.monotonic(), _busy_s()
    code = subprocess.run([*command, *rest], cwd=ROOT, check=False).returncode
    seconds = time.monotonic() - start
    return code, PhaseTime(phase.name, seconds, (_busy_s() - busy) / seconds)


def _busy_s() -> float:
    """Seconds that this machine's cores have worked since it started."""
    name, *ticks = Path("/proc/stat").read_text().partition("\n")[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
    assert name == "cpu"
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def verdict(codes: Sequence[int], records: Sequence[Record]) -> int:
    """0 when tests ran and all passed; in CI a test that was skipped is a failure."""
    outcomes: dict[str, str] = {}
    for each in records:
        if isinstance(each, TimedTest) and outcomes.get(each.test, "passed") == "passed":
            outcomes[each.test] = each.outcome
    count = {outcome: sum(1 for one in outcomes.values() if one == outcome) for outcome in ("passed", "failed")}
    skipped = [test for test, outcome in outcomes.items() if outcome == "skipped"]
    print(f"{count['passed']} passed, {count['failed']} failed, {len(skipped)} skipped")
    if skipped and os.environ.get("CI"):
        print("skipped, which CI does not allow:", *skipped, sep="\n  ")
        return 1
    wrong = [code for code in codes if code not in (0, _NO_TESTS)]
    return wrong[0] if wrong else min(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Many ImageBuilds at once, played by a fake kubelet, and what they cost the operator.

I/O: the API server; the operator's metrics and its process's files below /proc.
"""

from __future__ import annotations

import os
import re
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagebuilds.fake_kubelet import FakeKubelet, Part, pushed
from imagebuilds.operator_process import Operator
from imagebuilds.recorder import Recorder
from imagebuilds.rest import DirectNamespace, Json
from imagebuilds.waiting import PATIENCE_S, eventually

_REQUEST = re.compile(r'imagewright_api_requests_total\{code="(\d+)",resource="([^"]+)",verb="([A-Z]+)"\} ([\d.e+]+)')


@dataclass(frozen=True, slots=True)
class Costs:
    """The operator's process at one moment."""

    cpu_s: float
    memory_mib: float
    peak_mib: float
    requests: Counter[str]

    @classmethod
    def of(cls, operator: Operator) -> Costs:
        with open(f"/proc/{operator.pid}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        with open(f"/proc/{operator.pid}/status") as file:
            memory = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", file.read()))
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return cls(cpu_s, int(memory["VmRSS"]) / 1024, int(memory["VmHWM"]) / 1024, requests_of(operator))


def requests_of(operator: Operator) -> Counter[str]:
    """By verb and resource, since it was started; kopf's own watches are not among them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    counts: Counter[str] = Counter()
    for _, resource, verb, number in _REQUEST.findall(text):
        counts[f"{verb} {resource}"] += int(float(number))
    return counts


def ready_in_s(operator: Operator) -> float:
    """How long an operator that was just started takes until it has looked at everything."""
    begin = time.monotonic()

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/readyz", timeout=60) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    eventually(is_ready, "an operator that is ready")
    return time.monotonic() - begin


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from an event to the status that tells of it."""

    claimed: Sequence[float]
    started: Sequence[float]
    ended: Sequence[float]

    def __str__(self) -> str:
        return "; ".join(
            f"{name}: median {_quantile(values, 0.5):.2f} s, 99 % {_quantile(values, 0.99):.2f} s"
            for name, values in (
                ("applied to claimed", self.claimed),
                ("Pod started to Running", self.started),
                ("Pod ended to Succeeded", self.ended),
            )
        )


def build_all(places: Sequence[DirectNamespace], count: int, at_once: int, runs_s: float) -> tuple[float, Latencies]:
    """``count`` new ImageBuilds in these namespaces, all to their digests; in how many seconds, and with which
    latencies.
    """
    prefix = uuid.uuid4().hex[:6]
    rest = places[0].rest
    begin = time.monotonic()
    with Recorder(rest) as recorder:
        kubelet = FakeKubelet(rest, lambda pod: Part(0.2, runs_s, pushed(pod)), at_once)
        try:
            for number in range(count):
                place = places[number % len(places)]
                rest.post(place.path("imagebuilds"), place.imagebuild(f"b{prefix}-{number}"))
            done, moved = 0, time.monotonic()
            while done < count:
                before, done = done, recorder.count("Current")
                moved = time.monotonic() if done > before else moved
                assert time.monotonic() - moved < PATIENCE_S, f"{done} of {count} builds at their end, and no more"
                time.sleep(0.2)
        finally:
            kubelet.close()
    assert not kubelet.failures
    assert kubelet.most_at_once <= at_once
    assert not recorder.problems()
    return time.monotonic() - begin, _latencies(recorder, kubelet)


def _latencies(recorder: Recorder, kubelet: FakeKubelet) -> Latencies:
    pods = {seen.body["metadata"]["labels"]["imagewright.dev/uid"]: seen for seen in kubelet.pods.values()}
    claimed, started, ended = [], [], []
    for uid, versions in recorder.versions().items():
        first = {body["status"].get("phase", ""): recorder.arrival(body) for body in reversed(versions)}
        claimed.append(first["Queued"] - first[""])
        started += [first["Running"] - pods[uid].started_at] if "Running" in first else []
        ended.append(first["Succeeded"] - pods[uid].ended_at)
    return Latencies(claimed, started, ended)


def finished_copies(place: DirectNamespace, names: Iterable[str], finished: Json) -> None:
    """ImageBuilds that were built long ago, as ``finished`` was; to be made while no operator runs."""
    for name in names:
        body = {key: finished[key] for key in ("apiVersion", "kind", "spec")}
        place.rest.post(place.path("imagebuilds"), {**body, "metadata": {"name": name}})
        place.rest.merge(place.path("imagebuilds", name) + "/status", {"status": finished["status"]})


def _quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0

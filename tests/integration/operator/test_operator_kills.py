"""The operator SIGKILLed at every kind of request in a build's life, and at random ones while many builds go on."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.killer import Chooser, Killer
from imagebuilds.operator_process import operators_in
from imagebuilds.proxy import Proxy
from imagebuilds.rest import DirectNamespace, Rest
from imagebuilds.waiting import eventually

RESYNC = re.compile(r"GET /api/v1/pods\?.*labelSelector")


@dataclass(frozen=True, slots=True)
class Hunt:
    """An operator behind a proxy, and who kills it."""

    killer: Killer
    proxy: Proxy

    def looked_again(self) -> None:
        """Whoever came back has looked at everything once more."""
        seen = self.proxy.count(RESYNC)
        eventually(lambda: self.proxy.count(RESYNC) >= seen + 2, "two more resyncs")


@pytest.fixture(scope="module")
def rest(api: ApiServer) -> Iterator[Rest]:
    made = Rest(api)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hunt(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    proxy = Proxy(api.port, api.certificate)
    with operators_in(tmp_path_factory.mktemp("kills")) as start:
        operator = start(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="1")
        killer = Killer(proxy, operator)
        yield Hunt(killer, proxy)
        killer.close()
    proxy.close()


@pytest.fixture
def place(api: ApiServer, rest: Rest) -> Iterator[DirectNamespace]:
    made = DirectNamespace(api, rest, f"kill-{uuid.uuid4().hex[:8]}")
    yield made
    made.clear()


EVENT, STATUS, POD = (
    r"POST /api/v1/.*/events$",
    r"PATCH /apis/imagewright.dev/.*/status\b",
    r"/api/v1/namespaces/[^/]+/pods",
)


def phase(name: str) -> tuple[str, str]:
    return STATUS, f'"phase": "{name}"'


def event(reason: str) -> tuple[str, str]:
    return EVENT, f'"reason": "{reason}"'


# What the operator asks in a build's life: the request's line and what its body holds.
POINTS = {
    "read": (r"GET /apis/imagewright.dev/.*/imagebuilds/app$", ""),
    "claim": phase("Queued"),
    "queued-event": event("BuildQueued"),
    "pod": (rf"POST {POD}\b", ""),
    "pending": phase("Pending"),
    "running": phase("Running"),
    "started-event": event("BuildStarted"),
    "log": (rf"GET {POD}/[^/]+/log\b", ""),
    "outcome": phase("Succeeded"),
    "succeeded-event": event("BuildSucceeded"),
}
READS = ("read", "log")


def at(place: DirectNamespace, point: tuple[str, str], stored: bool) -> Chooser:
    line, body = re.compile(point[0]), re.compile(point[1].encode())

    def chooser(asked: str, given: bytes, answered: bool) -> bool:
        return answered == stored and place.name in asked and bool(line.match(asked) and body.search(given))

    return chooser


@pytest.mark.parametrize(
    ("point", "stored"),
    [(point, stored) for point in POINTS for stored in (False, True) if not (stored and point in READS)],
)
def test_killed_at_each_point_of_a_build(hunt: Hunt, place: DirectNamespace, point: str, stored: bool) -> None:
    before = hunt.killer.kills
    hunt.killer.arm(at(place, POINTS[point], stored))
    place.apply()
    pod = place.pod()
    place.starts(pod)
    place.phase("Running")
    digest = place.pushes(pod)
    place.phase("Succeeded")
    eventually(lambda: hunt.killer.kills == before + 1, f"a kill at {point}")
    hunt.looked_again()
    status = place.status()
    assert [one["metadata"]["uid"] for one in place.pods()] == [pod["metadata"]["uid"]]
    assert (status["phase"], status["image"]["digest"]) == ("Succeeded", digest)
    assert (status["build"]["number"], status["build"]["attempt"], len(status["history"])) == (1, 1, 1)
    assert sorted(place.events()) == sorted(set(place.events())), "every Event once"

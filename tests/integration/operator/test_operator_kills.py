"""The operator SIGKILLed at every kind of request of a build, and at random ones during many builds."""

from __future__ import annotations

import itertools
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.fake_kubelet import FakeKubelet, Part, Seen, digest_of, ended, pushed
from imagebuilds.killer import Chooser, Killer
from imagebuilds.kstatus import kstatus
from imagebuilds.operator_process import operators_in
from imagebuilds.proxy import Proxy
from imagebuilds.recorder import Line, Recorder
from imagebuilds.rest import DirectNamespace, Json, Rest
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
        operator = start(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="1", ALLOWED_LABELS="plays")
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


# What may happen to a build while its operator is killed; the Pod's label tells the kubelet what to do.
KINDS = ("pushes", "fails", "is-evicted", "is-replaced", "is-queued", "is-cancelled", "is-recreated")


@dataclass(slots=True)
class Life:
    """One ImageBuild of the random test."""

    name: str
    kind: str
    acted: bool = False
    first_uid: str = ""


class Crowd:
    """ImageBuilds of all kinds, a few at a time, each watched to its end."""

    def __init__(self, place: DirectNamespace, recorder: Recorder, random: Random) -> None:
        self._place, self._recorder, self._random = place, recorder, random
        self.lives: list[Life] = []
        self.active: list[Life] = []

    def part(self, pod: Json) -> Part:
        """The kubelet's."""
        labels, draw = pod["metadata"]["labels"], self._random.uniform
        kind, end = labels["plays"], pushed(pod)
        if kind == "fails":
            end = ended({"failure": {"reason": "StepFailed", "message": "RUN make ended", "exitCode": 2}}, 7)
        if kind == "is-evicted" and labels["imagewright.dev/attempt"] == "1":
            end = ended(None, 137, reason="Evicted", message="The node was low on resource: memory.")
        return Part(draw(0.1, 1.0), draw(0.2, 2.0), end)

    def add(self) -> None:
        kind = KINDS[len(self.lives) % len(KINDS)]
        life = Life(f"{kind}-{len(self.lives)}", kind)
        self._apply(life)
        self.lives.append(life)
        self.active.append(life)

    def step(self) -> None:
        """Do to each what its kind asks for, as soon as it has a Pod; forget those that are at their end."""
        for life in self.active:
            body = self._recorder.latest(self._place.name, life.name)
            if body is None:
                continue
            if not life.acted and (body["status"].get("build") or {}).get("podNames"):
                self._act(life, body)
        self.active = [life for life in self.active if not self._is_over(life)]

    def _apply(self, life: Life) -> None:
        policy = "Queue" if life.kind == "is-queued" else "Replace"
        self._place.apply(life.name, podTemplate={"labels": {"plays": life.kind}}, concurrencyPolicy=policy)

    def _act(self, life: Life, body: Json) -> None:
        life.acted, life.first_uid = True, body["metadata"]["uid"]
        if life.kind in ("is-replaced", "is-queued"):
            self._place.edit(life.name, target="other")
        elif life.kind == "is-cancelled":
            self._place.edit(life.name, cancelled=True)
        elif life.kind == "is-recreated":
            self._place.rest.delete(self._place.path("imagebuilds", life.name))
            self._apply(life)

    def _is_over(self, life: Life) -> bool:
        body = self._recorder.latest(self._place.name, life.name)
        if body is None or not life.acted or kstatus(body) == "InProgress":
            return False
        return life.kind != "is-recreated" or body["metadata"]["uid"] != life.first_uid

    def losses(self, pods: list[Seen]) -> list[str]:
        """Digests that a Pod has reported and that its ImageBuild doesn't have."""
        found = []
        for life in self.lives:
            body = self._place.rest.get(self._place.path("imagebuilds", life.name))
            told = {entry.get("digest") for entry in body["status"]["history"]}
            told.add(body["status"].get("image", {}).get("digest"))
            for seen in pods:
                ours = seen.body["metadata"]["labels"]["imagewright.dev/uid"] == body["metadata"]["uid"]
                kept = life.kind not in ("fails", "is-replaced", "is-cancelled") and not seen.gone
                if ours and kept and seen.reported and digest_of(seen.body) not in told:
                    found.append(f"{life.name}: {digest_of(seen.body)}")
            ready = "False" if life.kind == "fails" else "True"
            if life.kind != "is-cancelled" and body["status"]["conditions"][0]["status"] != ready:
                found.append(f"{life.name}: {Line.of(body)}")
        return found

    def orphans(self) -> list[str]:
        """Pods that run though their builds are over. Nobody collects those of a deleted ImageBuild here."""
        uids = {body["metadata"]["uid"] for body in self._place.rest.get(self._place.path("imagebuilds"))["items"]}
        return [
            pod["metadata"]["name"]
            for pod in self._place.rest.get(self._place.path("pods"))["items"]
            if pod["metadata"]["labels"]["imagewright.dev/uid"] in uids
            and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ]


def test_killed_at_random_requests_during_many_builds(hunt: Hunt, place: DirectNamespace) -> None:
    """IMAGEWRIGHT_KILLS says how often, IMAGEWRIGHT_KILLS_SEED at which requests."""
    count, seed = int(os.environ.get("IMAGEWRIGHT_KILLS", "6")), int(os.environ.get("IMAGEWRIGHT_KILLS_SEED", "1"))
    random, goal = Random(seed), hunt.killer.kills + count
    first = len(hunt.killer.struck)

    def choose() -> Chooser | None:
        stored, writes = random.random() < 0.5, random.random() < 0.6
        left = random.randint(1, 8 if writes else 45)
        asked = itertools.count(1)
        if hunt.killer.kills >= goal:
            return None

        def at_the_nth(line: str, body: bytes, answered: bool) -> bool:
            counts = not line.startswith("GET ") if writes else "watch=true" not in line
            return answered == stored and counts and next(asked) == left

        return at_the_nth

    with Recorder(place.rest, place.path("imagebuilds")) as recorder:
        crowd = Crowd(place, recorder, Random(seed))
        kubelet = FakeKubelet(place.rest, crowd.part)
        hunt.killer.arm(choose(), choose)
        while hunt.killer.kills < goal or crowd.active:
            if hunt.killer.kills < goal and len(crowd.active) < 5:
                crowd.add()
            crowd.step()
            time.sleep(0.05)
        hunt.looked_again()
        kubelet.close()
        assert not kubelet.failures
    pods = list(kubelet.pods.values())
    doubles = len(pods) - len({seen.body["metadata"]["name"] for seen in pods})
    losses, orphans, wrong = crowd.losses(pods), crowd.orphans(), recorder.problems()
    versions = sum(len(one) for one in recorder.versions().values())
    line = (
        f"kills={count} seed={seed} builds={len(crowd.lives)} pods={len(pods)} doubles={doubles} losses={len(losses)} "
        f"orphans={len(orphans)} status versions={versions} wrong={len(wrong)}"
    )
    struck = Counter(re.sub(r"test-\w+|kill-\w+|/[^/]*-\d+[^/]*", "", line) for line in hunt.killer.struck[first:])
    print(line, *(f"{number:4} {what}" for what, number in struck.most_common()), sep="\n")
    assert (doubles, losses, orphans, wrong) == (0, [], [], []), line

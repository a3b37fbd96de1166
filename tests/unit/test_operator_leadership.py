"""At most one leader, whatever clocks, delays, lost responses and frozen processes do; and at last there is one."""

from __future__ import annotations

import copy
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagebuilds.clock import Clock

from imagewright.errors import UsageError
from imagewright_operator.api.base import Json
from imagewright_operator.kubeapi.config import own_namespace
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.leadership.election import (
    ElectionResult,
    Elector,
    Leadership,
    LeaseTimings,
    own_identity,
)

TERMS = LeaseTimings(15)


class Server:
    """The API server's part: one Lease and its versions."""

    def __init__(self) -> None:
        self.body: Json | None = None
        self._version = 0

    def read(self) -> Json | None:
        return copy.deepcopy(self.body)

    def create(self, spec: Json) -> Json:
        if self.body is not None:
            raise ApiError(409, "it is there")
        return self._store({"metadata": {"name": "lease"}, "spec": spec})

    def replace(self, body: Json) -> Json:
        if self.body is None:
            raise ApiError(404, "it is gone")
        if body["metadata"]["resourceVersion"] != self.body["metadata"]["resourceVersion"]:
            raise ApiError(409, "it is another")
        return self._store(body)

    def edit(self, **spec: object) -> None:
        assert self.body is not None
        self._store({**self.body, "spec": {**self.body["spec"], **spec}})

    def _store(self, body: Json) -> Json:
        self._version += 1
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self._version)
        self.body = body
        return copy.deepcopy(body)


class ReconcileInput:
    """Some operators on machines with clocks of their own, and the time that passes between and within their
    requests.
    """

    def __init__(self, random: Random, count: int) -> None:
        self.random, self.server, self.time = random, Server(), 0.0
        self.members = [Member(self) for _ in range(count)]
        self.led = 0

    def passes(self, most_s: float) -> None:
        self.time += self.random.uniform(0, most_s)
        self.check()

    def check(self) -> None:
        holders = [member for member in self.members if member.elector.holds()]
        assert len(holders) <= 1, f"two work at {self.time}"

    def step(self) -> None:
        """One of those that are not in the middle of a request does something."""
        free = [member for member in self.members if not member.busy]
        if free:
            self.random.choice(free).act()
        self.check()


class Member:
    """An operator: its requests take their time, in which others act, and may get lost before or after they are
    stored.
    """

    def __init__(self, world: ReconcileInput) -> None:
        self._world = world
        # A tenth too slow or too fast is far more than any real clock, and begins anywhere.
        self._start, self._rate = world.random.uniform(0, 1e6), world.random.uniform(0.9, 1.1)
        self.busy = False
        self._starts()

    def _starts(self) -> None:
        self.elector = Elector(self, f"pod_{self._world.random.random()}", TERMS, self._clock)

    def _clock(self) -> float:
        return self._start + self._rate * self._world.time

    def act(self) -> None:
        self.busy = True
        try:
            if self._world.random.random() < 0.05:
                self.elector.release()
                self._starts()
            elif self._world.random.random() < 0.05:
                self._starts()  # killed, and started again
            else:
                standing = self.elector.try_acquire_or_renew()
                self._world.led += standing is ElectionResult.LEADER
                if standing is ElectionResult.LOST:
                    self._starts()
        except ApiError:
            pass
        finally:
            self.busy = False

    def read(self) -> Json | None:
        found: Json | None = self._ask(self._world.server.read)
        return found

    def create(self, spec: Json) -> Json:
        made: Json = self._ask(lambda: self._world.server.create(spec))
        return made

    def replace(self, body: Json) -> Json:
        made: Json = self._ask(lambda: self._world.server.replace(body))
        return made

    def _ask(self, request: Callable[[], Json | None]) -> Json | None:
        self._travels()
        answer = request()
        self._travels()
        return answer

    def _travels(self) -> None:
        random = self._world.random
        if random.random() < 0.1:
            raise ApiError(0, "lost")
        for _ in range(random.choice((0, 0, 1, 3))):
            self._world.step()
            self._world.passes(random.choice((0.1, 2, 20)))  # 20: frozen in the middle of it


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(2, 4))
def test_there_are_never_two_leaders_at_once(seed: int, count: int) -> None:
    random = Random(seed)
    world = ReconcileInput(random, count)
    for _ in range(60):
        world.step()
        world.passes(random.choice((0.5, 2, 2, 20)))


def test_the_simulation_has_leaders() -> None:
    """Else the test above would hold for operators that never work."""
    world = ReconcileInput(Random(1), 3)
    for _ in range(2000):
        world.step()
        world.passes(2)
    assert world.led > 500


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stand(server: Server, clock: Clock) -> Callable[[str], Elector]:
    return lambda identity: Elector(server, identity, TERMS, clock)


def spec(server: Server) -> Json:
    assert server.body is not None
    found: Json = server.body["spec"]
    return found


def test_the_lease_has_the_fields_that_kubernetes_components_write(
    stand: Callable[[str], Elector], server: Server, clock: Clock
) -> None:
    first, second = stand("a"), stand("b")
    assert first.try_acquire_or_renew() is ElectionResult.LEADER
    made = spec(server)
    assert set(made) == {
        "holderIdentity",
        "leaseDurationSeconds",
        "acquireTime",
        "renewTime",
        "leaseTransitions",
    }
    assert (made["holderIdentity"], made["leaseDurationSeconds"], made["leaseTransitions"]) == ("a", 15, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", made["renewTime"])
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY
    assert spec(server) == made, "who stands by only reads"
    clock.now = 5
    first.try_acquire_or_renew()
    assert (spec(server)["acquireTime"], spec(server)["leaseTransitions"]) == (made["acquireTime"], 0)
    assert spec(server)["renewTime"] > made["renewTime"]
    first.release()
    assert (spec(server)["holderIdentity"], spec(server)["leaseDurationSeconds"]) == ("", 1)
    assert second.try_acquire_or_renew() is ElectionResult.LEADER
    assert (spec(server)["leaseDurationSeconds"], spec(server)["leaseTransitions"]) == (15, 1)
    assert spec(server)["acquireTime"] > made["acquireTime"]


def test_an_unchanged_lease_is_taken_over_after_its_duration_whatever_its_timestamps(
    stand: Callable[[str], Elector], server: Server, clock: Clock
) -> None:
    stand("a").try_acquire_or_renew()
    clock.now = 1000.0
    server.edit(renewTime="1970-01-01T00:00:00.000000Z")
    second = stand("b")
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY, "it counts from when it has seen it"
    clock.now += 14.9
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY
    server.edit(renewTime="1970-01-01T00:00:00.000000Z", acquireTime="1970-01-01T00:00:00.000000Z")
    clock.now += 14.9
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY, "a change is a change"
    server.edit(leaseDurationSeconds=60)
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY
    clock.now += 59
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY, "the holder's duration holds"
    clock.now += 2
    assert second.try_acquire_or_renew() is ElectionResult.LEADER


def test_the_leader_stops_at_its_deadline_before_the_lease_expires(
    stand: Callable[[str], Elector], clock: Clock
) -> None:
    first = stand("a")
    assert not first.holds()
    first.try_acquire_or_renew()
    clock.now = 9.9
    assert first.holds()
    clock.now = 10.0
    assert not first.holds()
    for lease_s in (3, 15, 3600):
        terms = LeaseTimings(lease_s)
        assert 2 * terms.timeout_s <= terms.deadline_s < lease_s
        assert 0 < terms.retry_s <= min(2, terms.deadline_s / 4)


def test_a_deleted_lease_is_created_again_by_its_holder_and_by_others_only_after_it_would_have_expired(
    stand: Callable[[str], Elector], server: Server, clock: Clock
) -> None:
    first, second = stand("a"), stand("b")
    first.try_acquire_or_renew()
    second.try_acquire_or_renew()
    server.body = None
    assert second.try_acquire_or_renew() is ElectionResult.STANDBY
    assert first.try_acquire_or_renew() is ElectionResult.LEADER
    assert spec(server)["leaseTransitions"] == 0
    second.try_acquire_or_renew()
    server.body = None
    clock.now += 16
    assert second.try_acquire_or_renew() is ElectionResult.LEADER
    assert first.try_acquire_or_renew() is ElectionResult.LOST


def test_foreign_changes_to_the_lease_are_kept_and_do_not_end_leadership(
    stand: Callable[[str], Elector], server: Server
) -> None:
    first = stand("a")
    first.try_acquire_or_renew()
    assert server.body is not None
    server.body["metadata"]["labels"] = {"team": "platform"}
    server.edit(preferredHolder="z")
    assert first.try_acquire_or_renew() is ElectionResult.LEADER
    assert server.body["metadata"]["labels"] == {"team": "platform"}
    assert spec(server)["preferredHolder"] == "z"


def test_a_leader_that_finds_another_holder_has_lost_the_lease(stand: Callable[[str], Elector], server: Server) -> None:
    first = stand("a")
    first.try_acquire_or_renew()
    server.edit(holderIdentity="b")
    assert first.try_acquire_or_renew() is ElectionResult.LOST
    first.release()
    assert spec(server)["holderIdentity"] == "b"


def test_a_defect_in_renewal_is_logged_and_ends_leadership_at_the_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = threading.Event()
    causes: list[str] = []

    class Broken(Server):
        def replace(self, body: Json) -> Json:
            if ended.is_set():
                return super().replace(body)
            raise RuntimeError("made by the test")

    def end(cause: str) -> None:
        causes.append(cause)
        ended.set()

    terms = LeaseTimings(3)
    leadership = Leadership(Elector(Broken(), "a", terms), terms, end)
    leads = threading.Event()
    with caplog.at_level(logging.ERROR):
        leadership.start(leads.set)
        assert leads.wait(60)
        leadership.ensure_leading()
        assert leadership.is_ready()
        assert ended.wait(60)
    assert causes[0] == "the lease was not renewed for 2 s"
    assert "made by the test" in caplog.text
    leadership.stop()
    with pytest.raises(ApiError, match="has released its lease"):
        leadership.ensure_leading()


def test_an_operator_that_was_frozen_ends_before_its_next_request(clock: Clock) -> None:
    """As after SIGCONT, when the thread that keeps the deadline has not run yet."""
    causes: list[str] = []
    leads = threading.Event()
    leadership = Leadership(Elector(Server(), "a", TERMS, clock), TERMS, causes.append)
    leadership.start(leads.set)
    assert leads.wait(60)
    leadership.ensure_leading()
    assert causes == []
    clock.now = 16
    leadership.ensure_leading()
    assert causes[0] == "the lease was not renewed in time"
    leadership.stop()


def test_the_namespace_is_that_of_the_pod(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    with pytest.raises(UsageError, match="cannot determine the namespace of the lease") as caught:
        own_namespace({}, "the lease", file)
    assert "POD_NAMESPACE" in caught.value.hint
    file.write_text("system\n")
    assert own_namespace({}, "the lease", file) == "system"
    assert own_namespace({"POD_NAMESPACE": "other"}, "the lease", file) == "other"
    assert own_namespace({"POD_NAMESPACE": " "}, "the lease", file) == "system"
    file.write_text("")
    with pytest.raises(UsageError):
        own_namespace({}, "the lease", file)


def test_every_start_has_another_identity() -> None:
    first, second = own_identity({"POD_NAME": "pod-1"}), own_identity({"POD_NAME": "pod-1"})
    assert first != second
    assert first.startswith("pod-1_")
    assert own_identity({})

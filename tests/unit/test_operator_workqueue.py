"""The work queue with timers by a simulated clock, and the health server over HTTP."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from imagebuilds.clock import Clock
from prometheus_client import CollectorRegistry, Counter

from imagewright_operator.monitoring.server import HealthServer
from imagewright_operator.watch.workqueue import WorkQueue


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock)


def waiting(queue: WorkQueue[str]) -> list[str]:
    """All keys that are ready now, worked on with success."""
    keys = []
    queue.add_after("end", 0)
    while (key := queue.get()) != "end":
        assert key is not None
        keys.append(key)
        queue.done(key)
    queue.done("end")
    return keys


def test_no_delay_is_longer_than_a_thread_can_wait(queue: WorkQueue[str], clock: Clock) -> None:
    """A time that a Pod's status has may be any; a worker that waits for it must not end."""
    queue.add_after("a", 3e11)
    clock.now += 86400
    assert waiting(queue) == ["a"]


def test_a_waiting_key_is_deduplicated(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert queue.depth() == 2
    assert waiting(queue) == ["a", "b"]


def test_priority_keys_go_first_once_and_never_to_two_workers(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "c"):
        queue.add(key)
    queue.add("c", priority=True)
    queue.add("d", priority=True)
    queue.add("d")
    assert queue.depth() == 4
    assert queue.get() == "c"
    queue.add("c", priority=True)
    assert [queue.get(), queue.get(), queue.get()] == ["d", "a", "b"], "c is being worked on, though it was there twice"
    for key in ("a", "b", "c", "d"):
        queue.done(key)
    queue.add("e")
    assert waiting(queue) == ["c", "e"], "first also after it was worked on"
    queue.add("c")
    queue.add("e", priority=True)
    assert waiting(queue) == ["e", "c"], "and no longer"


def test_a_key_added_while_it_is_processed_is_processed_again(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert queue.depth() == 0, "never by two workers at once"
    queue.done("a")
    assert waiting(queue) == ["a"]


def test_timers_fire_and_the_earliest_delay_counts(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    queue.add_after("b", 5)
    clock.now += 9
    assert waiting(queue) == ["b"]
    clock.now += 1
    assert waiting(queue) == ["a"]
    clock.now += 100
    assert waiting(queue) == []


def test_failures_are_retried_with_growing_backoff_until_success(queue: WorkQueue[str], clock: Clock) -> None:
    pauses = []
    queue.add("a")
    for _ in range(12):
        assert queue.get() == "a"
        pauses.append(queue.failed("a"))
        clock.now += pauses[-1]
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert pauses[-1] == 60
    assert queue.get() == "a"
    queue.done("a")
    queue.add("a")
    queue.get()
    assert queue.failed("a") == pytest.approx(0.2)


def test_the_queue_reports_the_longest_processing_time(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.longest_work_s() == 0
    queue.add("a")
    queue.get()
    clock.now += 42
    assert queue.longest_work_s() == 42
    queue.done("a")
    assert queue.longest_work_s() == 0


def test_waiting_workers_are_woken(queue: WorkQueue[str]) -> None:
    real: WorkQueue[str] = WorkQueue()
    got: list[str | None] = []

    def work() -> None:
        while (key := real.get()) is not None:
            got.append(key)
            real.done(key)

    thread = threading.Thread(target=work)
    thread.start()
    real.add_after("timer", 0.01)
    real.add("now")
    while len(got) < 2:
        thread.join(0.01)
    real.close()
    thread.join(10)
    assert not thread.is_alive()
    assert sorted(str(key) for key in got) == ["now", "timer"]


class Health:
    alive = True
    ready = False


@pytest.fixture
def probes() -> Iterator[tuple[HealthServer, Health]]:
    health = Health()
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    server = HealthServer(0, lambda: health.alive, lambda: health.ready, registry)
    yield server, health
    server.close()


def ask(probes: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_endpoints_reflect_liveness_and_readiness(probes: tuple[HealthServer, Health]) -> None:
    server, health = probes
    assert ask(server, "/healthz") == (200, "ok\n")
    assert ask(server, "/readyz")[0] == 503
    health.alive, health.ready = False, True
    assert ask(server, "/healthz")[0] == 503
    assert ask(server, "/readyz") == (200, "ok\n")
    assert "things_total 1.0" in ask(server, "/metrics")[1]
    assert ask(server, "/")[0] == 404

"""Stages run in parallel: after those they need, within the limit, and all end when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.engine.stages.schedule import run_in_parallel
from imagewright.errors import Interruption
from imagewright.workers import Patience

_DIAMOND = {0: frozenset[int](), 1: frozenset({0}), 2: frozenset({0}), 3: frozenset({1, 2})}


@st.composite
def graphs(draw: Callable[..., frozenset[int]]) -> dict[int, frozenset[int]]:
    count = 1 + len(draw(st.frozensets(st.integers(0, 8))))
    return {i: draw(st.frozensets(st.integers(0, i - 1))) if i else frozenset() for i in range(count)}


@given(graphs(), st.integers(1, 4))
def test_each_stage_runs_once_after_those_it_needs(needs: Mapping[int, frozenset[int]], at_once: int) -> None:
    lock = threading.Lock()
    order: list[int] = []
    running = most = 0

    def execute(index: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            assert needs[index] <= set(order)
        with lock:
            running -= 1
            order.append(index)

    run_in_parallel(needs, at_once, execute, lambda: None, Patience())
    assert sorted(order) == sorted(needs)
    assert most <= at_once


def test_independent_stages_run_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=30)

    def execute(index: int) -> None:
        if index in (1, 2):
            together.wait()

    run_in_parallel(_DIAMOND, 2, execute, lambda: None, Patience())


def test_a_failure_stops_the_other_stages_and_is_raised() -> None:
    stopped = threading.Event()
    ended: list[int] = []

    def execute(index: int) -> None:
        if index == 1:
            raise ValueError("the first")
        if index == 2:
            assert stopped.wait(30)
            ended.append(index)
            raise ValueError("a consequence")
        ended.append(index)

    with pytest.raises(ValueError, match="the first"):
        run_in_parallel(_DIAMOND, 2, execute, stopped.set, Patience())
    assert ended == [0, 2]


@pytest.mark.parametrize("computing", [1, 3])
def test_stages_that_compute_are_interrupted(monkeypatch: pytest.MonkeyPatch, computing: int) -> None:
    """They look at no event, in whatever loop they are, and would go on in what is being cleaned up."""
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", 0.01)
    monkeypatch.setattr("imagewright.engine.stages.schedule._JOIN_TIMEOUT_S", 300.0)
    begun = threading.Barrier(computing + 1)
    ended: list[str] = []

    def execute(index: int) -> None:
        if index == 0:
            begun.wait()
            raise ValueError("the first")
        try:
            begun.wait()
            number = 0
            while number >= 0:
                number += 1
        except Interruption as signal:
            ended.append(str(signal))
            raise

    with pytest.raises(ValueError, match="the first"):
        run_in_parallel(
            dict.fromkeys(range(computing + 1), frozenset()), computing + 1, execute, lambda: None, Patience()
        )
    assert ended == ["cancelled: another stage failed"] * computing
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stage-")]


def test_stages_that_clean_up_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they are at the same place whenever one looks."""
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", 0.01)
    monkeypatch.setattr("imagewright.engine.stages.schedule._JOIN_TIMEOUT_S", 300.0)
    monkeypatch.setattr("imagewright.engine.stages.schedule.STILL_S", 0.3)
    begun = threading.Barrier(2)
    cleaned: list[int] = []

    def execute(index: int) -> None:
        if index == 0:
            begun.wait()
            raise ValueError("the first")
        try:
            begun.wait()
            while True:
                time.sleep(0.001)
        finally:
            for _ in range(700):
                time.sleep(0.001)
            cleaned.append(index)

    with pytest.raises(ValueError, match="the first"):
        run_in_parallel({0: frozenset(), 1: frozenset()}, 2, execute, lambda: None, Patience())
    assert cleaned == [1]


def test_stages_that_wait_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They see no interruption before what they wait for has come."""
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", 0.01)
    monkeypatch.setattr("imagewright.engine.stages.schedule._JOIN_TIMEOUT_S", 300.0)
    monkeypatch.setattr("imagewright.engine.stages.schedule.STILL_S", 0.01)
    answer, begun = threading.Event(), threading.Barrier(2)

    def execute(index: int) -> None:
        begun.wait()
        if index == 0:
            raise ValueError("the first")
        answer.wait()

    with pytest.raises(ValueError, match="the first"):
        run_in_parallel({0: frozenset(), 1: frozenset()}, 2, execute, lambda: None, Patience())
    (waiting,) = (thread for thread in threading.enumerate() if thread.name == "stage-1")
    answer.set()
    waiting.join()


def test_a_chain_of_stages_needs_no_thread() -> None:
    threads = set()
    chain = {0: frozenset[int](), 1: frozenset({0}), 2: frozenset({1})}
    run_in_parallel(chain, 4, lambda _: threads.add(threading.current_thread()), lambda: None, Patience())
    assert threads == {threading.main_thread()}

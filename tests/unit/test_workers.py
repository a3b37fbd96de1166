"""Threads that a build abandons: what has not begun never does, and what a server holds up is not waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from imagewright.errors import Interruption
from imagewright.workers import Patience, Workers


def test_everything_is_done_and_awaited() -> None:
    done: list[int] = []
    with Workers(3, "work") as workers:
        futures = [workers.submit(lambda number=number: done.append(number)) for number in range(50)]  # type: ignore[misc]
    assert sorted(done) == list(range(50))
    assert all(future.done() for future in futures)


def test_no_more_threads_than_allowed_and_no_more_than_needed() -> None:
    gate = threading.Event()

    def held_up() -> None:
        gate.wait()

    def count() -> int:
        return sum(thread.name == "counted" for thread in threading.enumerate())

    with Workers(3, "counted") as workers:
        workers.submit(held_up)
        assert count() == 1
        for _ in range(10):
            workers.submit(held_up)
        assert count() == 3
        gate.set()
    assert count() == 0


def test_an_error_is_raised_where_the_result_is_awaited() -> None:
    def fail() -> None:
        raise OSError("x")

    with Workers(1, "work") as workers:
        future = workers.submit(fail)
        assert isinstance(future.exception(), OSError)
        workers.submit(lambda: None).result()  # the thread goes on


def test_an_exception_abandons_what_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", 0.01)
    gate, begun, late = threading.Event(), threading.Event(), threading.Event()

    def held_up() -> None:
        begun.set()
        gate.wait()

    def interrupted() -> None:
        with Workers(1, "work") as workers:
            futures.extend((workers.submit(held_up), workers.submit(late.set)))
            begun.wait()
            raise KeyboardInterrupt

    futures: list[Future[None]] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    first, second = futures
    assert first.running()
    assert second.cancelled()
    gate.set()
    first.result()
    assert not late.is_set()


@pytest.mark.parametrize(("kind", "periods"), [(Interruption, 1), (ValueError, 3), (GeneratorExit, 3)])
def test_a_signal_has_one_patience_for_all_and_anything_else_one_for_each(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], periods: int
) -> None:
    """After a failure the build may go on, as after a generator is closed, and has to wait as long when it ends."""
    period_s = 0.05
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", period_s)
    answer, patience, granted = threading.Event(), Patience(), []
    join = threading.Thread.join

    def counted(thread: threading.Thread, timeout: float | None = None) -> None:
        granted.append(timeout or 0.0)
        join(thread, timeout)

    def interrupted() -> None:
        with Workers(2, "work", patience) as workers:
            workers.submit(answer.wait)  # type: ignore[arg-type]
            workers.submit(answer.wait)  # type: ignore[arg-type]
            raise kind

    monkeypatch.setattr(threading.Thread, "join", counted)
    for _ in range(3):
        with pytest.raises(kind):
            interrupted()
    assert (periods - 0.5) * period_s < sum(granted) < (periods + 0.5) * period_s
    answer.set()


def test_the_interpreter_exits_although_a_thread_is_held_up() -> None:
    program = (
        "import threading; from imagewright import workers; workers.PATIENCE_S = 0.01\n"
        "w = workers.Workers(1, 'work'); w.submit(threading.Event().wait); w.abandon(); print('end')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "end\n"

"""Runs the stages of a plan side by side: each as soon as those it needs are finished.

Starts threads. Called by ``engine.build``; what a stage does is the caller's affair.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Mapping

_SECONDS_TO_END = 10.0  # for stages that go on when another has failed; after that they are left to the process's end


def run_side_by_side(
    needs: Mapping[int, frozenset[int]], at_once: int, execute: Callable[[int], None], stop: Callable[[], None]
) -> None:
    """Call ``execute`` for every key of ``needs``, after all that it needs, at most ``at_once`` at the same time.

    The order of the keys decides between those that could begin. Where nothing can run beside another, everything
    runs in this thread.

    Args:
        needs: for each stage, those that must be finished before; they are keys too, and there is no circle.
        stop: called once when a stage fails, or a signal's handler raises: makes the others end soon.

    Raises:
        BaseException: the first that ``execute`` raised.
    """
    if at_once <= 1 or _is_a_chain(needs):
        for index in needs:
            execute(index)
        return
    ended: queue.SimpleQueue[tuple[int, BaseException | None]] = queue.SimpleQueue()

    def run(index: int) -> None:
        failure: BaseException | None = None
        try:
            execute(index)
        except BaseException as error:  # noqa: BLE001 -- carried over to the thread that waits
            failure = error
        ended.put((index, failure))

    waiting = list(needs)
    running: dict[int, threading.Thread] = {}
    finished: set[int] = set()
    try:
        while waiting or running:
            for index in [i for i in waiting if needs[i] <= finished][: at_once - len(running)]:
                waiting.remove(index)
                running[index] = threading.Thread(target=run, args=(index,), name=f"stage-{index}", daemon=True)
                running[index].start()
            index, failure = ended.get()
            del running[index]
            if failure is not None:
                raise failure
            finished.add(index)
    except BaseException:
        stop()
        for thread in running.values():
            thread.join(_SECONDS_TO_END / len(running))
        raise


def _is_a_chain(needs: Mapping[int, frozenset[int]]) -> bool:
    """Whether each needs the one before it, so that nothing can be side by side."""
    order = list(needs)
    return all(before in needs[after] for before, after in itertools.pairwise(order))

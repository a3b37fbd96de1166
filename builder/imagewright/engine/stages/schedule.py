"""Executes the stages of a plan in parallel, each as soon as the stages that it needs are finished.

Starts threads.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Mapping

_JOIN_TIMEOUT_S = 10.0  # for running stages when another has failed; then their threads end with the process


def run_in_parallel(
    needs: Mapping[int, frozenset[int]], max_parallel: int, execute: Callable[[int], None], stop: Callable[[], None]
) -> None:
    """Call ``execute`` for every key of ``needs``, after all that it needs, at most ``max_parallel`` at the same time.

    Of several that could begin, the order of the keys decides. Without any parallelism everything runs in this thread.

    Args:
        needs: for each stage the ones that must be finished before; they are keys, too, and there are no cycles.
        stop: called once when a stage fails or a signal handler raises; makes the others end soon.

    Raises:
        BaseException: the first that ``execute`` raised.
    """
    if max_parallel <= 1 or _is_a_chain(needs):
        for index in needs:
            execute(index)
        return
    ended: queue.SimpleQueue[tuple[int, BaseException | None]] = queue.SimpleQueue()

    def run(index: int) -> None:
        failure: BaseException | None = None
        try:
            execute(index)
        except BaseException as error:  # noqa: BLE001 -- raised again in the calling thread
            failure = error
        ended.put((index, failure))

    waiting = list(needs)
    running: dict[int, threading.Thread] = {}
    finished: set[int] = set()
    try:
        while waiting or running:
            for index in [i for i in waiting if needs[i] <= finished][: max_parallel - len(running)]:
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
            thread.join(_JOIN_TIMEOUT_S / len(running))
        raise


def _is_a_chain(needs: Mapping[int, frozenset[int]]) -> bool:
    """Whether each needs the one before it, so that nothing can run in parallel."""
    order = list(needs)
    return all(before in needs[after] for before, after in itertools.pairwise(order))

"""Executes the stages of a plan in parallel, each as soon as the stages that it needs are finished.

Starts threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from imagewright.errors import Interruption
from imagewright.workers import Patience

_JOIN_TIMEOUT_S = 7.0  # for stages that were interrupted; then their threads end with the process
STILL_S = 1.0  # after which one that has not run is waiting for something, and sees no interruption


class StageInterruption(Interruption):
    """Ends a stage that computes, in its thread, as a signal ends one in the main thread."""

    def __str__(self) -> str:
        return "cancelled: another stage failed"


def run_in_parallel(
    needs: Mapping[int, frozenset[int]],
    max_parallel: int,
    execute: Callable[[int], None],
    stop: Callable[[], None],
    patience: Patience,
) -> None:
    """Call ``execute`` for every key of ``needs``, after all that it needs, at most ``max_parallel`` at the same time.

    Of several that could begin, the order of the keys decides. Without any parallelism everything runs in this thread.

    Args:
        needs: for each stage the ones that must be finished before; they are keys, too, and there are no cycles.
        stop: called once when a stage fails or a signal handler raises; makes the others end soon. One that goes on,
            since it computes, is interrupted.
        patience: with those that do not end.

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
        with contextlib.suppress(StageInterruption):  # one that comes when the stage has just ended
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
            if thread.ident is not None:  # it was started
                thread.join(patience.left_s())
        _interrupt([thread for thread in running.values() if thread.is_alive()])
        raise


def _interrupt(threads: Sequence[threading.Thread]) -> None:
    """Interrupt stages, and wait as long as they clean up."""
    for thread in threads:
        if thread.is_alive():  # else another thread may have its number
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(StageInterruption)
            )
    deadline = time.monotonic() + _JOIN_TIMEOUT_S
    while threads and time.monotonic() < deadline:
        before = {thread: _run_time(thread) for thread in threads}
        still_until = time.monotonic() + STILL_S
        for thread in threads:
            thread.join(max(still_until - time.monotonic(), 0.0))
        threads = [each for each in threads if each.is_alive() and not before[each] == _run_time(each) != ""]


def _run_time(thread: threading.Thread) -> str:
    """How long it has run, as the kernel says (proc(5), schedstat); "" where it doesn't."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{thread.native_id}/schedstat", encoding="ascii") as file:
        return file.read()
    return ""


def _is_a_chain(needs: Mapping[int, frozenset[int]]) -> bool:
    """Whether each needs the one before it, so that nothing can run in parallel."""
    order = list(needs)
    return all(before in needs[after] for before, after in itertools.pairwise(order))

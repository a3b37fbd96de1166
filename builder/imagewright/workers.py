"""Threads for requests to servers, for which a build that fails or is cancelled does not wait.

Starts threads. A server may say nothing for minutes, and neither a signal nor a failure elsewhere wakes the thread that
waits for it. Threads of ``concurrent.futures`` would also keep the interpreter from exiting.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

PATIENCE_S = 3.0  # for what ends by itself: it reads or writes something, and sees that it is no longer needed


class Patience:
    """How long all the threads of a build are waited for when it ends: ``PATIENCE_S``, from when the first of them is.

    May be used from several threads.
    """

    def __init__(self) -> None:
        self._until = math.inf

    def left_s(self) -> float:
        """How much is left of it, in seconds, 0 at least."""
        now = time.monotonic()
        if self._until == math.inf:
            self._until = now + PATIENCE_S
        return max(self._until - now, 0.0)

    def with_error(self, kind: type[BaseException]) -> Patience:
        """This one if a signal ends the build; another one for what it may go on after.

        That is a failure, or that a generator is closed, whose values are no longer needed.
        """
        return Patience() if issubclass(kind, (Exception, GeneratorExit)) else self


class Workers:
    """Up to ``count`` threads, started as they are needed. A context manager: an exception abandons them.

    ``patience`` is the build's; without it, these threads have one of their own.
    """

    def __init__(self, count: int, name: str, patience: Patience | None = None) -> None:
        self._count, self._name = count, name
        self._patience = patience or Patience()
        self._tasks: queue.SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._futures: list[Future[None]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._end(None)
        else:
            self._abandon(self._patience.with_error(kind))

    def submit(self, task: Callable[[], None]) -> Future[None]:
        """Have a thread call ``task``. To be called by one thread."""
        future: Future[None] = Future()
        self._futures.append(future)
        self._tasks.put((future, task))
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            thread.start()
            self._threads.append(thread)  # one that cannot be started cannot be waited for
        return future

    def abandon(self) -> None:
        """Begin nothing more, and wait for what has begun no longer than there is patience."""
        self._abandon(self._patience)

    def _abandon(self, patience: Patience) -> None:
        for future in self._futures:
            future.cancel()
        self._end(patience)

    def _end(self, patience: Patience | None) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(None if patience is None else patience.left_s())

    def _work(self) -> None:
        while (found := self._tasks.get()) is not None:
            future, task = found
            if not future.set_running_or_notify_cancel():
                continue
            try:
                task()
            except BaseException as error:  # noqa: BLE001 -- raised again where the result is awaited
                future.set_exception(error)
            else:
                future.set_result(None)

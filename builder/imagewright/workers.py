"""Threads for requests to servers, for which a build that fails or is cancelled does not wait.

Starts threads. A server may say nothing for minutes, and neither a signal nor a failure elsewhere wakes the thread that
waits for it. Threads of ``concurrent.futures`` would also keep the interpreter from exiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

PATIENCE_S = 3.0  # for what ends by itself: it reads or writes something, and sees that it is no longer needed


class Workers:
    """Up to ``count`` threads, started as they are needed. A context manager: an exception abandons them."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._tasks: queue.SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._futures: list[Future[None]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._end(None)
        else:
            self.abandon()

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
        """Begin nothing more, and wait for what has begun no longer than ``PATIENCE_S``."""
        for future in self._futures:
            future.cancel()
        self._end(PATIENCE_S)

    def _end(self, patience_s: float | None) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + (patience_s or 0.0)
        for thread in self._threads:
            thread.join(None if patience_s is None else max(deadline - time.monotonic(), 0.0))

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

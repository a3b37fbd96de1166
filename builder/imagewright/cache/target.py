"""Where a build stores entries and indexes, and whether that is still worth trying.

Accesses the given store, in one thread. Its errors never fail a build: each causes a warning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from imagewright.cache.sources import STORE_ERRORS, EntryStore
from imagewright.errors import ImagewrightError, Reason
from imagewright.workers import Patience, Workers

OF_THE_STORE = STORE_ERRORS | {Reason.OUTPUT_FAILED, Reason.DISK_FULL}  # would fail again, whatever is stored


class Target:
    """The store of one build. Thread-safe. After an error that would occur again nothing more is stored."""

    def __init__(self, store: EntryStore, warn: Callable[[str], None], patience: Patience | None = None) -> None:
        self.store = store
        self._warn = warn
        self._lock = threading.Lock()
        self.writable = True
        self.closing = False  # the build has ended: what fails from now on needs no warning
        self._workers = Workers(1, "cache", patience)

    def submit(self, task: Callable[[], None]) -> list[Future[None]]:
        """Have a thread call ``task``, which attempts something; nothing where nothing more is stored."""
        with self._lock:
            if self.closing or not self.writable:
                return []
            return [self._workers.submit(task)]

    def close(self) -> None:
        """Cancel what is to be stored, and end what is being stored where its server lets it."""
        with self._lock:
            if self.closing:
                return
            self.closing = True
        self._workers.abandon()

    def attempt(
        self, action: Callable[[EntryStore], None], one: str, more: str, fatal: frozenset[Reason] = OF_THE_STORE
    ) -> Exception | None:
        """Have ``action`` store ``one`` thing; the error that it failed with.

        After one of the reasons ``fatal`` nothing is stored any more: the warning says that of ``more``.
        """
        if not self.writable:
            return None
        try:
            action(self.store)
        except (ImagewrightError, OSError, ValueError) as error:
            with self._lock:
                if self.closing or not self.writable:  # another thread has reported it
                    return error
                self.writable = not (isinstance(error, ImagewrightError) and error.reason in fatal)
                self._warn(
                    f"cannot store {one if self.writable else more} in the cache {self.store.name}: {_why(error)}"
                )
            return error
        return None


def _why(error: Exception) -> str:
    """The cause alone: the warning says what was attempted."""
    return error.why if isinstance(error, ImagewrightError) else str(error)

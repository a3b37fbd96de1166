"""Indexes that threads make of layers, several at once, and that are applied meanwhile.

Starts threads; no I/O of its own.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from imagewright.engine.pull.images import DOWNLOADS_AT_ONCE
from imagewright.engine.pull.streaming import Growing
from imagewright.errors import ImagewrightError, Reason
from imagewright.records import dataclass
from imagewright.streams import Readable
from imagewright.workers import Patience, Workers

Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Readers:
    """Threads that read layers, until one fails. ``submit`` has one of them call something."""

    submit: Callable[[Callable[[], None]], Future[None]]
    stopped: threading.Event

    def stoppable(self, stream: Readable) -> Readable:
        """A stream whose reader ends when another one has failed."""
        return _Stoppable(stream, self.stopped)


@contextmanager
def readers(patience: Patience) -> Iterator[Readers]:
    """They have ended at the end of the context; if that fails, they end soon, or are waited for with ``patience``."""
    stopped = threading.Event()
    with Workers(DOWNLOADS_AT_ONCE, "index", patience) as workers:
        try:
            yield Readers(workers.submit, stopped)
        except BaseException:  # the first failure, or a signal
            stopped.set()
            raise


@dataclass(frozen=True, slots=True)
class _Stoppable:
    stream: Readable
    stopped: threading.Event

    def read(self, size: int = -1, /) -> bytes:
        if self.stopped.is_set():
            raise ImagewrightError("another layer failed", reason=Reason.CANCELLED)
        return self.stream.read(size)


class PendingIndex:
    """The index of a layer: ``known``, or one that another thread is going to make."""

    def __init__(self, known: bytes = b"") -> None:
        self._index = known
        self._made: Future[None] | None = None
        self._growing: Growing | None = None

    def make(self, make: Callable[[Sink], bytes], threads: Readers) -> None:
        """Have a thread call ``make``, which returns the index, and gives its argument the parts as it has them."""
        growing = self._growing = Growing()

        def work() -> None:
            try:
                self._index = make(growing.write)
            finally:
                growing.end()

        self._made = threads.submit(work)

    def opened(self) -> Readable:
        """A stream of it, which may be read while it is made. Where that fails it ends early, and ``whole`` says why.

        Raises:
            ImagewrightError, NotVirtualError: as ``whole``.
        """
        growing, self._growing = self._growing, None  # to be read once
        return io.BytesIO(self.whole()) if growing is None else growing

    def whole(self) -> bytes:
        """All of it, once the layer that it was made of is verified.

        Raises:
            ImagewrightError, NotVirtualError: what ``make`` raised.
        """
        if self._made is not None:
            self._made.result()
        return self._index

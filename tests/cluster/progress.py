"""Lines that tell a waiting person what happens. Writes to standard error,
and to the record of a run of the tests where one is kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from times.records import TimedStep, keep

REMINDER_S = 20.0


def say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")  # one write: threads' lines don't mix
    sys.stderr.flush()


@contextmanager
def step(title: str, expected: str = "") -> Iterator[None]:
    """Say what starts and how long it usually takes, remind every 20 s that it goes on, and say how long it took."""
    say(title + (f" ({expected})" if expected else "") + " ...")
    start = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(REMINDER_S):
            say(f"{title}: {time.monotonic() - start:.0f} s so far")

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
    seconds = time.monotonic() - start
    say(f"{title}: done in {seconds:.1f} s")
    keep(TimedStep(title, round(seconds, 3)))

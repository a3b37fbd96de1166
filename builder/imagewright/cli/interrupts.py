"""Signals that end a command, however they come.

Starts a thread. Python calls a signal's handler in the main thread once that is back from the call that it is in. So a
signal that comes just before the call waits for a server ends nothing until the server answers, and what a handler
raises while an object is finalized is printed and forgotten. Repeated soon after, it comes during the wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Self

from imagewright.errors import Interruption

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGAIN_S = 0.1


class Interrupts:
    """A context manager of the main thread, in which SIGTERM and SIGINT raise one ``Interruption``.

    What is interrupted may clean up undisturbed: after the first, signals do nothing until the end of the context.
    """

    def __init__(self) -> None:
        self._raised = False
        self._stack = contextlib.ExitStack()
        self._line: socket.socket | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._stack.callback(signal.signal, number, signal.signal(number, self._interrupt))
        self._stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = self._lost
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._raised = True
        self._stack.close()

    def repeat(self) -> None:
        """From now on, repeat a signal until it has been raised. To be called once threads may be started."""
        self._line = self._stack.enter_context(repeated(lambda: self._raised))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._raised:
            self._raised = True
            raise Interruption(f"the build was cancelled ({signal.Signals(number).name})")

    def _lost(self, lost: sys.UnraisableHookArgs) -> None:
        """What was raised during a finalizer, which nothing can catch, is to be raised again."""
        if lost.exc_type is not Interruption:
            sys.__unraisablehook__(lost)
            return
        self._raised = False
        if self._line is not None:
            self._line.send(bytes([signal.SIGTERM]))


def ignore() -> None:
    """From now on, SIGTERM and SIGINT do nothing."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


@contextlib.contextmanager
def repeated(is_done: Callable[[], bool]) -> Iterator[socket.socket]:
    """Repeat the signals that have handlers, and those whose numbers are sent to the socket, until ``is_done``.

    To be entered by the main thread, to which they are sent.
    """
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=_repeat, args=(ours, is_done), name="signals", daemon=True)
    with theirs:
        theirs.setblocking(False)
        thread.start()
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield theirs
        finally:
            signal.set_wakeup_fd(previous)


def repeated_to_first_process() -> AbstractContextManager[object]:
    """Signals that end a container's first process (``__main__``); those of others end them without Python."""
    return repeated(lambda: False) if os.getpid() == 1 else contextlib.nullcontext()


def _repeat(line: socket.socket, is_done: Callable[[], bool]) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with line:
        while numbers := set(line.recv(4096)):
            for number in numbers.intersection(SIGNALS):
                while not is_done():
                    time.sleep(_AGAIN_S)
                    if not is_done():
                        signal.pthread_kill(main, number)

"""Logins that were asked for: of a program or a cloud, which takes time, and whose logins expire. No I/O of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Generic, TypeVar

from imagewright.errors import RegistryError
from imagewright.records import dataclass
from imagewright.registry.auth import Login

FRESH_S = 10.0  # a login that was given less than so many seconds ago has not expired
_Key = TypeVar("_Key", bound=Hashable)
Ask = Callable[[], Login | None]


@dataclass(frozen=True, slots=True)
class _Answer:
    login: Login | None
    error: RegistryError | None
    at_s: float


class Locks(Generic[_Key]):
    """A lock for each key: who waits for one is not held up by another."""

    def __init__(self) -> None:
        self._all: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, key: _Key) -> threading.Lock:
        """The same for the same key."""
        with self._lock:
            return self._all.setdefault(key, threading.Lock())


class Answers(Generic[_Key]):
    """Keeps answers and failures, so that each is asked for once. Safe to use from several threads.

    ``clock`` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[_Key, _Answer] = {}
        self._locks = Locks[_Key]()
        self._held = False

    def hold(self) -> None:
        """Ask nobody from now on: whoever has not been asked has no login, and a refused one is kept."""
        self._held = True

    def find(self, key: _Key, ask: Ask) -> Login | None:
        """The answer, asked for if there is none yet; None if there is no login.

        Raises:
            RegistryError: what ``ask`` raised.
        """
        with self._locks.of(key):
            answer = self._kept.get(key)
            if answer is None and self._held:
                return None
            answer = answer or self._asked(key, ask, None)
        if answer.error is not None:
            raise answer.error
        return answer.login

    def renew(self, key: _Key, ask: Ask) -> None:
        """Ask again for a login that was refused, unless the answer is fresh: many requests are refused at once.

        The old login is kept if there is no new one.

        Raises:
            RegistryError: what ``ask`` raised.
        """
        with self._locks.of(key):
            old = self._kept.get(key)
            if old is None or self._held or self._clock() - old.at_s < FRESH_S:
                return
            new = self._asked(key, ask, old.login)
        if new.error is not None:
            raise new.error

    def _asked(self, key: _Key, ask: Ask, old: Login | None) -> _Answer:
        error = login = None
        try:
            login = ask()
        except RegistryError as failure:
            error = failure
        answer = _Answer(login or old, error, self._clock())
        # A login that could not be renewed may still serve elsewhere.
        self._kept[key] = replace(answer, error=None) if answer.login is not None else answer
        return answer

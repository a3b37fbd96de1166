"""When a failed attempt is repeated, and after how long: the one table for registries, token servers, contexts and ADD.

Sleeps; no other I/O.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeVar

import requests

from imagewright.http.failures import BROKEN, FailureKind, classify
from imagewright.records import dataclass

_T = TypeVar("_T")
_MAX_WAIT_S = 60.0
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class Repeat(Enum):
    """Which requests are repeated after an outcome."""

    NEVER = "never"
    IDEMPOTENT = "idempotent requests: the server may have processed the first one"
    ALWAYS = "all requests: the server has not processed the first one"


# Any status that is not listed is final.
STATUSES: Mapping[int, Repeat] = {
    408: Repeat.ALWAYS,  # Request Timeout
    425: Repeat.ALWAYS,  # Too Early
    429: Repeat.ALWAYS,  # Too Many Requests
    500: Repeat.IDEMPOTENT,  # Internal Server Error
    502: Repeat.IDEMPOTENT,  # Bad Gateway
    503: Repeat.ALWAYS,  # Service Unavailable
    504: Repeat.IDEMPOTENT,  # Gateway Timeout
}
FAILURES: Mapping[FailureKind, Repeat] = {
    FailureKind.INVALID_URL: Repeat.NEVER,
    FailureKind.INVALID_HEADER: Repeat.NEVER,
    FailureKind.UNTRUSTED_CERTIFICATE: Repeat.NEVER,
    FailureKind.CLIENT_CERTIFICATE: Repeat.NEVER,
    FailureKind.NO_TLS: Repeat.NEVER,
    FailureKind.PROXY: Repeat.ALWAYS,
    FailureKind.NOT_CONNECTED: Repeat.ALWAYS,
    FailureKind.INTERRUPTED: Repeat.IDEMPOTENT,
}
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110, section 9.2.2


class Refusal(Exception):
    """The server answered, but not with what was asked for.

    ``retry_after_s`` is the wait that it asks for, 0 if none.
    """

    status: int
    retry_after_s: float


class StatusRefusal(Refusal):
    """A response whose body, if it was read, says no more than its status."""

    def __init__(self, response: requests.Response, body: bytes = b"") -> None:
        super().__init__(f"status {response.status_code}")
        self.status = response.status_code
        self.url = response.url or ""
        self.retry_after_s = retry_after_s(response.headers.get("Retry-After", ""))
        self.body = body


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``retries`` after the first attempt; the first waits ``backoff_s``, each further one twice as long."""

    retries: int = 4
    backoff_s: float = 0.5

    def wait_s(self, retry: int, retry_after_s: float = 0.0) -> float:
        """Seconds before a retry, counted from 1: with jitter, at least what the server asks for, a minute at most."""
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 -- not for security
        backoff_s: float = self.backoff_s * 2 ** (retry - 1)
        return min(_MAX_WAIT_S, max(backoff_s * jitter, retry_after_s))

    def more(self, retries: int) -> RetryPolicy:
        """The same with more retries."""
        return RetryPolicy(self.retries + retries, self.backoff_s)


def is_idempotent(method: str) -> bool:
    """Whether repeating a request changes nothing, by its method alone."""
    return method in _IDEMPOTENT


def is_repeatable(outcome: int | FailureKind, *, idempotent: bool) -> bool:
    """Whether a request is worth repeating after a status or a failure."""
    repeat = STATUSES.get(outcome, Repeat.NEVER) if isinstance(outcome, int) else FAILURES[outcome]
    return repeat is Repeat.ALWAYS or (repeat is Repeat.IDEMPOTENT and idempotent)


def with_retries(
    attempt: Callable[[], _T],
    policy: RetryPolicy,
    *,
    idempotent: bool,
    wait: Callable[[float, BaseException], object] | None = None,
) -> _T:
    """The result of ``attempt``, repeated after failures that may pass.

    Args:
        attempt: raises a ``Refusal`` or one of ``BROKEN`` where it fails.
        wait: waits so many seconds before the next attempt, after such an error; None: sleeps.

    Raises:
        the error of the last attempt.
    """
    for number in itertools.count(1):
        try:
            return attempt()
        except (Refusal, *BROKEN) as error:
            refusal = error if isinstance(error, Refusal) else None
            outcome = refusal.status if refusal else classify(error).kind
            if number > policy.retries or not is_repeatable(outcome, idempotent=idempotent):
                raise
            wait_s = policy.wait_s(number, refusal.retry_after_s if refusal else 0.0)
            failure = error
        if wait is None:
            time.sleep(wait_s)
        else:
            wait(wait_s, failure)
    raise AssertionError("the last attempt returns or raises")


def retry_after_s(value: str) -> float:
    """A Retry-After header in seconds: a number, or a date (RFC 9110, section 10.2.3); 0 for anything else."""
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0

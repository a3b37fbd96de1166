"""The table of what is retried, and how long a retry waits."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from imagewright.http.failures import FailureKind
from imagewright.http.retry import FAILURES, STATUSES, Repeat, RetryPolicy, is_idempotent, is_repeatable, retry_after_s


def test_the_table_covers_every_failure() -> None:
    assert FAILURES.keys() == set(FailureKind)


@pytest.mark.parametrize(
    ("outcome", "repeat"),
    [
        (200, Repeat.NEVER),
        (400, Repeat.NEVER),
        (401, Repeat.NEVER),
        (404, Repeat.NEVER),
        (501, Repeat.NEVER),
        (408, Repeat.ALWAYS),
        (425, Repeat.ALWAYS),
        (429, Repeat.ALWAYS),
        (503, Repeat.ALWAYS),
        (500, Repeat.IDEMPOTENT),
        (502, Repeat.IDEMPOTENT),
        (504, Repeat.IDEMPOTENT),
        (FailureKind.UNTRUSTED_CERTIFICATE, Repeat.NEVER),
        (FailureKind.CLIENT_CERTIFICATE, Repeat.NEVER),
        (FailureKind.NO_TLS, Repeat.NEVER),
        (FailureKind.INVALID_URL, Repeat.NEVER),
        (FailureKind.INVALID_HEADER, Repeat.NEVER),
        (FailureKind.NOT_CONNECTED, Repeat.ALWAYS),
        (FailureKind.PROXY, Repeat.ALWAYS),
        (FailureKind.INTERRUPTED, Repeat.IDEMPOTENT),
    ],
)
def test_what_is_repeated(outcome: int | FailureKind, repeat: Repeat) -> None:
    assert is_repeatable(outcome, idempotent=True) is (repeat is not Repeat.NEVER)
    assert is_repeatable(outcome, idempotent=False) is (repeat is Repeat.ALWAYS)


def test_every_repeated_status_is_listed_above() -> None:
    assert set(STATUSES) == {408, 425, 429, 500, 502, 503, 504}


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [("GET", True), ("HEAD", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)],
)
def test_idempotent_methods(method: str, idempotent: bool) -> None:
    assert is_idempotent(method) is idempotent


def test_waits_double_with_jitter_up_to_a_minute() -> None:
    policy = RetryPolicy(backoff_s=0.5)
    for retry, base in [(1, 0.5), (2, 1), (3, 2), (4, 4)]:
        waits = [policy.wait_s(retry) for _ in range(200)]
        assert 0.75 * base <= min(waits) < max(waits) <= 1.25 * base
    assert policy.wait_s(20) == 60


def test_a_server_may_ask_for_a_longer_wait_but_not_a_shorter_one() -> None:
    policy = RetryPolicy(backoff_s=2)
    assert policy.wait_s(1, retry_after_s=30) == 30
    assert policy.wait_s(1, retry_after_s=3600) == 60
    assert policy.wait_s(1, retry_after_s=0.1) >= 1.5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("1.5", 1.5),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("nan", 0),
        ("inf", 0),
        ("1e9", 0),
        ("9" * 400, 0),
        ("\u0661", 0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert 95 <= retry_after_s(formatdate(time.time() + 100, usegmt=True)) <= 100

"""The API server's time, by the Date of its responses."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from imagewright_operator.clock import ServerClock

LOCAL = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "now"),
    [
        ("Fri, 27 Nov 2026 12:00:01 GMT", LOCAL),  # an answer takes its time, and a Date has whole seconds
        ("Fri, 27 Nov 2026 10:00:00 GMT", LOCAL - timedelta(hours=2)),
        ("Fri, 27 Nov 2026 12:00:10 GMT", LOCAL + timedelta(seconds=10)),
        ("", LOCAL),
        ("yesterday", LOCAL),
    ],
)
def test_now_is_the_servers_time(date: str, now: datetime) -> None:
    clock = ServerClock(lambda: LOCAL)
    assert clock.now() == LOCAL
    clock.heard(date)
    assert clock.now() == now


def test_the_clock_continues_and_is_corrected_by_every_response() -> None:
    local = [LOCAL]
    clock = ServerClock(lambda: local[0])
    clock.heard("Fri, 27 Nov 2026 11:00:00 GMT")
    local[0] += timedelta(minutes=5)
    assert clock.now() == LOCAL - timedelta(minutes=55)
    clock.heard("Fri, 27 Nov 2026 12:05:00 GMT")
    assert clock.now() == local[0]


def test_a_clock_difference_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = ServerClock(lambda: LOCAL)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.heard("Fri, 27 Nov 2026 12:02:00 GMT")
    assert [record.getMessage() for record in caplog.records] == [
        "the local clock is 120 s behind the API server's; using the API server's time"
    ]

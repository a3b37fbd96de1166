"""What broken exchanges are called: nothing of a login is quoted, and the words are ours where a library's are odd."""

from __future__ import annotations

import http.client

import pytest
import requests
import urllib3

from imagewright.http.failures import BROKEN, FailureKind, TooSlow, classify


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            requests.exceptions.InvalidHeader("Invalid leading whitespace … in header value: ' hunter2'"),
            "INVALID_HEADER",
        ),
        (requests.exceptions.InvalidURL("Invalid URL 'https:///x?sig=hunter2': No host supplied"), "INVALID_URL"),
        (urllib3.exceptions.LocationParseError("https://me:hunter2@["), "INVALID_URL"),
    ],
)
def test_invalid_requests_are_final_and_not_quoted(error: Exception, kind: str) -> None:
    assert isinstance(error, BROKEN)
    failure = classify(error)
    assert failure.kind is FailureKind[kind]
    assert "hunter2" not in failure.why


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (raised_from(urllib3.exceptions.ProtocolError("broken"), http.client.IncompleteRead(b"", 5)), "before the end"),
        (raised_from(requests.ConnectionError("Read timed out."), TimeoutError("timed out")), "no response in time"),
        (requests.ReadTimeout("Read timed out. (read timeout=60.0)"), "no response in time"),
        (TooSlow("fewer than 60000 bytes arrived in 60 seconds"), "fewer than 60000 bytes"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    ],
)
def test_interruptions_have_plain_words(error: Exception, why: str) -> None:
    failure = classify(error)
    assert failure.kind is FailureKind.INTERRUPTED
    assert why in failure.why

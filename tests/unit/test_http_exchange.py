"""Origins, loopback hosts and URLs in messages. (Redirects and credentials: integration/http.)"""

from __future__ import annotations

import pytest

from imagewright.http.exchange import Authorization, is_loopback, origin, shown_url


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.test/x", "https://A.test:443/y?z", True),
        ("http://a.test", "http://a.test:80/", True),
        ("https://a.test", "http://a.test", False),
        ("https://a.test", "https://a.test:444", False),
        ("https://a.test", "https://b.test", False),
        ("https://a.test", "https://a.test.evil.test", False),
        ("https://a.test", "https://user@a.test", True),
    ],
)
def test_a_login_is_sent_to_its_own_origin_only(one: str, other: str, same: bool) -> None:
    authorization = Authorization("Bearer hunter2", origin(one))
    assert authorization.headers(other) == ({"Authorization": "Bearer hunter2"} if same else {})
    assert "hunter2" not in repr(authorization)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter2@a.test/x?sig=hunter2", "https://a.test/x"),
        ("https://user:hunter2@a.test", "https://a.test"),
        ("https://user:hun@ter2@a.test/", "https://a.test/"),
        ("https://a.test/x@y", "https://a.test/x@y"),
        ("https://user:hun?ter2@a.test/x", "https://a.test/x"),
        ("https://user:hun ter2@a.test/x", "https://a.test/x"),
        ("//user:hunter2@a.test/x", "//a.test/x"),
        ("/elsewhere?sig=hunter2", "/elsewhere"),
    ],
)
def test_neither_login_nor_query_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.8.9.1:80", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("127.evil.test", False),
        ("127.0.0.1.evil.test:5000", False),
        ("127.0.0.1@evil.test", False),
        ("localhost.evil.test", False),
        ("[::2]", False),
        ("[::1", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected

"""Web addresses: one reading for all, and messages without logins. (Redirects and credentials: integration/http.)"""

from __future__ import annotations

import pytest
import urllib3.util

from imagewright.http.exchange import Authorization
from imagewright.logins import shown_url, without_login, without_logins
from imagewright.urls import is_loopback, is_this_machine, origin, parse_url

# Each is read in another way by another parser: other hosts, ports, or paths.
AMBIGUOUS = [
    "http://evil.test\\@127.0.0.1/",
    "http://127.0.0.1\\@evil.test/",
    "http://evil.test\\.127.0.0.1/",
    "http://127.0.0.1\\/@evil.test/",
    "http://127.0.0.1\t.evil.test/",
    "http://127.0.0.1\n/",
    "http://127.0.0.1/a\tb",
    "http://evil.test/\r\nHost: 127.0.0.1",
    "http://[::1]evil.test/",
    "http://[::1",
    "http://evil.test%00.127.0.0.1/",
    "http://127.0.0.1:80:81/",
    "http://127.0.0.1:port/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1 evil.test/",
    "http://ⓛocalhost/",
    "http:///localhost/",
    "http:localhost/",
    "http://",
    "//localhost/",
    "localhost",
    "file://localhost/",
    "",
]


@pytest.mark.parametrize("url", AMBIGUOUS)
def test_an_ambiguous_address_is_invalid(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(invalid host or port|invalid character|no host|not an http or https)"):
        parse_url(url)
    assert origin(url) != origin("http://127.0.0.1/")


@pytest.mark.parametrize(
    ("url", "whole", "host"),
    [
        ("https://A.test:8443/x?y=z#f", "https://a.test:8443/x?y=z", "a.test"),
        ("https://u%40x:p%2Fw@a.test/x", "https://a.test/x", "a.test"),
        ("https://u@v@a.test/", "https://a.test/", "a.test"),
        ("https://a.test?x@127.0.0.1/", "https://a.test?x@127.0.0.1/", "a.test"),
        ("https://a.test#@127.0.0.1/", "https://a.test", "a.test"),
        ("https://a.test:/x", "https://a.test/x", "a.test"),
        ("https://[::1]:5000/x", "https://[::1]:5000/x", "[::1]"),
        ("https://bücher.test/a b", "https://xn--bcher-kva.test/a b", "xn--bcher-kva.test"),
    ],
)
def test_an_address_has_the_host_that_is_connected_to(url: str, whole: str, host: str) -> None:
    read = parse_url(url)
    assert (str(read), read.host) == (whole, host)
    assert urllib3.util.parse_url(url).host == host


def test_a_login_in_an_address_is_decoded_and_not_shown() -> None:
    url = parse_url("https://us%40er:p%2Fw@a.test/")
    assert url.login == ("us@er", "p/w")
    assert "p%2Fw" not in repr(url) + str(url)


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
        ("https://ss@user:p@hunter2@a.test/x", "https://a.test/x"),
        ("https://user:hun/ter2@a.test/x", "https://a.test/x"),
        ("https://user:hun//ter2@a.test/x", "https://a.test/x"),
        ("HTTPS://user:hunter2@a.test/x", "HTTPS://a.test/x"),
        ("https://a.test:5000/x@y", "https://a.test:5000/x@y"),
        ("https://[::1]:5000/x@y", "https://[::1]:5000/x@y"),
        ("ssh://git:hunter2@a.test/x", "ssh://git@a.test/x"),
        ("git@a.test:x", "git@a.test:x"),
    ],
)
def test_neither_login_nor_query_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_logins_are_cut_out_of_text() -> None:
    text = "fatal: 'https://u:p@q@host/x' and ssh://k:p@h/ of user@host: https://a.test/a@b"
    assert without_logins(text) == "fatal: 'https://host/x' and ssh://k@h/ of user@host: https://a.test/a@b"


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
        ("127.0.0.1\\@evil.test", False),
        ("localhost/", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1", "127.255.0.9", "2130706433", "0x7f.1", "0177.0.0.1", "0", "0.0.0.0")),
        *((host, True) for host in ("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1%25lo]")),
        *((host, True) for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1.")),
        *((host, False) for host in ("10.0.0.1", "[2001:db8::1]", "auth.example.com", "localhost.example.com", "1270.0.1")),
    ],
)  # fmt: skip
def test_this_machine_by_any_spelling(host: str, expected: bool) -> None:
    assert is_this_machine(host) is expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:12/34@host/repo", "https://host/repo"),
        ("https://token/with@host/repo", "https://host/repo"),
        ("https://user:1/2/3@host:5000/repo", "https://host:5000/repo"),
        ("https://user:pass@host/@scope/a", "https://host/@scope/a"),
        ("https://registry.example.com/@scope/package", "https://registry.example.com/@scope/package"),
        ("https://registry.example.com:5000/@scope/package", "https://registry.example.com:5000/@scope/package"),
        ("https://example.com:5000/package@1.2", "https://example.com:5000/package@1.2"),
        ("https://example.com/package@1.2/file", "https://example.com/package@1.2/file"),
        ("https://[::1]:5000/package@1.2", "https://[::1]:5000/package@1.2"),
        ("https://host:5000/package", "https://host:5000/package"),
    ],
)
def test_a_login_with_a_slash_is_not_shown(url: str, shown: str) -> None:
    assert without_login(url) == shown
    assert without_logins(f"cannot fetch {url} now") == f"cannot fetch {shown} now"

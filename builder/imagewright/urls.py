"""Web addresses (RFC 3986), read as urllib3 reads them, which connects.

No I/O. Parsers differ about hosts, such as that of ``http://a\\@b/``. What one of them checks and another connects to
must be the same host, so that an address that can be read in two ways is invalid.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import field
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3.util

from imagewright.records import dataclass

_DEFAULT_PORTS = {"https": 443, "http": 80}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Origin = tuple[str, str, int]  # scheme, host, port (RFC 9110, section 4.3.1)


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address. ``host`` is in lower case, and in brackets if it is an IPv6 address.

    ``userinfo`` is ``user:password`` as written, ``""`` without a login; ``str`` leaves it and the fragment out.
    """

    scheme: str
    userinfo: str = field(repr=False)
    host: str
    port: int | None
    path: str
    query: str

    @property
    def netloc(self) -> str:
        """``host`` or ``host:port``."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def login(self) -> tuple[str, str]:
        """User name and password, decoded; ``""`` for what is missing."""
        user, _, password = self.userinfo.partition(":")
        return unquote(user), unquote(password)

    @property
    def origin(self) -> Origin:
        return self.scheme, self.host, self.port or _DEFAULT_PORTS[self.scheme]

    def __str__(self) -> str:
        return urlunsplit((self.scheme, self.netloc, self.path, self.query, ""))


def parse_url(text: str) -> Url:
    """An http or https address.

    Raises:
        ValueError: another scheme, no host, an invalid host or port, or a host that parsers read in different ways.
            Its message has nothing of the address, which may contain a login.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("invalid host or port") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("not an http or https address")
    if _CONTROL.search(text) or "\\" in parts.netloc:  # urlsplit drops the former, urllib3 ends a host at the latter
        raise ValueError("invalid character")
    try:
        read = urllib3.util.parse_url(text)
    except ValueError:
        raise ValueError("invalid host or port") from None
    if not read.host:
        raise ValueError("no host")
    return Url(parts.scheme, parts.netloc.rpartition("@")[0], read.host, read.port, parts.path, parts.query)


def origin(url: str) -> Origin:
    """Scheme, host and port of an address, to compare; an invalid one has an origin of its own."""
    try:
        return parse_url(url).origin
    except ValueError:
        return "", url, 0


def is_loopback(host: str) -> bool:
    """Whether ``host`` or ``host:port`` is this machine, where plain HTTP is harmless and no proxy is needed."""
    try:
        url = parse_url(f"http://{host}/")
    except ValueError:
        return False
    name = url.host.strip("[]")
    if url.netloc != host.lower():
        return False  # more than a host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False  # a name, even one that begins with 127.


def is_this_machine(host: str) -> bool:
    """Whether a host, without a port, is this machine by any spelling that the system's resolver takes for an address:
    ``127.1``, ``2130706433``, ``0.0.0.0``, ``[::ffff:127.0.0.1]``, ``localhost.``.
    """
    name = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback or address.is_unspecified

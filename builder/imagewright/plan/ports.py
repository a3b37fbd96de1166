"""EXPOSE's port specifications to the keys of the image configuration's ExposedPorts.

No I/O. Called by ``plan.stage``. Docker's old ``host:container`` form is read and its host part dropped, as BuildKit does.
"""

from __future__ import annotations

import ipaddress

_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX_PORT = 65535


class PortError(Exception):
    """The text is no port; the message says why."""


def parse_ports(text: str) -> tuple[str, ...]:
    """``8080``, ``53/udp`` or ``8000-8010/tcp`` as ``number/protocol``, ascending.

    Raises:
        PortError: no such form.
    """
    *host, container = text.rsplit(":", 2)
    number, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise PortError(f"{protocol!r} is no protocol; it is one of {', '.join(_PROTOCOLS)}")
    first, last = _range(number)
    if len(host) == 2 and host[0]:
        _check_address(host[0])
    if host and host[-1]:
        host_first, host_last = _range(host[-1])
        if host_last - host_first != last - first and first != last:
            raise PortError(f"the ranges {host[-1]} and {number} differ in length")
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if end < start:
        raise PortError(f"the range {text} ends before it begins")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and int(text) <= _MAX_PORT):
        raise PortError(f"{text!r} is no port number from 0 to {_MAX_PORT}")
    return int(text)


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise PortError(f"{text!r} is no IP address") from error

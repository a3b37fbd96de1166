"""Parses the ports of EXPOSE into the keys of ExposedPorts in the image configuration.

No I/O. The host part of Docker's old ``host:container`` form is dropped, as in BuildKit.
"""

from __future__ import annotations

import ipaddress

_PROTOCOLS = ("tcp", "udp", "sctp")
_MAX_PORT = 65535


class PortError(Exception):
    """The text is not a port; the message says why."""


def parse_ports(text: str) -> tuple[str, ...]:
    """``8080``, ``53/udp`` or ``8000-8010/tcp`` as ``number/protocol``, ascending.

    Raises:
        PortError: invalid port, range, protocol or address.
    """
    *host, container = text.rsplit(":", 2)
    number, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise PortError(f'unknown protocol "{protocol}", must be one of {", ".join(_PROTOCOLS)}')
    first, last = _range(number)
    if len(host) == 2 and host[0]:
        _check_address(host[0])
    if host and host[-1]:
        host_first, host_last = _range(host[-1])
        if host_last - host_first != last - first and first != last:
            raise PortError(f"port ranges {host[-1]} and {number} have different lengths")
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if end < start:
        raise PortError(f"port range {text} is in reverse order")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and int(text) <= _MAX_PORT):
        raise PortError(f"not a port number from 0 to {_MAX_PORT}")
    return int(text)


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise PortError(f'"{text}" is not an IP address') from error

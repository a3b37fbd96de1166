"""From the flags for single registries to their settings.

Checks that named files exist, and reads none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from imagewright.cli.arguments import Arguments
from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright.registry.endpoints import parse_map

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ADDRESS = re.compile(_HOST.pattern + r"(?:/[A-Za-z0-9._/-]+)?")


def registry_settings(arguments: Arguments) -> tuple[RegistrySettings, ...]:
    """The settings of the registries that flags name.

    Raises:
        UsageError: an invalid address, a missing file.
    """
    settings: dict[str, dict[str, Any]] = {}

    def of(host: str, flag: str) -> dict[str, Any]:
        return settings.setdefault(_checked(host, flag, _HOST), {"host": host})

    for host in _split(arguments.all("insecure-registry")):
        of(host, "insecure-registry")["insecure"] = True
    for host in _split(arguments.all("skip-tls-verify-registry")):
        of(host, "skip-tls-verify-registry")["skip_tls_verify"] = True
    mirrors: dict[str, list[str]] = {}
    for host, mirror in parse_map(arguments.all("registry-map"), "registry-map"):
        of(host, "registry-map")
        mirrors.setdefault(host, []).append(_checked(mirror, "registry-map", _ADDRESS))
    for mirror in _split(arguments.all("registry-mirror")):
        mirrors.setdefault("docker.io", []).append(_checked(mirror, "registry-mirror", _ADDRESS))
    for host, addresses in mirrors.items():
        of(host, "registry-mirror")["mirrors"] = tuple(addresses)
        of(host, "registry-mirror")["mirrors_only"] = arguments.flag("skip-default-registry-fallback")
    for host, address in parse_map(arguments.all("registry-endpoint"), "registry-endpoint"):
        of(host, "registry-endpoint")["endpoint"] = _checked(address, "registry-endpoint", _ADDRESS)
    for host, path in arguments.pairs("registry-certificate"):
        of(host, "registry-certificate")["ca_file"] = _file(path, "registry-certificate")
    for host, pair in arguments.pairs("registry-client-cert"):
        certificate, comma, key = pair.partition(",")
        if not comma:
            raise UsageError(
                f'invalid --registry-client-cert value "{host}={pair}": not HOST=CERT,KEY',
                hint="Name both files, separated by a comma.",
            )
        of(host, "registry-client-cert")["client_cert_file"] = _file(certificate, "registry-client-cert")
        of(host, "registry-client-cert")["client_key_file"] = _file(key, "registry-client-cert")
    return tuple(RegistrySettings(**value) for value in settings.values())


def _file(path: str, flag: str) -> str:
    if not os.path.isfile(path):
        raise UsageError(
            f'cannot read the file of --{flag} "{path}": no such file',
            hint="Mount it into the container, and use its path there.",
        )
    return path


def _checked(text: str, flag: str, pattern: re.Pattern[str]) -> str:
    """A registry's address without its scheme; a malformed one would only show as a registry that is never asked."""
    address = re.sub(r"^https?://", "", text).rstrip("/") if pattern is _ADDRESS else text
    if not pattern.fullmatch(address):
        raise UsageError(
            f'invalid --{flag} value "{text}": not the address of a registry',
            hint="Write host[:port]" + ("[/path]." if pattern is _ADDRESS else ", without https:// and a path."),
        )
    return address


def _split(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]

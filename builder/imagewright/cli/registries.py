"""Flags that say how single registries are reached become settings.

Looks whether named files are there and reads none. Called by ``cli.request``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from imagewright.cli.arguments import Arguments
from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright.registry.endpoints import parse_map

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ADDRESS = re.compile(_HOST.pattern + r"(?:/[A-Za-z0-9._/-]+)?")


def registry_settings(arguments: Arguments) -> tuple[RegistrySettings, ...]:
    """What the command line says of single registries.

    Raises:
        UsageError: no address of a registry, a file that is not there.
    """
    settings: dict[str, dict[str, object]] = {}

    def of(host: str, flag: str) -> dict[str, object]:
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
        of(host, "registry-certificate")["ca_file"] = _file(path, f"--registry-certificate={host}={path}")
    for host, pair in arguments.pairs("registry-client-cert"):
        written = f"--registry-client-cert={host}={pair}"
        certificate, comma, key = pair.partition(",")
        if not comma:
            raise UsageError(f"{written}: not HOST=CERTIFICATE,KEY", hint="Name both files, with a comma between them.")
        of(host, "registry-client-cert")["client_cert_file"] = _file(certificate, written)
        of(host, "registry-client-cert")["client_key_file"] = _file(key, written)
    return tuple(RegistrySettings.model_validate(value) for value in settings.values())


def _file(path: str, written: str) -> str:
    if not os.path.isfile(path):
        raise UsageError(
            f"{written}: there is no file {path}", hint="Mount it into the container, and name it by its path there."
        )
    return path


def _checked(text: str, flag: str, pattern: re.Pattern[str]) -> str:
    """A registry's address without its scheme; what is none would only be noticed when it is never reached."""
    address = re.sub(r"^https?://", "", text).rstrip("/") if pattern is _ADDRESS else text
    if not pattern.fullmatch(address):
        raise UsageError(
            f"--{flag}: {text!r} is no address of a registry",
            hint="Write host[:port]" + ("[/path]." if pattern is _ADDRESS else ", without https:// and path."),
        )
    return address


def _split(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]

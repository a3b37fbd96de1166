"""Where a registry's API is reached: mirrors, the registry itself, an address that stands for it; how strictly.

Pure; no I/O. Made by ``registry.client`` and asked by ``pull`` and ``push``; ``cli.request`` reads maps with it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES, Reference

_DOCKER_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How registries are reached; ``insecure_push`` and ``insecure_pull`` hold for those without settings of their own."""

    settings: tuple[RegistrySettings, ...] = ()
    insecure_push: bool = False
    insecure_pull: bool = False
    skip_tls_verify_push: bool = False
    skip_tls_verify_pull: bool = False
    user_agent: str = "imagewright"
    retries: int = 4  # after the first try
    pull_retries: int = 0  # beside those
    push_retries: int = 0
    backoff_s: float = 0.25  # doubled with every try


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. ``prefix`` goes before the repository's name; ``login_host`` is whose credentials are used."""

    host: str
    prefix: str
    login_host: str
    plain_http: bool = False  # allowed where HTTPS is not answered
    skip_tls_verify: bool = False
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""

    def repository(self, reference: Reference) -> str:
        """The repository's name at this address."""
        return f"{self.prefix}/{reference.repository}" if self.prefix else reference.repository

    def login_repository(self, repository: str) -> str:
        """A repository of this address by the name that logins are kept under: without what an endpoint adds to it."""
        stands_in = self.prefix and _canonical(self.host) != self.login_host
        return repository.removeprefix(f"{self.prefix}/") if stands_in else repository

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


class Endpoints:
    """Finds the addresses for a reference."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._settings = {_canonical(s.host): s for s in options.settings}

    def for_pull(self, reference: Reference) -> list[Endpoint]:
        """Mirrors in their order, then the registry itself, unless it is not to be asked."""
        settings = self._settings.get(reference.registry)
        mirrors = settings.mirrors if settings else ()
        found = [self._endpoint(mirror, None, pull=True) for mirror in mirrors]
        if found and settings is not None and settings.mirrors_only:
            return found
        return [*found, self._endpoint(reference.registry, settings, pull=True)]

    def for_push(self, reference: Reference) -> Endpoint:
        """The registry itself: nothing is pushed to a mirror."""
        return self._endpoint(reference.registry, self._settings.get(reference.registry), pull=False)

    def _endpoint(self, address: str, settings: RegistrySettings | None, *, pull: bool) -> Endpoint:
        logical, _, prefix = _without_scheme(address).partition("/")
        logical = _canonical(logical)
        if settings is None:
            settings = self._settings.get(logical, RegistrySettings(host=logical))
        host = logical
        if settings.endpoint:
            host, _, prefix = _without_scheme(settings.endpoint).partition("/")
            # How an address is reached is a matter of that address, where it has settings of its own.
            own = self._settings.get(_canonical(host))
            if own is not None:
                settings = own
        options = self._options
        general = options.insecure_pull if pull else options.insecure_push
        return Endpoint(
            _DOCKER_HUB_HOST if host == DOCKER_HUB else host,
            prefix.strip("/"),
            logical,
            settings.insecure or general or is_loopback(host),
            settings.skip_tls_verify or (options.skip_tls_verify_pull if pull else options.skip_tls_verify_push),
            settings.ca_file,
            settings.client_cert_file,
            settings.client_key_file,
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, where plain HTTP harms nobody."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False  # a name, even one that begins with 127.


def parse_map(entries: Iterable[str], flag: str) -> list[tuple[str, str]]:
    """``host=other[;host=other]`` of --registry-map and --registry-endpoint.

    Raises:
        UsageError
    """
    pairs = []
    for entry in entries:
        for item in filter(None, entry.split(";")):
            host, equals, other = item.partition("=")
            if not equals or not host or not other:
                raise UsageError(
                    f"--{flag}={entry}: not HOST=HOST", hint=f"Write --{flag} docker.io=mirror.example.com."
                )
            pairs.append((_canonical(host), other))
    return pairs


def _without_scheme(address: str) -> str:
    """People paste addresses. The scheme says nothing: plain HTTP is allowed by ``insecure``."""
    return address.removeprefix("https://").removeprefix("http://")


def _canonical(host: str) -> str:
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host

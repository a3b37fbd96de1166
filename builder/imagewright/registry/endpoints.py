"""Where a registry's API is reached, and how strictly: mirrors, the registry itself, another address in its place.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright.http.retry import RetryPolicy
from imagewright.http.session import Tls
from imagewright.records import dataclass
from imagewright.reference import DOCKER_HUB, DOCKER_HUB_ALIASES, Reference
from imagewright.urls import is_loopback

_DOCKER_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How registries are reached. ``insecure_push`` and ``insecure_pull`` apply to those without settings of their own;
    ``pull_retries`` and ``push_retries`` add to those of ``retry``."""

    settings: tuple[RegistrySettings, ...] = ()
    insecure_push: bool = False
    insecure_pull: bool = False
    skip_tls_verify_push: bool = False
    skip_tls_verify_pull: bool = False
    user_agent: str = "imagewright"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    pull_retries: int = 0
    push_retries: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. ``prefix`` precedes the repository's name; the login is that of ``login_host``."""

    host: str
    prefix: str
    login_host: str
    plain_http: bool = False  # allowed where HTTPS is not answered
    tls: Tls = field(default_factory=Tls)

    def repository(self, reference: Reference) -> str:
        """The repository's name at this address."""
        return f"{self.prefix}/{reference.repository}" if self.prefix else reference.repository

    def login_repository(self, repository: str) -> str:
        """The repository's name here, under which its login is stored: without the prefix of a replaced address."""
        stands_in = self.prefix and _canonical(self.host) != self.login_host
        return repository.removeprefix(f"{self.prefix}/") if stands_in else repository

    def label(self, reference: Reference) -> str:
        """This address for messages about an image, with the word "mirror" if it is not that of its registry."""
        return str(self) if self.login_host == reference.registry else f"mirror {self}"

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


class Endpoints:
    """Finds the addresses for a reference."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._settings = {_canonical(s.host): s for s in options.settings}

    def for_pull(self, reference: Reference) -> list[Endpoint]:
        """Mirrors in their order, then the registry itself, unless only mirrors may be asked."""
        settings = self._settings.get(reference.registry)
        mirrors = settings.mirrors if settings else ()
        found = [self._endpoint(mirror, None, pull=True) for mirror in mirrors]
        if found and settings is not None and settings.mirrors_only:
            return found
        return [*found, self._endpoint(reference.registry, settings, pull=True)]

    def for_push(self, reference: Reference) -> Endpoint:
        """The registry itself: mirrors are never pushed to."""
        return self._endpoint(reference.registry, self._settings.get(reference.registry), pull=False)

    def _endpoint(self, address: str, settings: RegistrySettings | None, *, pull: bool) -> Endpoint:
        logical, _, prefix = _without_scheme(address).partition("/")
        logical = _canonical(logical)
        if settings is None:
            settings = self._settings.get(logical, RegistrySettings(host=logical))
        host = logical
        if settings.endpoint:
            host, _, prefix = _without_scheme(settings.endpoint).partition("/")
            # An address that has settings of its own is reached by those.
            own = self._settings.get(_canonical(host))
            if own is not None:
                settings = own
        options = self._options
        general = options.insecure_pull if pull else options.insecure_push
        skip_verify = options.skip_tls_verify_pull if pull else options.skip_tls_verify_push
        return Endpoint(
            _DOCKER_HUB_HOST if host == DOCKER_HUB else host,
            prefix.strip("/"),
            logical,
            settings.insecure or general or is_loopback(host),
            Tls(
                not (settings.skip_tls_verify or skip_verify),
                settings.ca_file,
                settings.client_cert_file,
                settings.client_key_file,
            ),
        )


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
                    f'invalid --{flag} value "{entry}": not HOST=HOST',
                    hint=f"Use, for example, --{flag} docker.io=mirror.example.com.",
                )
            pairs.append((_canonical(host), other))
    return pairs


def _without_scheme(address: str) -> str:
    """Users paste URLs. The scheme has no effect: only ``insecure`` allows plain HTTP."""
    return address.removeprefix("https://").removeprefix("http://")


def _canonical(host: str) -> str:
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host

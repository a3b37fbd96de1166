"""Real registries for the tests of the client; each is started once and given content by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.certificates import Authority, Identity
from servers.registry import RegistryServer, RegistryServerOptions

from imagewright.contract.request import RegistrySettings
from imagewright.http.retry import RetryPolicy
from imagewright.reference import Reference
from imagewright.registry.auth import Login
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.endpoints import Endpoint, Endpoints, RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.transport import Request, Transport


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder with the certificate of a new authority, ca.crt, and one for ``hosts`` under each of the names."""

    def make(*names: str, hosts: tuple[str, ...]) -> Path:
        folder = tmp_path_factory.mktemp("authority")
        authority = Authority(folder, "imagewright test")
        for name in names:
            authority.issue(Identity(name, name, hosts=hosts))
        return folder

    return make


@pytest.fixture
def ask() -> Callable[..., bytes]:
    """Asks a registry once for the tags of ``app``; the body of its answer.

    Settings say how it is reached, or an endpoint.
    """

    def run(registry: RegistrySettings | Endpoint, login: Login | None = None) -> bytes:
        settings = (registry,) if isinstance(registry, RegistrySettings) else ()
        options = RegistryOptions(settings, retry=RetryPolicy(1, 0))
        if isinstance(registry, RegistrySettings):
            (registry,) = Endpoints(options).for_pull(Reference.parse(f"{registry.host}/app"))
        request = Request("GET", "app/tags/list", ("repository:app:pull",), frozenset({200}))
        transport = Transport(options, Keychain(DockerConfig({registry.login_host: login} if login else {})))
        return transport.fetch(registry, "app", request, 1000)[1]

    return run


@pytest.fixture(scope="session")
def private_registry(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """HTTPS with a certificate of an authority of its own, and a login."""
    options = RegistryServerOptions(
        tmp_path_factory.mktemp("private"),
        programs / "registry",
        tls=True,
        username="builder",
        password="p\u00e4ss:word",
    )
    with RegistryServer(options) as server:
        yield server

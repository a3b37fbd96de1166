"""Real registries for the tests of the client; each is started once and given content by the tests themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.registry import RegistryServer, RegistryServerOptions


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Plain HTTP, no login."""
    with RegistryServer(RegistryServerOptions(tmp_path_factory.mktemp("registry"))) as server:
        yield server


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """HTTPS with a certificate of an authority of its own, and a login."""
    options = RegistryServerOptions(
        tmp_path_factory.mktemp("private"), tls=True, username="builder", password="p\u00e4ss:word"
    )
    with RegistryServer(options) as server:
        yield server

"""Real registries for the tests of the client; each is started once and given content by the tests themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.binaries import binaries
from cluster.places import ClusterError
from servers.registry import RegistryServer, RegistryServerOptions


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the test cluster's programs, registry and crane among them; built the first time."""
    try:
        return binaries()
    except ClusterError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def registry(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Plain HTTP, no login."""
    with RegistryServer(RegistryServerOptions(tmp_path_factory.mktemp("registry"), programs / "registry")) as server:
        yield server


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

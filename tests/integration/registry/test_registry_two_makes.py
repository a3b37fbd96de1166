"""Two registries of different make, over TLS and with a login: distribution's, and Google's go-containerregistry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.binaries import binaries
from servers.images import memory_image
from servers.otherregistry import OtherRegistry
from servers.registry import RegistryServer, RegistryServerOptions
from servers.registryclient import Client

from imagewright.contract.request import RegistrySettings
from imagewright.errors import Reason, RegistryError
from imagewright.reference import Reference
from imagewright.registry.auth import Login

pytestmark = pytest.mark.registry

USER, PASSWORD = "me", "hunter2"


@pytest.fixture(scope="module", params=["distribution", "go-containerregistry"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer | OtherRegistry]:
    state = tmp_path_factory.mktemp("registry")
    if request.param == "distribution":
        options = RegistryServerOptions(state, binaries() / "registry", tls=True, username=USER, password=PASSWORD)
        with RegistryServer(options) as server:
            yield server
    else:
        with OtherRegistry(state, USER, PASSWORD) as other:
            yield other


def client(registry: RegistryServer | OtherRegistry, password: str = PASSWORD) -> Client:
    settings = RegistrySettings(host=registry.host, ca_file=str(registry.ca_file))
    return Client(settings, logins={registry.host: Login(USER, password)})


def test_what_is_pushed_is_pulled(registry: RegistryServer | OtherRegistry) -> None:
    image = memory_image([b"one" * 100_000, b"two"])
    names = [f"{registry.host}/team/{name}" for name in ("app:1", "app:2", "other:1")]
    client(registry).push(image, *names)
    # Each blob is sent once a registry; the other repository mounts it, or the registry knows it already.
    assert len(image.opened) <= 4
    for name in ("team/app:1", "team/app:2", "team/other:1"):
        using = client(registry)
        found = using.resolve(f"{registry.host}/{name}")
        assert found.manifest.raw == image.manifest.raw
        with using.puller.open_blob(found, found.manifest.layers[0]) as stream:
            assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == b"one" * 100_000


def test_a_tag_that_is_not_there(registry: RegistryServer | OtherRegistry) -> None:
    assert client(registry).puller.find(Reference.parse(f"{registry.host}/team/none:1")) is None


def test_a_wrong_password_is_a_reason_of_its_own(registry: RegistryServer | OtherRegistry) -> None:
    with pytest.raises(RegistryError) as caught:
        client(registry, "hunter3").pusher.check_push(Reference.parse(f"{registry.host}/team/app:1"))
    assert caught.value.reason is Reason.REGISTRY_AUTH_FAILED
    assert "hunter" not in caught.value.render()


def test_a_build_and_its_cache(registry: RegistryServer | OtherRegistry, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nCOPY f /f\nWORKDIR /w\n")
    (tmp_path / "context" / "f").write_text("content")
    (tmp_path / "docker").mkdir()
    login = {"username": USER, "password": PASSWORD}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {registry.host: login}}))
    logs = []
    for _ in range(2):
        done = subprocess.run(
            [
                sys.executable, "-m", "imagewright", "build", f"--context={tmp_path / 'context'}", "--cache",
                f"--destination={registry.host}/built/app:1", f"--registry-certificate={registry.host}={registry.ca_file}",
            ],
            capture_output=True, text=True, check=False, env={**os.environ, "DOCKER_CONFIG": str(tmp_path / "docker")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        logs.append(done.stderr)
    assert "0 of 2 steps were cached in" in logs[0]
    assert f"2 of 2 steps were cached in {registry.host}/built/app/cache" in logs[1]

"""Fixtures of several parts: no cloud logins, a registry, an ssh server, sources as the engine fetches them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cluster.binaries import binaries
from cluster.places import ClusterError
from servers.registry import RegistryServer, RegistryServerOptions
from servers.ssh import SshServer, why_not

from imagewright.context.fetch import fetch as fetch_source
from imagewright.context.job import FetchedContext, FetchJob
from imagewright.contract.sources import Source
from imagewright.engine.source.inputs import unpack_archive
from imagewright.errors import ImagewrightError
from imagewright.http.retry import RetryPolicy

_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AZURE_STORAGE_ACCESS_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST",
)


@pytest.fixture
def no_cloud_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login of a cloud is found, wherever its SDK looks for one."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    # Not HOME: what the servers are built into is below it.
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "CLOUDSDK_CONFIG", "AZURE_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the test cluster's programs, kubectl, registry and crane among them; built the first time."""
    try:
        return binaries()
    except ClusterError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def registry(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry of the test file: plain HTTP, no login, empty at first."""
    with RegistryServer(RegistryServerOptions(tmp_path_factory.mktemp("registry"), programs / "registry")) as server:
        yield server


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An ssh server; its tests are skipped where it cannot run, and fail in CI."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with SshServer(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def secret(tmp_path: Path) -> Callable[..., str]:
    """Makes folders with the keys of a Secret, as it is mounted; ``ca_crt`` is the key ``ca.crt``."""
    count = 0

    def make(**keys: str | bytes) -> str:
        nonlocal count
        count += 1
        folder = tmp_path / f"secret {count}"
        folder.mkdir()
        for name, value in keys.items():
            (folder / name.replace("_", ".")).write_bytes(value if isinstance(value, bytes) else value.encode())
        return str(folder)

    return make


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., FetchedContext]:
    """Fetches a source below a new work directory each time, and checks that nothing else is left there."""
    count = 0

    def run(source: Source, environment: Mapping[str, str] = {}, log: list[str] | None = None) -> FetchedContext:
        nonlocal count
        count += 1
        work = tmp_path / f"work directory {count}"
        work.mkdir()
        lines = log if log is not None else []
        job = FetchJob(str(work), environment, lines.append, RetryPolicy(2, 0.0), unpack=unpack_archive)
        try:
            return fetch_source(source, job)
        finally:
            left = {path.name for path in work.iterdir()} - {"context", "git"}
            assert not left, "an archive or a key is left behind"

    return run


@pytest.fixture
def fetch_archive(fetch: Callable[..., FetchedContext]) -> Callable[..., Path]:
    """Fetches a source that is an archive; its directory."""

    def run(source: Source, environment: Mapping[str, str] = {}) -> Path:
        fetched = fetch(source, environment)
        assert fetched.digest.startswith("sha256:")
        return Path(fetched.path)

    return run


@pytest.fixture
def fetch_error(fetch: Callable[..., FetchedContext]) -> Callable[..., ImagewrightError]:
    """The error that fetching a source ends with, which has a hint."""

    def run(source: Source, environment: Mapping[str, str] = {}) -> ImagewrightError:
        with pytest.raises(ImagewrightError) as caught:
            fetch(source, environment)
        assert caught.value.hint
        return caught.value

    return run

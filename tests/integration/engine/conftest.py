"""A real registry with base images, and the engine run against it as a user would."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from containers.container import Container, empty_container
from servers.basecontent import registry_with_base_images
from servers.forking import Forking, forking
from servers.registry import RegistryServer

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a build: exit code, output, and the image."""

    code: int
    stdout: str
    stderr: str
    layout: Path
    host: str
    name: str

    @property
    def config(self) -> Json:
        return self._blob(self.manifest["config"]["digest"])

    @property
    def manifest(self) -> Json:
        index = json.loads((self.layout / "index.json").read_text())
        return self._blob(index["manifests"][0]["digest"])

    @property
    def digest(self) -> str:
        digest: str = json.loads((self.layout / "index.json").read_text())["manifests"][0]["digest"]
        return digest

    @property
    def history(self) -> list[tuple[str, bool]]:
        """(created_by, whether it added a layer) of the whole history, base first."""
        return [(h["created_by"], not h.get("empty_layer", False)) for h in self.config["history"]]

    def _blob(self, digest: str) -> Json:
        content: Json = json.loads((self.layout / "blobs" / "sha256" / digest.partition(":")[2]).read_text())
        return content


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs ``imagewright build`` in a temporary folder."""

    host: str
    folder: Path
    process: Forking

    def context(self, dockerfile: str, files: Mapping[str, str | bytes] = {}) -> Path:
        """A build context; names that end in ``/`` are folders."""
        path = self.folder / "context"
        path.mkdir(exist_ok=True)
        (path / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def build(self, context: Path, *flags: str, env: Mapping[str, str] = {}) -> Built:
        """Build and push; the image is also written as a layout."""
        name = f"{self.host}/test/{self.folder.name.lower()}:1"
        layout = self.folder / f"layout-{len(list(self.folder.glob('layout-*')))}"
        words = [
            "build", f"--context={context}", f"--destination={name}",
            f"--registry-endpoint=docker.io={self.host}", f"--oci-layout-path={layout}",
            f"--work-dir={self.folder / 'work'}", *flags,
        ]  # fmt: skip
        done = self.process.run(words, {**os.environ, **env})
        assert "Traceback" not in done.stderr, done.stderr
        left = list((self.folder / "work").glob("*"))
        assert not left, f"the engine left {left}"
        return Built(done.returncode, done.stdout, done.stderr, layout, self.host, name)

    def image(self, dockerfile: str, files: Mapping[str, str | bytes] = {}, *flags: str) -> Built:
        """Run a build that must succeed."""
        built = self.build(self.context(dockerfile, files), *flags)
        assert built.code == 0, built.stderr
        return built


@pytest.fixture(scope="session")
def base_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with the base images; its address."""
    with registry_with_base_images(tmp_path_factory.mktemp("registry")) as registry:
        yield registry.host


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """One with the base images, whose log has the requests of a module's builds."""
    with registry_with_base_images(tmp_path_factory.mktemp("bases")) as server:
        yield server


@pytest.fixture(scope="session")
def process() -> Iterator[Forking]:
    with forking() as started:
        yield started


@pytest.fixture
def engine(base_registry: str, tmp_path: Path, process: Forking) -> Engine:
    return Engine(base_registry, tmp_path, process)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """A container of the executor image without mounts, for the root sandbox."""
    return empty_container(tmp_path)

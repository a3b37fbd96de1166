"""Builds on bases with tables of contents: what they download of the base, and that they make the same layers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from archives.chunked import Chunked, estargz, zstd_chunked
from archives.tars import Item, directory, make_tar, symlink
from cluster.binaries import binaries
from servers.images import MemoryImage
from servers.registry import RegistryServer, RegistryServerOptions
from servers.registryclient import AMD64, Client

from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat

pytestmark = pytest.mark.registry

TIME = 1_600_000_000.5
BELOW = make_tar(
    directory("etc", uid=0, gid=0),
    Item("etc/passwd", data=b"app:x:7:8::/:/bin/sh\n", uid=0, gid=0),
    Item("etc/group", data=b"app:x:8:\n", uid=0, gid=0),
    directory("usr", mtime=TIME, uid=0, gid=0),
    Item("usr/large", data=os.urandom(1 << 20), uid=0, gid=0),
)
ABOVE = make_tar(directory("srv", mtime=TIME, uid=0, gid=0), directory("srv/deep"), symlink("link", "srv/deep"))


@dataclass(frozen=True)
class Built:
    """``whole``: blobs of the base that were downloaded. ``layer``: the digest of the new one."""

    whole: list[str]
    parts: int
    layer: str


class Builds:
    def __init__(self, registry: RegistryServer, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        (folder / "context").mkdir()
        for name in ("a", "b"):
            (folder / "context" / name).write_text(name)
            os.utime(folder / "context" / name, (TIME, TIME))

    def push(self, tag: str, *layers: Chunked) -> None:
        config = ImageConfig.scratch(AMD64).with_layers([layer.diff_id for layer in layers], [{}] * len(layers)).dump()
        described = Descriptor.of(ImageFormat.OCI.config, config)
        manifest = Manifest.build(ImageFormat.OCI, described, [layer.descriptor for layer in layers])
        blobs = {layer.descriptor.digest: layer.blob for layer in layers} | {described.digest: config}
        Client().push(MemoryImage(manifest, config, blobs), f"{self.registry.host}/base:{tag}")

    def build(self, tag: str, *lines: str, layers: tuple[Chunked, ...], cache: str = "") -> Built:
        (self.folder / "context/Dockerfile").write_text("\n".join([f"FROM {self.registry.host}/base:{tag}", *lines]))
        asked = len(self.registry.log.read_text().splitlines())
        name = f"{self.registry.host}/app:1"
        command = [
            sys.executable, "-m", "imagewright", "build", f"--context={self.folder}/context", f"--destination={name}",
            f"--work-dir={self.folder}", "--build-arg=SOURCE_DATE_EPOCH=1700000000",
        ] + ["--cache", f"--cache-repo={self.registry.host}/{cache}"] * bool(cache)  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        names = {str(layer.descriptor.digest) for layer in layers}
        lines_ = self.registry.log.read_text().splitlines()[asked:]
        got = [match for line in lines_ if (match := re.search(r'"GET \S+/blobs/(\S+) HTTP/1.1" (\d+)', line))]
        image = Client().resolve(name)
        assert [layer.digest for layer in image.manifest.layers[:-1]] == [layer.descriptor.digest for layer in layers]
        whole = [match[1] for match in got if match[1] in names and match[2] == "200"]
        parts = sum(match[1] in names and match[2] == "206" for match in got)
        return Built(whole, parts, str(image.manifest.layers[-1].digest))


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    folder = tmp_path / "builds"
    folder.mkdir()
    with RegistryServer(RegistryServerOptions(tmp_path, binaries() / "registry")) as server:
        yield Builds(server, folder)


@pytest.mark.parametrize("write", [estargz, zstd_chunked])
def test_a_build_that_only_copies_downloads_no_layer(builds: Builds, write: Callable[[bytes], Chunked]) -> None:
    layers = (write(BELOW), write(ABOVE))
    builds.push("table", *layers)
    builds.push("plain", *(replace(layer, annotations={}) for layer in layers))
    copy = "COPY --chown=app:app a b /opt/new/"
    table, plain = (builds.build(tag, copy, layers=layers) for tag in ("table", "plain"))
    assert (table.whole, plain.parts) == ([], 0)
    assert table.parts > 0
    assert len(plain.whole) == 2
    assert table.layer == plain.layer


@pytest.mark.parametrize("write", [estargz, zstd_chunked])
def test_folders_of_the_base_keep_their_exact_time(builds: Builds, write: Callable[[bytes], Chunked]) -> None:
    """A rounded one is read from the layer that has it, and no other layer is read."""
    layers = (write(BELOW), write(ABOVE))
    builds.push("table", *layers)
    builds.push("plain", *(replace(layer, annotations={}) for layer in layers))
    table, plain = (builds.build(tag, "COPY --chown=app a /link/b/c", layers=layers) for tag in ("table", "plain"))
    assert table.whole == ([str(layers[1].descriptor.digest)] if write is estargz else [])
    assert table.layer == plain.layer


def open_to_all(document: dict[str, Any]) -> None:
    document["entries"][0]["mode"] = 0o777


def test_a_table_that_lies_fails_no_build(builds: Builds) -> None:
    """It shows when the step's layer is packed, which has an exact time of the base."""
    layers = (estargz(BELOW), estargz(ABOVE, open_to_all))
    builds.push("table", *layers)
    builds.push("plain", *(replace(layer, annotations={}) for layer in layers))
    copy = "COPY --chown=app b /srv/deep/"
    table, plain = (builds.build(tag, copy, layers=layers) for tag in ("table", "plain"))
    assert table.layer == plain.layer


@pytest.mark.parametrize("step", ["WORKDIR /srv/new", "COPY a /srv/new/"])
def test_a_table_decides_nothing_of_another_image(builds: Builds, step: str) -> None:
    """Nobody has checked which layer a hostile image has below its steps: it can claim the diff IDs of another."""
    good = (zstd_chunked(BELOW), zstd_chunked(ABOVE))
    hostile = (good[0], replace(zstd_chunked(ABOVE, open_to_all), tar=ABOVE))
    bare = tuple(replace(layer, annotations={}) for layer in good)
    for tag, layers in (("good", good), ("hostile", hostile), ("bare", bare)):
        builds.push(tag, *layers)
    wrong = builds.build("hostile", step, layers=hostile, cache="cache")
    right = builds.build("good", step, layers=good)
    assert wrong.layer != right.layer
    assert builds.build("good", step, layers=good, cache="cache").layer == right.layer
    assert builds.build("bare", step, layers=bare, cache="cache").layer == right.layer

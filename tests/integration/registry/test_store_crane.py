"""Files and pushes of ours, read by somebody else's program: crane of go-containerregistry."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archives.tars import tar_of
from servers.images import MemoryImage, memory_image
from servers.registry import RegistryServer
from servers.registryclient import Client

from imagewright.digest import Digest
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.store.archive import write_docker_archive
from imagewright.store.layout import write_layout

pytestmark = pytest.mark.registry


Crane = Callable[..., str]


@pytest.fixture
def crane(programs: Path) -> Crane:
    """Runs crane; it must succeed."""

    def run(*arguments: str) -> str:
        done = subprocess.run([programs / "crane", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def image_of_tars(image_format: ImageFormat) -> MemoryImage:
    """Layers that are what they are called: gzipped tars."""
    tars = [tar_of({name: name.encode()}) for name in ("etc/one", "etc/two")]
    zipped = [gzip.compress(tar, mtime=0) for tar in tars]
    config = ImageConfig.scratch(Platform.parse("linux/amd64")).with_layers(
        [Digest.of(tar) for tar in tars], [{"created_by": "test"}] * 2
    )
    raw = config.dump()
    layers = [Descriptor(image_format.layer("gzip"), Digest.of(data), len(data)) for data in zipped]
    manifest = Manifest.build(image_format, Descriptor(image_format.config, Digest.of(raw), len(raw)), layers)
    return MemoryImage(manifest, raw, {Digest.of(data): data for data in [*zipped, raw]})


@pytest.fixture(params=list(ImageFormat))
def image(request: pytest.FixtureRequest) -> MemoryImage:
    return image_of_tars(request.param)


def test_a_docker_archive(crane: Crane, image: MemoryImage, tmp_path: Path) -> None:
    def header(name: str, size: int) -> bytes:
        return writer.header(Entry(name.encode(), REGULAR, 0o644, 0, 0, size, 0))

    path = str(tmp_path / "image.tar")
    write_docker_archive(path, image.manifest, image.config, [Reference.parse("app:1")], (image.open, header))
    crane("validate", "--tarball", path)


def test_a_layout(crane: Crane, image: MemoryImage, tmp_path: Path, registry: RegistryServer) -> None:
    write_layout(str(tmp_path / "layout"), image.manifest, image.config, image.open, "1")
    name = f"{registry.host}/crane/layout:1"
    crane("push", "--insecure", str(tmp_path / "layout"), name)
    crane("validate", "--insecure", "--remote", name)
    assert crane("digest", "--insecure", name).strip() == str(image.manifest.digest)


def test_a_push(crane: Crane, image: MemoryImage, registry: RegistryServer) -> None:
    name = f"{registry.host}/crane/pushed:1"
    Client().push(image, name)
    crane("validate", "--insecure", "--remote", name)
    assert json.loads(crane("config", "--insecure", name)) == json.loads(image.config)


def test_an_image_of_somebody_elses(crane: Crane, registry: RegistryServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with tarfile.open(tmp_path / "layer.tar", "w") as archive:
        archive.add(tmp_path / "file", "file")
    name = f"{registry.host}/crane/theirs:1"
    crane("append", "--insecure", "-f", str(tmp_path / "layer.tar"), "-t", name)
    client = Client()
    pulled = client.resolve(name)
    assert str(pulled.manifest.digest) == crane("digest", "--insecure", name).strip()
    with client.puller.open_blob(pulled, pulled.manifest.layers[0]) as stream:
        data = b"".join(iter(stream.read, b""))
    assert Digest.of(gzip.decompress(data)) == pulled.config.diff_ids[0]


def test_memory_images_are_no_tars(crane: Crane) -> None:
    """Guards the oracle: crane must be able to say no."""
    with pytest.raises(AssertionError):
        crane("validate", "--tarball", "/dev/null")
    assert memory_image([b"x"]).manifest.layers

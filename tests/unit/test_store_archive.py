"""docker-archive: read back with Python's own tarfile."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from servers.images import MemoryImage, memory_image

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.oci.mediatypes import ImageFormat
from imagewright.reference import Reference
from imagewright.store.archive import write_docker_archive

NAMES = [Reference.parse("app:1"), Reference.parse("registry.test:5000/team/app:2")]


def file_header(name: str, size: int) -> bytes:
    return writer.header(Entry(name.encode(), REGULAR, 0o644, 0, 0, size, 0))


def write(path: Path, image: MemoryImage) -> None:
    write_docker_archive(str(path), image.manifest, image.config, NAMES, (image.open, file_header))


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_the_archive_holds_config_and_layers_by_their_names(tmp_path: Path, image_format: ImageFormat) -> None:
    image = memory_image([b"one" * 1000, b"", b"one" * 1000, b"x" * 512], image_format)
    write(tmp_path / "image.tar", image)
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = archive.getnames()
        contents = {name: (archive.extractfile(name) or pytest.fail(name)).read() for name in names}
    assert len(names) == len(set(names))
    (listed,) = json.loads(contents.pop("manifest.json"))
    assert listed["RepoTags"] == ["app:1", "registry.test:5000/team/app:2"]
    assert contents.pop(listed["Config"]) == image.config
    assert listed["Config"] == f"{Digest.of(image.config).hex}.json"
    assert [contents[name] for name in listed["Layers"]] == [b"one" * 1000, b"", b"one" * 1000, b"x" * 512]
    assert set(contents) == set(listed["Layers"])
    assert list(tmp_path.iterdir()) == [tmp_path / "image.tar"]


def test_the_same_image_gives_the_same_archive(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, memory_image([b"layer"]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_layer_that_changed_leaves_the_old_archive(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"old")
    image = memory_image([b"layer"])
    image.blobs[Digest.of(b"layer")] = b"LAYER"
    with pytest.raises(ImagewrightError, match=str(Digest.of(b"layer"))) as caught:
        write(tmp_path / "image.tar", image)
    assert caught.value.reason is Reason.LAYER_INVALID
    assert (tmp_path / "image.tar").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_is_created(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "image.tar", memory_image([b"layer"]))
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["image.tar"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImagewrightError, match=r"cannot write .*: File exists") as caught:
        write(tmp_path / "file" / "image.tar", memory_image([b"layer"]))
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert caught.value.hint

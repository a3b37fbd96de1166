"""OCI layouts: what is in the folder, byte for byte, and what stays of what was there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from servers.images import MemoryImage, memory_image

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.store.layout import write_layout

IMAGE = memory_image([b"one", b"two", b"one"])


def write(folder: Path, image: MemoryImage = IMAGE, name: str = "") -> None:
    write_layout(str(folder), image.manifest, image.config, image.open, name)


def index(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "index.json").read_bytes())
    return loaded


def entries(folder: Path) -> list[tuple[str, str]]:
    return [
        (entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""), entry["digest"])
        for entry in index(folder)["manifests"]
    ]


def test_a_layout_holds_the_whole_image_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "new" / "layout", name="1.0")
    folder = tmp_path / "new" / "layout"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    expected = {f"blobs/sha256/{digest.hex}": blob for digest, blob in IMAGE.blobs.items()}
    expected[f"blobs/sha256/{IMAGE.manifest.digest.hex}"] = IMAGE.manifest.raw
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads(files.pop("index.json")) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            IMAGE.manifest.descriptor.to_json() | {"annotations": {"org.opencontainers.image.ref.name": "1.0"}}
        ],
    }
    assert files == expected


def test_a_name_is_replaced_and_other_names_stay(tmp_path: Path) -> None:
    other = memory_image([b"other"])
    write(tmp_path, IMAGE, "1.0")
    write(tmp_path, IMAGE, "latest")
    write(tmp_path, other, "latest")
    write(tmp_path, other)
    write(tmp_path, other)
    one, two = str(IMAGE.manifest.digest), str(other.manifest.digest)
    assert entries(tmp_path) == [("1.0", one), ("latest", two), ("", two)]


def test_blobs_that_are_there_are_not_asked_for_and_damaged_ones_are_mended(tmp_path: Path) -> None:
    write(tmp_path)
    damaged = tmp_path / "blobs" / "sha256" / Digest.of(b"two").hex
    damaged.write_bytes(b"TWO")
    image = memory_image([b"one", b"two", b"three"])
    write(tmp_path, image)
    assert image.opened == [Digest.of(b"two"), Digest.of(b"three")]
    assert damaged.read_bytes() == b"two"


@pytest.mark.parametrize("content", [b"TWO", b"tw", b"two!"])
def test_a_blob_that_changed_is_not_written(tmp_path: Path, content: bytes) -> None:
    image = memory_image([b"two"])
    image.blobs[Digest.of(b"two")] = content
    with pytest.raises(ImagewrightError, match="differs from its descriptor, of 3 bytes") as caught:
        write(tmp_path, image)
    assert caught.value.reason is Reason.LAYER_INVALID
    assert not (tmp_path / "index.json").exists()
    assert list((tmp_path / "blobs" / "sha256").iterdir()) == []


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"manifests": 7}', "[" * 100_000])
def test_a_folder_that_is_another_thing_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(ImagewrightError, match="cannot read the OCI index") as caught:
        write(tmp_path)
    assert caught.value.reason is Reason.OUTPUT_FAILED
    assert caught.value.hint
    assert (tmp_path / "index.json").read_text() == content


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImagewrightError, match="cannot write the OCI layout") as caught:
        write(tmp_path / "file")
    assert caught.value.reason is Reason.OUTPUT_FAILED


def test_several_that_add_to_one_layout_lose_nothing(tmp_path: Path) -> None:
    """As builds that share a cache do, each in a process of its own."""
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            try:
                for each in range(5):
                    write(tmp_path / "shared", memory_image([f"{number}-{each}".encode()]), f"{number}-{each}")
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert {name for name, _ in entries(tmp_path / "shared")} == {f"{n}-{e}" for n in range(8) for e in range(5)}

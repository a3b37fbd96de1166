"""The folder of blobs: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagewright.digest import Digest
from imagewright.store.blobs import BlobStore


def test_a_blob_is_there_when_it_is_whole(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    digest = Digest.of(b"one two")
    with store.writer() as writer:
        writer.write(b"one ")
        assert not store.has(digest)
        writer.write(b"two")
        writer.commit(digest)
        assert store.has(digest)
    with store.open(digest) as file:
        assert file.read() == b"one two"
    assert os.listdir(store.folder) == [digest.hex]


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    with pytest.raises(TypeError), store.writer() as writer:
        writer.write("no bytes")  # type: ignore[arg-type]
    with store.writer() as writer:
        writer.write(b"half")
    assert os.listdir(tmp_path) == []


def test_the_same_blob_twice(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    for _ in range(2):
        with store.writer() as writer:
            writer.write(b"same")
            writer.commit(Digest.of(b"same"))
    assert os.listdir(tmp_path) == [Digest.of(b"same").hex]

"""The cache's indexes of layers: what stores may answer, what is written, and that nothing ends a build."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagewright.cache.artifact import ARTIFACT_TYPE, MAX_INDEX_BYTES, index_artifact, index_key, read_artifact
from imagewright.cache.indexes import IndexCache
from imagewright.cache.sources import EntryStore, Sources
from imagewright.cache.target import Target
from imagewright.digest import Digest
from imagewright.engine.caching.layercache import LayoutStore
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.manifest import Manifest
from imagewright.reference import Reference
from imagewright.streams import Readable

LAYER = Digest.of(b"layer")
INDEX = b"index of it"
LARGE = os.urandom((1 << 20) + 1)


@dataclass
class Opened:
    """A cache of one build, and what it warned of."""

    cache: IndexCache
    warnings: list[str]


def opened(*sources: EntryStore, target: EntryStore | None = None) -> Opened:
    warnings: list[str] = []
    cache = IndexCache(
        Sources(sources, 0, warnings.append), Target(target, warnings.append) if target is not None else None
    )
    return Opened(cache, warnings)


def stored(store: EntryStore, index: bytes = INDEX, layer: Digest = LAYER) -> list[str]:
    built = opened(store, target=store)
    built.cache.keep(layer, index)
    built.cache.finish()
    built.cache.close()
    return built.warnings


@pytest.mark.parametrize("index", [INDEX, LARGE], ids=["small", "large"])
def test_what_was_stored_is_found(tmp_path: Path, index: bytes) -> None:
    store = LayoutStore(str(tmp_path))
    assert not stored(store, index)
    built = opened(LayoutStore(f"{tmp_path}/none"), store)
    assert built.cache.find(LAYER) == index
    assert built.cache.find(Digest.of(b"another")) == b""
    assert not built.warnings


def test_it_is_an_artifact_that_names_its_layer(tmp_path: Path) -> None:
    """Its blobs are referred to by its manifest, so that a registry's garbage collection keeps them with it."""
    stored(LayoutStore(str(tmp_path)), LARGE)
    [entry] = json.loads((tmp_path / "index.json").read_text())["manifests"]
    blobs = tmp_path / "blobs/sha256"
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    assert manifest["mediaType"] == entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == ARTIFACT_TYPE
    assert manifest["annotations"] == {"dev.imagewright.index.diff-id": str(LAYER)}
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    for each in (manifest["config"], *manifest["layers"]):
        assert (blobs / each["digest"].removeprefix("sha256:")).stat().st_size == each["size"]


@dataclass
class Scripted:
    """A store that answers as it is told."""

    manifest: Manifest | None = None
    blob: Callable[[], Readable] = lambda: io.BytesIO(b"")
    error: ImagewrightError | None = None
    put_error: ImagewrightError | None = None
    name: str = "scripted"
    found_at: Reference | None = None
    asked: list[str] = field(default_factory=list)

    def has(self, key: str) -> bool:
        self.asked.append("has")
        return self.manifest is not None

    def get(self, key: str) -> Manifest | None:
        self.asked.append("get")
        if self.error is not None:
            raise self.error
        return self.manifest

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        self.asked.append("open")
        return nullcontext(self.blob())

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None:
        self.asked.append("put")
        if self.put_error is not None:
            raise self.put_error
        self.manifest = manifest


class Endless:
    """Counts what is read of it."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        assert 0 < size <= 1 << 20
        self.count += size
        return bytes(size)


def changed(index: bytes = INDEX, **layer: object) -> Manifest:
    """The manifest of an index, with other values in the descriptor of its layer."""
    value = json.loads(index_artifact(LAYER, index).raw)
    value["layers"][0] = {key: v for key, v in (value["layers"][0] | layer).items() if v is not None}
    return Manifest.parse(json.dumps(value).encode())


FOREIGN = {
    "of another layer": index_artifact(Digest.of(b"another"), INDEX),
    "of another type": changed(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"),
    "another content": changed(data=base64.b64encode(b"INDEX of it").decode()),
    "no base64": changed(data="?"),
    "no text": changed(data=[1]),
    "of another size": changed(size=10),
    "larger than allowed": changed(size=MAX_INDEX_BYTES + 1, data=None),
    "a blob that is shorter": changed(data=None),
}


@pytest.mark.parametrize("manifest", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_the_index_is_a_miss_and_replaced(manifest: Manifest) -> None:
    store = Scripted(manifest)
    built = opened(store, target=store)
    assert built.cache.find(LAYER) == b""
    assert built.cache.find(LAYER) == b""
    assert len(built.warnings) == 1
    assert built.warnings[0].startswith("ignoring the index of a layer of the cache scripted: ")
    built.cache.keep(LAYER, INDEX)
    built.cache.finish()
    assert "has" not in store.asked
    assert opened(store).cache.find(LAYER) == INDEX


def test_what_is_too_large_is_not_read() -> None:
    store = Scripted(changed(size=MAX_INDEX_BYTES + 1, data=None))
    assert opened(store).cache.find(LAYER) == b""
    assert store.asked == ["get"]


def test_a_blob_without_an_end_is_left() -> None:
    endless = Endless()
    built = opened(Scripted(changed(LARGE), lambda: endless))
    assert built.cache.find(LAYER) == b""
    assert endless.count == len(LARGE) + 1
    assert "another digest or size" in built.warnings[0]


def test_an_index_that_cannot_be_applied_is_replaced() -> None:
    store = Scripted(index_artifact(LAYER, b"nonsense"))
    built = opened(store, target=store)
    assert built.cache.find(LAYER) == b"nonsense"
    built.cache.invalidate(LAYER, "it is nonsense")
    assert built.cache.find(LAYER) == b""
    assert built.warnings == ["ignoring the index of a layer of the cache scripted: it is nonsense"]
    built.cache.keep(LAYER, INDEX)
    built.cache.finish()
    assert opened(store).cache.find(LAYER) == INDEX


def test_one_that_is_there_is_not_stored_again() -> None:
    store = Scripted(index_artifact(LAYER, INDEX))
    stored(store)
    assert store.asked == ["has"]
    built = opened(store, target=store)
    built.cache.find(LAYER)
    built.cache.keep(LAYER, INDEX)
    built.cache.finish()
    assert store.asked == ["has", "get"]


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "manifest", "index"])
def test_a_fifo_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """A RUN of another build may have put it there, where it can write to the folder."""
    store = LayoutStore(str(tmp_path))
    stored(store, LARGE)
    manifest = index_artifact(LAYER, LARGE)
    blobs = {"manifest": manifest.digest, "index": manifest.layers[0].digest}
    victim = tmp_path / "blobs/sha256" / blobs[name].hex if name in blobs else tmp_path / name
    victim.unlink()
    os.mkfifo(victim)
    built = opened(store, target=store)
    assert built.cache.find(LAYER) == (LARGE if name == "oci-layout" else b"")
    assert len(built.warnings) == (name != "oci-layout")
    again = opened(target=store)
    again.cache.keep(Digest.of(b"another"), LARGE)
    again.cache.finish()
    assert len(again.warnings) == (name != "manifest")


def test_two_stages_with_the_same_layer_store_its_index_once() -> None:
    store = Scripted()
    built = opened(target=store)
    for _ in range(2):
        built.cache.keep(LAYER, INDEX)
    built.cache.finish()
    assert store.asked == ["has", "put"]


def test_what_fails_is_reported_once_and_not_after_the_end() -> None:
    store, warnings = Scripted(), list[str]()

    def failing(_: EntryStore) -> None:
        raise ImagewrightError("full", reason=Reason.DISK_FULL)

    target = Target(store, warnings.append)
    assert target.attempt(failing, "one", "more")
    assert warnings == ["cannot store more in the cache scripted: full"]
    assert target.attempt(failing, "one", "more") is None, "it is not tried again"
    assert target.submit(lambda: None) == []

    ended = Target(store, warnings.append)
    assert len(ended.submit(lambda: None)) == 1
    ended.close()
    ended.close()
    assert ended.submit(lambda: None) == []
    assert ended.attempt(failing, "one", "more")
    assert len(warnings) == 1


def test_the_end_of_a_build_ends_what_is_stored() -> None:
    """Nothing of what waits is begun."""
    begun, go_on, done = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        begun.set()
        go_on.wait()

    target = Target(Scripted(), lambda _: None)
    target.submit(first)
    [waiting] = target.submit(lambda: done.append("begun"))
    begun.wait()
    threading.Timer(0.01, go_on.set).start()
    target.close()
    assert waiting.cancelled()
    assert not done


def test_without_a_target_nothing_is_stored() -> None:
    store = Scripted()
    built = opened(store)
    assert not built.cache.stores
    built.cache.keep(LAYER, INDEX)
    built.cache.finish()
    assert store.asked == []


def test_one_that_was_not_made_is_not_stored() -> None:
    """It would have been too large."""
    store = Scripted()
    assert not stored(store, b"")
    assert not store.asked


def test_one_that_is_too_large_is_not_stored() -> None:
    store = Scripted()
    stored(store, bytes(MAX_INDEX_BYTES + 1))
    assert store.asked == []


@pytest.mark.parametrize("reason", [Reason.REGISTRY_UNAVAILABLE, Reason.REGISTRY_AUTH_FAILED, Reason.NOT_SUPPORTED])
def test_a_store_that_cannot_be_read_is_asked_once(reason: Reason) -> None:
    store = Scripted(error=ImagewrightError("down", reason=reason))
    built = opened(store)
    assert [built.cache.find(Digest.of(b"%d" % number)) for number in range(3)] == [b""] * 3
    assert store.asked == ["get"]
    assert built.warnings == ["cannot read the cache scripted, executing all steps: down"]


@pytest.mark.parametrize("reason", [Reason.REGISTRY_UNAVAILABLE, Reason.DISK_FULL, Reason.PUSH_FAILED])
def test_a_store_that_cannot_be_written_is_tried_once(reason: Reason) -> None:
    store = Scripted(put_error=ImagewrightError("refused", reason=reason))
    built = opened(store, target=store)
    for number in range(3):
        built.cache.keep(Digest.of(b"%d" % number), INDEX)
    built.cache.finish()
    assert store.asked.count("put") == 1
    assert len(built.warnings) == 1
    assert "in the cache scripted: refused" in built.warnings[0]
    assert not built.cache.stores


def test_a_registry_that_refuses_artifacts_still_gets_layers() -> None:
    store = Scripted(put_error=ImagewrightError("refused", reason=Reason.PUSH_FAILED))
    target = Target(store, lambda _: None)
    cache = IndexCache(Sources([store], 0, lambda _: None), target)
    cache.keep(LAYER, INDEX)
    cache.finish()
    assert target.writable
    store.put_error = ImagewrightError("full", reason=Reason.DISK_FULL)
    cache = IndexCache(Sources([store], 0, lambda _: None), target)
    cache.keep(LAYER, INDEX)
    cache.finish()
    assert not target.writable


def test_a_build_that_is_cancelled_says_so() -> None:
    built = opened(Scripted(error=ImagewrightError("stopped", reason=Reason.CANCELLED)))
    with pytest.raises(ImagewrightError, match="stopped"):
        built.cache.find(LAYER)


def test_builds_store_at_once(tmp_path: Path) -> None:
    """The same indexes and others, each build with stores of its own."""
    layers = [Digest.of(b"%d" % number) for number in range(6)]
    warnings: list[str] = []

    def build() -> None:
        store = LayoutStore(str(tmp_path))
        for layer in layers:
            warnings.extend(stored(store, str(layer).encode(), layer))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache = opened(LayoutStore(str(tmp_path))).cache
    assert [cache.find(layer) for layer in layers] == [str(layer).encode() for layer in layers]
    assert not warnings


KILLED = """
import sys
from test_cache_indexes import LAYER, LARGE, LayoutStore, index_artifact, index_key
class Slow:
    def read(self, size=-1):
        print(flush=True)
        sys.stdin.read()
def slow(descriptor):
    from contextlib import nullcontext
    return nullcontext(Slow())
LayoutStore(sys.argv[1]).put(index_key(LAYER), index_artifact(LAYER, LARGE), b"{}", slow)
"""


def test_a_build_that_is_killed_leaves_nothing_half_stored(tmp_path: Path) -> None:
    folder = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "it has not begun"
        process.send_signal(signal.SIGKILL)
    store = LayoutStore(str(tmp_path))
    built = opened(store)
    assert built.cache.find(LAYER) == b""
    assert not built.warnings
    assert not stored(store, LARGE)
    assert opened(store).cache.find(LAYER) == LARGE


def test_the_same_index_is_the_same_manifest() -> None:
    assert index_artifact(LAYER, INDEX).raw == index_artifact(LAYER, INDEX).raw
    assert read_artifact(index_artifact(LAYER, INDEX), LAYER)[1] == INDEX
    assert read_artifact(index_artifact(LAYER, LARGE), LAYER)[1] is None
    assert index_key(LAYER) != index_key(Digest.of(b"another"))

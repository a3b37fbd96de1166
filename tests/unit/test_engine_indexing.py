"""Virtual roots of layers whose indexes a cache has, right or wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from archives.tars import Item, hardlink, make_tar
from servers.registryclient import Client

from imagewright.cache.indexes import IndexCache
from imagewright.cache.sources import Sources
from imagewright.cache.target import Target
from imagewright.engine.caching.layercache import LayoutStore
from imagewright.engine.layers import Layer, LayerOrigin
from imagewright.engine.pull.images import BrokenEntry, Images, ImageSources
from imagewright.engine.pull.indexing import LayerIndexes, VirtualFiles
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError
from imagewright.fs.layer.index import make_index
from imagewright.oci.descriptor import Descriptor
from imagewright.progress.plain import Level, PlainReporter
from imagewright.store.blobs import BlobStore
from imagewright.workers import Patience

TARS = [
    make_tar(Item("a", mode=0o600)),
    make_tar(Item("b", mode=0o640)),
    make_tar(Item("../bad")),
    make_tar(hardlink("c", "a")),
]


@dataclass
class Registry:
    """``read`` counts how often each layer was opened."""

    read: list[int] = field(default_factory=lambda: [0] * len(TARS))

    def layer(self, number: int, cache_key: str = "") -> Layer:
        @contextmanager
        def opened(_: Descriptor) -> Iterator[io.BytesIO]:
            self.read[number] += 1
            yield io.BytesIO(TARS[number])

        descriptor = Descriptor.of("application/vnd.oci.image.layer.v1.tar", TARS[number])
        return Layer(descriptor, descriptor.digest, LayerOrigin(opened, None, cache_key))


@pytest.fixture
def registry() -> Registry:
    return Registry()


class Build:
    """What a build knows of indexes, with a cache in a folder."""

    def __init__(self, folder: Path, *, name: str) -> None:
        work = folder / name
        work.mkdir()
        workspace = Workspace(str(work))
        sources = ImageSources(Client().puller, Layouts([]), WarmCache(""))
        images = Images(
            sources, workspace, BlobStore(workspace.blobs), PlainReporter(io.StringIO(), Level.ERROR), Patience()
        )
        self.warnings: list[str] = []
        store = LayoutStore(str(folder / "cache"))
        self.cache = IndexCache(Sources([store], 0, self.warnings.append), Target(store, self.warnings.append))
        self.indexes = LayerIndexes(images, lambda _: False, self.cache)

    def files(self, *layers: Layer) -> VirtualFiles:
        files = VirtualFiles(self.indexes)
        files.update(layers)
        return files

    def index(self, layer: Layer) -> bytes:
        with self.indexes.of([layer]) as indexes:
            return indexes[0].whole()

    def ended(self) -> Build:
        self.cache.finish()
        self.cache.close()
        return self


def store(folder: Path, layer: Layer, tar: bytes) -> None:
    """Have the cache say that a layer has the entries of another archive."""
    build = Build(folder, name="other")
    build.cache.keep(layer.diff_id, make_index(io.BytesIO(tar), layer.diff_id))
    build.ended()


def test_a_layer_is_read_once_in_all_builds(tmp_path: Path, registry: Registry) -> None:
    layers = [registry.layer(0), registry.layer(1)]
    for name in ("first", "second"):
        build = Build(tmp_path, name=name)
        for _ in range(2):
            assert build.files(*layers).root.mode_of(b"b") & 0o777 == 0o640
        build.ended()
    assert registry.read == [1, 1, 0, 0]


def test_the_root_is_begun_again_without_a_wrong_index(tmp_path: Path, registry: Registry) -> None:
    layers = [registry.layer(0), registry.layer(1)]
    store(tmp_path, layers[1], make_tar(Item("a", mode=0o777), Item("x"), Item("../bad")))
    build = Build(tmp_path, name="build")
    root = build.files(*layers).root
    assert [root.mode_of(name) & 0o777 for name in (b"a", b"b")] == [0o600, 0o640]
    with pytest.raises(FileNotFoundError):
        root.mode_of(b"x")
    assert registry.read == [1, 1, 0, 0]
    assert len(build.warnings) == 1


def test_a_wrong_index_below_a_good_one(tmp_path: Path, registry: Registry) -> None:
    """It lacks what the layer above it has a hard link to."""
    layers = [registry.layer(0), registry.layer(1), registry.layer(3)]
    store(tmp_path, layers[0], make_tar(Item("x")))
    root = Build(tmp_path, name="build").files(*layers).root
    assert root.mode_of(b"c") & 0o777 == 0o600
    with pytest.raises(FileNotFoundError):
        root.mode_of(b"x")
    assert registry.read == [1, 1, 0, 1]


def test_stages_that_have_the_same_wrong_index(tmp_path: Path, registry: Registry) -> None:
    """One of them finds out first; the other has begun with it already."""
    layer = registry.layer(0)
    store(tmp_path, layer, TARS[2])
    build = Build(tmp_path, name="build")
    wrong = build.index(layer)
    error = ImagewrightError("it is bad")
    assert build.indexes.invalidate(layer, wrong, error)
    right = build.index(layer)
    assert build.indexes.invalidate(layer, wrong, error)
    assert build.index(layer) is right
    assert not build.indexes.invalidate(layer, right, error)
    assert len(build.warnings) == 1


def test_a_bad_layer_fails_as_without_a_cache(tmp_path: Path, registry: Registry) -> None:
    for name in ("first", "second"):
        build = Build(tmp_path, name=name)
        with pytest.raises(ImagewrightError, match="outside the root file system"):
            build.files(registry.layer(2))
        build.ended()


def test_a_wrong_index_blames_no_entry(tmp_path: Path, registry: Registry) -> None:
    """The layer of a cached step is as it was; only one that is bad itself makes the build start over."""
    good, bad = registry.layer(0, "key"), registry.layer(2, "key")
    store(tmp_path, good, TARS[2])
    assert Build(tmp_path, name="one").files(good).root.mode_of(b"a") & 0o777 == 0o600
    with pytest.raises(BrokenEntry):
        Build(tmp_path, name="two").files(bad)

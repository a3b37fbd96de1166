"""Virtual roots of layers that have a table of contents: the layer is read only where the table cannot tell."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from archives.chunked import Chunked, estargz, zstd_chunked
from archives.tars import Item, directory, hardlink, make_tar
from servers.registryclient import Client

from imagewright.cache.indexes import IndexCache
from imagewright.cache.sources import Sources
from imagewright.cache.target import Target
from imagewright.engine.caching.layercache import LayoutStore
from imagewright.engine.layers import Layer, LayerOrigin
from imagewright.engine.pull.images import Images, ImageSources
from imagewright.engine.pull.indexing import LayerIndexes, Reading, VirtualFiles
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.fs.layer import chunked
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.virtual import VirtualTarget
from imagewright.oci.descriptor import Descriptor
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.store.blobs import BlobStore
from imagewright.workers import Patience

TIME = 1_600_000_000
TAR = make_tar(
    directory("opt", mtime=TIME + 0.25),
    Item("opt/a", data=b"first", mtime=TIME + 0.25),
    Item("opt/b", data=b"later", mtime=TIME + 0.5),
)
ABOVE = make_tar(Item("c", mode=0o640))


class Build:
    """A build, with a cache in a folder if it is told so. ``whole``, ``parts``: what was read of which layer."""

    def __init__(self, folder: Path, *, cached: bool = False, sent: bool = False) -> None:
        work = folder / f"work{len(list(folder.iterdir()))}"
        work.mkdir()
        workspace = Workspace(str(work))
        sources = ImageSources(Client().puller, Layouts([]), WarmCache(""))
        self.log = io.StringIO()
        self.images = images = Images(
            sources, workspace, BlobStore(workspace.blobs), PlainReporter(self.log, Level.WARN), Patience()
        )
        store = LayoutStore(str(folder / "cache"))
        self.cache = IndexCache(Sources([store], 0, print), Target(store, print)) if cached else None
        self.indexes = LayerIndexes(images, lambda _: sent, self.cache)
        self.whole: list[bytes] = []
        self.parts: list[bytes] = []
        self.failure: ImagewrightError | None = None

    def layer(self, stored: Chunked) -> Layer:
        @contextmanager
        def opened(_: Descriptor) -> Iterator[io.BytesIO]:
            self.whole.append(stored.blob)
            yield io.BytesIO(stored.blob)

        def read_range(_: Descriptor, offset: int, length: int) -> bytes:
            self.parts.append(stored.blob)
            if self.failure is not None:
                raise self.failure
            return stored.read(offset, length)

        return Layer(stored.descriptor, stored.diff_id, LayerOrigin(opened, None, read_range=read_range))

    def files(self, *layers: Chunked, reading: Reading | None = None) -> VirtualFiles:
        files = VirtualFiles(self.indexes, reading) if reading else VirtualFiles(self.indexes)
        files.update([self.layer(each) for each in layers])
        return files

    def ended(self) -> None:
        assert self.cache is not None
        self.cache.finish()
        self.cache.close()


def packed_time(files: VirtualFiles, path: bytes) -> int:
    found = VirtualTarget(files.root).packable(path)
    assert found is not None
    return found.entry.mtime_ns


@pytest.mark.parametrize("write", [estargz, zstd_chunked])
def test_no_layer_is_read(tmp_path: Path, write: Callable[[bytes], Chunked]) -> None:
    build = Build(tmp_path)
    root = build.files(write(TAR), write(ABOVE)).root
    assert root.mode_of(b"c") & 0o777 == 0o640
    assert not build.whole
    asked = len(build.parts)
    build.files(write(TAR))  # another stage
    assert len(build.parts) == asked > 0
    assert not build.log.getvalue()


def test_a_rounded_time_is_read_from_its_layer(tmp_path: Path) -> None:
    build = Build(tmp_path)
    below, above = estargz(TAR), estargz(ABOVE)
    files = build.files(below, above)
    assert packed_time(files, b"opt") == TIME * 1_000_000_000 + 250_000_000
    assert packed_time(files, b"opt") == TIME * 1_000_000_000 + 250_000_000
    again = build.files(below)
    assert packed_time(again, b"opt") == TIME * 1_000_000_000 + 250_000_000
    assert build.whole == [below.blob]


def test_exact_times_need_no_layer(tmp_path: Path) -> None:
    build = Build(tmp_path)
    assert packed_time(build.files(zstd_chunked(TAR)), b"opt") == TIME * 1_000_000_000 + 250_000_000
    assert not build.whole
    assert packed_time(build.files(zstd_chunked(TAR, rounded=True)), b"opt") == TIME * 1_000_000_000 + 250_000_000
    assert len(build.whole) == 1


def overwritten(files: VirtualFiles, mtime_ns: int, mode: int = 0o644, data: bytes = b"first") -> bool:
    """Whether a file of the base is the same after it was overwritten."""
    target = VirtualTarget(files.root)
    directory_ = target.find(b"opt")
    assert directory_ is not None
    before = target.state(directory_, b"opt/a")
    node = directory_.children[b"a"]
    node.mtime_ns, node.mode, node.size = mtime_ns, 0o100000 | mode, len(data)
    return before.equals(directory_, b"opt/a")


@pytest.mark.parametrize(
    ("mtime_ns", "mode", "data", "same", "read"),
    [
        (TIME * 1_000_000_000 + 250_000_000, 0o644, b"first", True, 2),  # for its time, and for its data
        (TIME * 1_000_000_000, 0o644, b"first", False, 1),
        (TIME * 1_000_000_000 + 250_000_000, 0o600, b"first", False, 0),
        (TIME * 1_000_000_000 + 250_000_000, 0o644, b"longer", False, 0),
    ],
)
def test_an_overwritten_file(tmp_path: Path, mtime_ns: int, mode: int, data: bytes, same: bool, read: int) -> None:
    build = Build(tmp_path)
    assert overwritten(build.files(estargz(TAR)), mtime_ns, mode, data) is same
    assert len(build.whole) == read


def lying(document: dict[str, Any]) -> None:
    document["entries"][1]["mode"] = 0o777


def moved(document: dict[str, Any]) -> None:
    """The entries in another order, so that their numbers are those of others."""
    document["entries"][1:] = reversed(document["entries"][1:])


def later(document: dict[str, Any]) -> None:
    document["entries"][0]["modtime"] = "2030-01-01T00:00:00Z"


@pytest.mark.parametrize("change", [lying, moved, later])
@pytest.mark.parametrize("write", [estargz, lambda tar, change: zstd_chunked(tar, change, rounded=True)])
def test_a_table_that_says_something_else_than_its_layer(
    tmp_path: Path, write: Callable[..., Chunked], change: Callable[[dict[str, Any]], None]
) -> None:
    """It is found out where the layer is read anyway: the stage goes on on disk, and others use the layer."""
    build = Build(tmp_path)
    files = build.files(write(TAR, change))
    with pytest.raises(NotVirtualError):
        packed_time(files, b"opt")
    assert "something else than the layer" in build.log.getvalue()
    assert build.files(write(TAR, change)).root.mode_of(b"opt/a") & 0o777 == 0o644
    assert len(build.whole) == 1


def test_data_are_not_compared_by_numbers_of_a_lie(tmp_path: Path) -> None:
    build = Build(tmp_path)
    files = build.files(zstd_chunked(TAR, moved))
    with pytest.raises(NotVirtualError):
        overwritten(files, TIME * 1_000_000_000 + 250_000_000, 0o644)


def test_a_table_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    build = Build(tmp_path)
    broken = estargz(TAR, lambda document: document.update(version=7))
    assert build.files(broken).root.mode_of(b"opt/a") & 0o777 == 0o644
    assert build.whole == [broken.blob]
    assert "cannot use the table of contents" in build.log.getvalue()


def test_a_table_that_cannot_be_applied(tmp_path: Path) -> None:
    """It, or one below it, is replaced by the layer."""
    build = Build(tmp_path)
    outside = estargz(TAR, lambda document: document["entries"][1].update(name="../a"))
    assert build.files(estargz(ABOVE), outside).root.mode_of(b"opt/a") & 0o777 == 0o644
    assert build.whole == [outside.blob]
    without = estargz(TAR, lambda document: document["entries"].pop(1))
    linked = estargz(make_tar(hardlink("link", "opt/a")))
    assert build.files(without, linked).root.mode_of(b"link") & 0o777 == 0o644
    assert build.log.getvalue().count("cannot use the table of contents") == 3


def test_a_bad_layer_fails_as_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(ImagewrightError, match="outside the root file system"):
        Build(tmp_path).files(estargz(make_tar(Item("../bad"))))


def test_a_registry_without_ranges(tmp_path: Path) -> None:
    build = Build(tmp_path)
    build.failure = RegistryError("no ranges", reason=Reason.REGISTRY_PROTOCOL_ERROR)
    assert build.files(estargz(TAR)).root.mode_of(b"opt/a") & 0o777 == 0o644
    build.files(estargz(TAR))
    assert (len(build.parts), len(build.whole)) == (1, 1)
    assert not build.log.getvalue()


def test_a_cancelled_build_is_not_continued(tmp_path: Path) -> None:
    build = Build(tmp_path)
    build.failure = ImagewrightError("cancelled", reason=Reason.CANCELLED)
    with pytest.raises(ImagewrightError, match="cancelled"):
        build.files(estargz(TAR))
    assert not build.whole


def test_what_is_read_anyway_needs_no_table(tmp_path: Path) -> None:
    for build, reading in (
        (Build(tmp_path, sent=True), None),
        (Build(tmp_path), Reading(keep=True)),
        (Build(tmp_path), Reading(capture=lambda _: None)),
    ):
        layer = estargz(TAR)
        build.files(layer, reading=reading)
        assert (build.parts, build.whole) == ([], [layer.blob])


def test_a_layer_on_this_machine_needs_no_table(tmp_path: Path) -> None:
    build = Build(tmp_path)
    layer = estargz(TAR)
    build.files(layer, reading=Reading(keep=True))
    build.indexes = LayerIndexes(build.images, lambda _: False, None)
    build.files(layer)
    assert (build.parts, build.whole) == ([], [layer.blob])


def test_copies_from_an_image_get_the_layers_own_index(tmp_path: Path) -> None:
    build = Build(tmp_path)
    layer = estargz(TAR, lying)
    assert build.files(layer).root.mode_of(b"opt/a") & 0o777 == 0o777
    assert build.files(layer, reading=Reading(capture=lambda _: None)).root.mode_of(b"opt/a") & 0o777 == 0o644
    assert build.whole == [layer.blob]


def test_a_table_is_believed_of_its_own_blob_alone(tmp_path: Path) -> None:
    """The diff ID is what an image says: a hostile one could tell wrong things of the layer of another."""
    hostile, good = estargz(TAR, lying), estargz(TAR, lambda _: None)
    for other in (
        dataclasses.replace(zstd_chunked(TAR, lying), tar=good.tar),
        dataclasses.replace(hostile, tar=good.tar),
        dataclasses.replace(good, annotations=hostile.annotations),
    ):
        build = Build(tmp_path, cached=True)
        for first in (other, good):
            files = build.files(first)
        assert files.root.mode_of(b"opt/a") & 0o777 == 0o644
        build.ended()
    build = Build(tmp_path, cached=True)
    assert build.files(good).root.mode_of(b"opt/a") & 0o777 == 0o644


def test_a_cache_gets_the_layers_own_index(tmp_path: Path) -> None:
    build = Build(tmp_path, cached=True)
    files = build.files(estargz(TAR))
    build.ended()
    assert not list(tmp_path.glob("cache/*"))
    build = Build(tmp_path, cached=True)
    files = build.files(estargz(TAR))
    packed_time(files, b"opt")
    build.ended()
    build = Build(tmp_path, cached=True)
    assert packed_time(build.files(estargz(TAR)), b"opt") == TIME * 1_000_000_000 + 250_000_000
    assert not build.whole
    assert not build.parts


@pytest.mark.parametrize("order", [1, -1])
def test_one_layer_that_is_stored_in_two_ways(tmp_path: Path, order: int) -> None:
    """An image may have the same layer twice, with a table and without, or with two."""
    table, plain = zstd_chunked(TAR), dataclasses.replace(zstd_chunked(TAR, level=9), annotations={})
    assert table.blob != plain.blob
    for other in (plain, zstd_chunked(TAR, rounded=True)):
        build = Build(tmp_path)
        files = build.files(*(table, other)[::order])
        assert build.whole == ([plain.blob] if other is plain else [])
        assert files.root.mode_of(b"opt/a") & 0o777 == 0o644
        assert packed_time(files, b"opt") == TIME * 1_000_000_000 + 250_000_000


def longer(document: dict[str, Any]) -> None:
    document["entries"] += [{**document["entries"][0], "name": f"more{number}/"} for number in range(9)]


@pytest.mark.parametrize("path", [b"opt", b"more8"])
def test_two_tables_for_one_layer(tmp_path: Path, path: bytes) -> None:
    """What the one says is not taken for what the other says."""
    files = Build(tmp_path).files(zstd_chunked(TAR, rounded=True), zstd_chunked(TAR, longer, rounded=True))
    with pytest.raises(NotVirtualError):
        packed_time(files, path)


def test_data_of_two_tables_for_one_layer(tmp_path: Path) -> None:
    files = Build(tmp_path).files(zstd_chunked(TAR), zstd_chunked(TAR, moved))
    with pytest.raises(NotVirtualError):
        overwritten(files, TIME * 1_000_000_000 + 250_000_000)


def test_a_cache_has_no_indexes_of_tables(tmp_path: Path) -> None:
    """One that says so has no table to be compared with."""
    layer = estargz(TAR)
    build = Build(tmp_path, cached=True)
    assert build.cache is not None
    build.cache.keep(layer.diff_id, chunked.index_of(layer.descriptor, layer.diff_id, layer.read))
    build.ended()
    with pytest.raises(NotVirtualError):
        packed_time(Build(tmp_path, cached=True).files(layer), b"opt")

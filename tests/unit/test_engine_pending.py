"""Layers of virtual roots: applied while they are read, and used only once they are verified."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archives.tars import Item, directory, hardlink, make_tar
from cluster.processes import eventually
from servers.registryclient import Client

from imagewright.digest import Digest
from imagewright.engine.layers import Layer, LayerOrigin
from imagewright.engine.pull.images import DOWNLOADS_AT_ONCE, Images, ImageSources
from imagewright.engine.pull.indexing import LayerIndexes, VirtualFiles
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.workspace import Workspace
from imagewright.errors import FileSystemError, ImagewrightError, RegistryError
from imagewright.fs.targets.model import NotVirtualError
from imagewright.oci.descriptor import Descriptor
from imagewright.progress.plain import Level, PlainReporter
from imagewright.store.blobs import BlobStore
from imagewright.streams import Readable
from imagewright.workers import Patience

BLOCK = 512
_PIECE = 1 << 16


class _Pieces:
    """The pieces of an archive. ``wait`` is called before the last one is returned."""

    def __init__(self, tar: bytes, wait: Callable[[], object]) -> None:
        self._stream, self._left = io.BytesIO(tar), len(tar)
        self._wait = wait

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(min(size, _PIECE, max(self._left - BLOCK, BLOCK)))
        self._left -= len(data)
        if data and not self._left:
            self._wait()
        return data


def layer(tar: bytes, opened: Callable[[], Readable] | None = None, diff_id: Digest | None = None) -> Layer:
    """A layer with the content ``tar``, which is not compressed; ``diff_id`` is another one than its own."""

    @contextmanager
    def open_it(_: Descriptor) -> Iterator[Readable]:
        yield io.BytesIO(tar) if opened is None else opened()

    descriptor = Descriptor.of("application/vnd.oci.image.layer.v1.tar", tar)
    return Layer(descriptor, diff_id or descriptor.digest, LayerOrigin(open_it, None))


class Build:
    def __init__(self, folder: Path, *, kept: bool = False) -> None:
        workspace = Workspace(str(folder))
        sources = ImageSources(Client().puller, Layouts([]), WarmCache(""))
        self.blobs = BlobStore(workspace.blobs)
        images = Images(sources, workspace, self.blobs, PlainReporter(io.StringIO(), Level.ERROR), Patience())
        self.files = VirtualFiles(LayerIndexes(images, lambda _: kept, None))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return Build(tmp_path)


def test_entries_are_applied_while_their_layer_is_read(build: Build) -> None:
    tar = make_tar(*(Item(f"{number:080d}") for number in range(6000)))
    seen = []

    def wait() -> None:
        eventually(lambda: build.files.root.top.children, "entries in the root", patience_s=20)
        seen.append(len(build.files.root.top.children))

    build.files.update([layer(tar, lambda: _Pieces(tar, wait))])
    assert 0 < seen[0] < len(build.files.root.top.children) == 6000


def test_layers_are_applied_in_order_whichever_is_read_first(build: Build) -> None:
    below, above = make_tar(directory("d"), Item("d/a", mode=0o600)), make_tar(hardlink("b", "d/a"), Item("d/.wh.a"))
    read = threading.Event()

    class Last(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not (data := super().read(size)):
                read.set()
            return data

    build.files.update([layer(below, lambda: _Pieces(below, read.wait)), layer(above, lambda: Last(above))])
    assert build.files.root.mode_of(b"b") & 0o777 == 0o600
    with pytest.raises(FileNotFoundError):
        build.files.root.mode_of(b"d/a")


def test_a_layer_that_an_image_has_twice(build: Build) -> None:
    tar, between = make_tar(Item("a", mode=0o600)), make_tar(Item("a", mode=0o640))
    build.files.update([layer(tar), layer(between), layer(tar)])
    assert build.files.root.mode_of(b"a") & 0o777 == 0o600


def test_what_is_wrong_with_a_layer_is_said_before_what_is_in_it(build: Build) -> None:
    """Of a layer that isn't the image's, what it does to the root is no matter."""
    bad = make_tar(hardlink("a", "missing"))
    with pytest.raises(RegistryError, match="cannot verify layer"):
        build.files.update([layer(bad, diff_id=Digest.of(b"another"))])
    assert build.files.applied == 0
    with pytest.raises(FileSystemError, match="which does not exist"):
        build.files.update([layer(bad)])


def test_a_layer_is_not_used_before_it_is_verified(build: Build) -> None:
    tar = make_tar(Item("a"))
    with pytest.raises(RegistryError, match="cannot verify layer"):
        build.files.update([layer(tar, diff_id=Digest.of(b"another")), layer(make_tar(Item("b")))])
    assert build.files.applied == 0


def test_the_largest_layers_are_read_first(build: Build) -> None:
    """What takes longest must not be begun last."""
    together = threading.Barrier(DOWNLOADS_AT_ONCE)
    order = []

    def opened(number: int, tar: bytes) -> Readable:
        order.append(number)
        if number:
            together.wait()
        return io.BytesIO(tar)

    tars = [make_tar(Item(str(number), data=bytes(50_000 * number))) for number in range(DOWNLOADS_AT_ONCE + 1)]
    build.files.update([layer(tar, lambda number=n, tar=tar: opened(number, tar)) for n, tar in enumerate(tars)])  # type: ignore[misc]
    assert order[-1] == 0


def test_layers_that_are_kept_are_read_to_their_end_if_a_disk_is_needed(tmp_path: Path) -> None:
    """They are needed then, and not downloaded twice."""
    build = Build(tmp_path, kept=True)
    acl = make_tar(Item("a", pax={"SCHILY.xattr.system.posix_acl_access": "x"}))
    more = make_tar(Item("b", data=bytes(1 << 20)))

    def wait() -> None:
        time.sleep(0.2)  # meanwhile the other one is refused

    layers = [layer(acl), layer(more, lambda: _Pieces(more, wait))]
    with pytest.raises(NotVirtualError):
        build.files.update(layers)
    assert all(build.blobs.has(each.descriptor.digest) for each in layers)


def test_a_layer_that_cannot_be_read_ends_the_others(build: Build) -> None:
    header = make_tar(Item("b"))[:BLOCK]
    ended = threading.Event()

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ImagewrightError("no answer")

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b"" if ended.is_set() else header

    with pytest.raises(ImagewrightError, match="no answer"):
        build.files.update([layer(b"bad", Failing), layer(header, Endless)])
    try:
        assert "index" not in {thread.name for thread in threading.enumerate()}
    finally:
        ended.set()

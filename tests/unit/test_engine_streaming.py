"""Streaming of base layers: kept downloads are complete, and nothing waits for a stopped one."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers.registryclient import Client

from imagewright.digest import Digest
from imagewright.engine.layers import Layer, LayerOrigin
from imagewright.engine.pull.images import DOWNLOADS_AT_ONCE, Images, ImageSources
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.pull.streaming import Ending, InflatedLayer, ReadAhead, Spool, downloaded_ahead
from imagewright.engine.workspace import Workspace
from imagewright.errors import Interruption, RegistryError
from imagewright.oci.descriptor import Descriptor
from imagewright.progress.plain import Level, PlainReporter
from imagewright.store.blobs import BlobStore
from imagewright.workers import Patience

PATIENCE_S, POLL_S = 0.3, 0.05


class _Slow:
    """Blocks before its last piece, or its failure, until it is released."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.go_on = threading.Event()
        self._failure = failure
        self._pieces = iter([b"first", b"last", b""])

    def read(self, size: int = -1, /) -> bytes:
        piece = next(self._pieces)
        if piece == b"last":
            self.go_on.wait()
            if self._failure is not None:
                raise self._failure
        return piece


@contextmanager
def _downloading(spool: Spool, source: _Slow) -> Iterator[None]:
    thread = threading.Thread(target=spool.download)
    thread.start()
    try:
        assert spool.read(100) == b"first"
        yield
    finally:
        source.go_on.set()
        thread.join()
        spool.close()


def _spool(folder: Path, source: _Slow) -> Spool:
    @contextmanager
    def opener() -> Iterator[_Slow]:
        yield source

    return Spool(str(folder / "spool"), opener)


def test_a_kept_download_is_complete(tmp_path: Path) -> None:
    source = _Slow()
    spool = _spool(tmp_path, source)
    with _downloading(spool, source):
        threading.Timer(0.05, source.go_on.set).start()
        spool.keep(str(tmp_path / "kept"))
        assert (tmp_path / "kept").read_bytes() == b"firstlast"


def test_a_failed_download_is_not_kept(tmp_path: Path) -> None:
    source = _Slow(ValueError("wrong digest"))
    spool = _spool(tmp_path, source)
    with _downloading(spool, source):
        source.go_on.set()
        with pytest.raises(ValueError, match="wrong digest"):
            spool.keep(str(tmp_path / "kept"))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_a_stopped_download_sees_its_end(tmp_path: Path) -> None:
    source = _Slow()
    spool = _spool(tmp_path, source)
    with _downloading(spool, source):
        threading.Timer(0.05, spool.stop).start()
        assert spool.read(100) == b""
        assert not source.go_on.is_set()


def test_a_download_that_never_began_is_closed_at_once(tmp_path: Path) -> None:
    spool = _spool(tmp_path, _Slow())
    spool.close()  # a pool that can't start a thread never calls download
    spool.download()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long this thread was ready to wait, whenever it waited in vain, in seconds; polls are not counted."""
    seconds: list[float] = []
    this, wait, join = threading.current_thread(), threading.Condition.wait, threading.Thread.join

    def counted_wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        notified = wait(condition, timeout)
        if timeout is not None and timeout > POLL_S and not notified and threading.current_thread() is this:
            seconds.append(timeout)
        return notified

    def counted_join(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        if timeout is not None and thread.is_alive() and threading.current_thread() is this:
            seconds.append(timeout)

    monkeypatch.setattr(threading.Condition, "wait", counted_wait)
    monkeypatch.setattr(threading.Thread, "join", counted_join)
    return seconds


@pytest.mark.parametrize("hanging", [1, DOWNLOADS_AT_ONCE - 1, 5])
def test_downloads_that_hang_are_waited_for_once(
    tmp_path: Path, granted: list[float], monkeypatch: pytest.MonkeyPatch, hanging: int
) -> None:
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("imagewright.engine.pull.images.DOWNLOADS_AT_ONCE", hanging + 1)
    go_on, hang = threading.Event(), threading.Semaphore(0)

    @contextmanager
    def silent(_: Descriptor) -> Iterator[io.BytesIO]:
        hang.release()
        go_on.wait()
        yield io.BytesIO()

    @contextmanager
    def failing(_: Descriptor) -> Iterator[io.BytesIO]:
        for _ in range(hanging):
            hang.acquire()
        raise ValueError("the server has hung up")
        yield io.BytesIO()

    def layer(number: int) -> Layer:
        digest = Digest.parse(f"sha256:{number:064}")
        return Layer(Descriptor("a", digest, 1), digest, LayerOrigin(silent if number else failing, None))

    puller = Client().puller
    workspace = Workspace(str(tmp_path))
    reporter = PlainReporter(io.StringIO(), Level.ERROR)
    sources = ImageSources(puller, Layouts([]), WarmCache(""))
    images = Images(sources, workspace, BlobStore(workspace.blobs), reporter, Patience())
    try:
        with pytest.raises(ValueError, match="hung up"):
            images.unpack([layer(number) for number in range(hanging + 1)], workspace.stage(0), "base", None)
        assert 0 < sum(granted) <= PATIENCE_S
        assert os.listdir(workspace.layers) == []
    finally:
        go_on.set()


def test_the_reader_gets_every_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    spool = Spool(str(tmp_path / "spool"), lambda: io.BytesIO(data))
    thread = threading.Thread(target=spool.download)
    thread.start()
    assert b"".join(iter(lambda: spool.read(70_001), b"")) == data
    thread.join()
    spool.close()


@contextmanager
def _stream(data: bytes) -> Iterator[io.BytesIO]:
    yield io.BytesIO(data)


LAYER = bytes(40 << 20) + b"end"
ENDING = Ending(lambda: None, Patience())


@pytest.mark.parametrize("size", [1 << 19, 1 << 20, 3_000_000, -1], ids=str)
def test_an_inflated_layer_is_whole(size: int) -> None:
    with InflatedLayer(lambda: _stream(LAYER), Digest.of(LAYER), "x", ENDING) as layer:
        parts = []
        while part := layer.read(size):
            assert len(part) <= size or size < 0
            parts.append(part)
        assert layer.read(size) == b""
    assert b"".join(parts) == LAYER


def test_an_inflated_layer_with_another_diff_id_is_refused() -> None:
    said = f"expected diff ID {Digest.of(b'another')}, got {Digest.of(LAYER)}"
    layer = InflatedLayer(lambda: _stream(LAYER), Digest.of(b"another"), "x", ENDING)
    with layer, pytest.raises(RegistryError, match=said):
        list(iter(lambda: layer.read(1 << 20), b""))


def test_nothing_of_an_inflated_layer_goes_on_after_its_context() -> None:
    before = threading.active_count()
    with InflatedLayer(lambda: _stream(LAYER), Digest.of(LAYER), "x", ENDING) as layer:
        layer.read(10)
    assert threading.active_count() == before


class _Broken(io.BytesIO):
    """Breaks off where it should end, as a download whose digest is wrong does."""

    def read(self, size: int | None = -1, /) -> bytes:
        if data := super().read(size):
            return data
        raise RegistryError("expected digest a, got b")


def test_a_download_that_is_read_ahead_fails_where_it_fails() -> None:
    before = threading.active_count()
    data = bytes(3 << 20)
    with downloaded_ahead(_Broken(data), Patience()) as ahead:
        assert b"".join(ahead.read(1 << 18) for _ in range(12)) == data
        with pytest.raises(RegistryError, match="expected digest"):
            ahead.read(1)
    with downloaded_ahead(io.BytesIO(data), Patience()) as ahead:
        ahead.read(1)  # the rest is not waited for
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", [Interruption, ValueError])
def test_what_hangs_is_stopped_and_then_given_up(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    monkeypatch.setattr("imagewright.workers.PATIENCE_S", 0.01)
    answer, stopped = threading.Event(), threading.Event()

    def silent() -> Generator[bytes]:
        answer.wait()
        yield b"x"

    ahead = ReadAhead(silent(), 1, "silent", Ending(stopped.set, Patience()))
    with pytest.raises(kind), ahead:
        raise kind
    assert stopped.is_set()
    assert [thread.name for thread in threading.enumerate()].count("silent") == 1
    answer.set()


def test_what_ends_by_itself_is_waited_for() -> None:
    answer = threading.Event()

    def stopped() -> Generator[bytes]:
        answer.wait()
        yield b"x"

    with pytest.raises(Interruption), ReadAhead(stopped(), 1, "stopped", Ending(answer.set, Patience())):
        raise Interruption
    assert "stopped" not in [thread.name for thread in threading.enumerate()]

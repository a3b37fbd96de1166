"""Streaming of base layers: kept downloads are complete, and nothing waits for a stopped one."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagewright.engine.pull.streaming import Spool


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


def test_the_reader_gets_every_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    spool = Spool(str(tmp_path / "spool"), lambda: io.BytesIO(data))
    thread = threading.Thread(target=spool.download)
    thread.start()
    assert b"".join(iter(lambda: spool.read(70_001), b"")) == data
    thread.join()
    spool.close()

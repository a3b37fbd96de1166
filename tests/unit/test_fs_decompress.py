"""Decompressing streams: formats by content, several members, detection of damage and truncation, bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random

import pytest
import zstandard
from archives.tars import Dribble

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.tar.decompress import inflate, open_layer, sniff

DATA = random.Random(1).randbytes(40_000) + b"a" * 200_000
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def _zstd(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


COMPRESSED = {
    "gzip": gzip.compress(DATA, mtime=0),
    "bzip2": bz2.compress(DATA),
    "xz": lzma.compress(DATA),
    "zstd": _zstd(DATA),
    "zstd-checksum": _zstd(DATA, write_checksum=True),
    "zstd-no-size": _zstd(DATA, write_content_size=False, write_checksum=True),
}


def read_all(data: bytes, count: int = 1 << 30, piece: int = 1 << 20) -> bytes:
    stream = open_layer(Dribble(data, count))
    parts = []
    while part := stream.read(piece):
        assert len(part) <= piece
        parts.append(part)
    assert stream.read(piece) == b""  # reading again after the end
    return b"".join(parts)


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("count", [1 << 30, 10_000, 7])
def test_decompression(name: str, count: int) -> None:
    assert read_all(COMPRESSED[name], count) == DATA
    assert read_all(COMPRESSED[name], count, piece=1000) == DATA


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("count", [1 << 30, 13])
def test_concatenated_members(name: str, count: int) -> None:
    assert read_all(COMPRESSED[name] * 3, count) == DATA * 3


def test_skippable_zstd_frames() -> None:
    whole = COMPRESSED["zstd"]
    assert read_all(whole + SKIPPABLE + whole) == DATA * 2


@pytest.mark.parametrize("name", COMPRESSED)
def test_truncation_is_detected_anywhere(name: str) -> None:
    whole = COMPRESSED[name]
    for cut in (len(whole) - 1, len(whole) - 4, len(whole) - 5, len(whole) // 2, 30, 10):
        for data in (whole[:cut], whole + whole[:cut]):
            with pytest.raises(FileSystemError) as caught:
                read_all(data)
            assert caught.value.reason is Reason.LAYER_INVALID


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd-checksum"])
def test_changed_byte_is_detected(name: str) -> None:
    whole = bytearray(COMPRESSED[name])
    whole[len(whole) // 2] ^= 0x10
    with pytest.raises(FileSystemError):
        read_all(bytes(whole))


@pytest.mark.parametrize("name", COMPRESSED)
def test_trailing_garbage_is_detected(name: str) -> None:
    with pytest.raises(FileSystemError):
        read_all(COMPRESSED[name] + b"trailing garbage")


def test_zeros_after_gzip_are_ignored() -> None:
    assert read_all(COMPRESSED["gzip"] + bytes(3000), 1000) == DATA


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_data_after_long_padding_is_read(name: str) -> None:
    padded = COMPRESSED[name] + bytes(1_000_000)
    assert read_all(padded) == DATA
    assert read_all(padded + COMPRESSED[name]) == DATA + DATA
    with pytest.raises(FileSystemError):
        read_all(padded + b"trailing garbage")


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f", b"plain text" * 1000])
def test_uncompressed_data_is_passed_through(data: bytes) -> None:
    assert read_all(data, 3) == data


def test_sniffing_preserves_the_stream() -> None:
    for name, data in COMPRESSED.items():
        found, stream = sniff(Dribble(data, 1))
        assert name.startswith(found)
        assert b"".join(iter(lambda s=stream: s.read(100_000), b"")) == data  # type: ignore[misc]


def test_decompression_bomb_is_read_in_bounded_chunks() -> None:
    bombs = [
        gzip.compress(bytes(20_000_000)),
        _zstd(bytes(20_000_000)),
        bz2.compress(bytes(20_000_000)),
    ]
    for bomb in bombs:
        stream = open_layer(io.BytesIO(bomb))
        for _ in range(10):
            assert 0 < len(stream.read(1 << 16)) <= 1 << 16


def test_large_zstd_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(FileSystemError):
        open_layer(io.BytesIO(data)).read(100)


def test_given_format_is_used() -> None:
    with pytest.raises(FileSystemError, match="gzip"):
        inflate(io.BytesIO(b"no gzip at all"), "gzip").read(10)

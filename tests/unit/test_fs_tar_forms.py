"""Tar archives as various programs write them: ustar, GNU, PAX, old ones, sparse files in four forms."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from archives.tars import Dribble, Item, directory, hardlink, make_tar, symlink

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import DIRECTORY, Entry
from imagewright.fs.tar.reader import TarReader

GNU_TAR = shutil.which("tar")


def entries(data: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(data)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_numbers_of_every_format(form: int) -> None:
    items = [directory("d/"), Item("d/" + "n" * 97, data=b"x" * 513), symlink("l", "t" * 100), hardlink("h", "d/x")]
    if form == tarfile.USTAR_FORMAT:
        items.append(Item("p" * 120 + "/" + "q" * 90, data=b"y"))
    else:
        items += [
            Item("p" * 300 + "/" + "q" * 255, data=b"y"),
            symlink("long", "t" * 4000),
            Item("é\u4e2d", data=b"z"),
            Item("ids", uid=(1 << 31) + 5, gid=3_000_000),
        ]
    found = entries(make_tar(*items, form=form))
    assert [e.name.rstrip(b"/").decode() for e in found] == [i.name.rstrip("/") for i in items]
    assert [e.linkname.decode() for e in found] == [i.link for i in items]
    assert [(e.uid, e.gid) for e in found] == [(i.uid, i.gid) for i in items]
    assert [e.size for e in found] == [len(i.data) for i in items]
    assert {e.mtime_ns for e in found} == {1_700_000_000_000_000_000}


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
def test_stream_in_chunks_of_any_size(count: int) -> None:
    tar = make_tar(Item("a" * 200, data=b"1" * 1025), Item("b", data=b"2"), Item("c", data=b""))
    reader = TarReader(Dribble(tar, count))
    assert [(e.name, b"".join(bytes(c) for c in reader.chunks())) for e in reader] == [
        (b"a" * 200, b"1" * 1025),
        (b"b", b"2"),
        (b"c", b""),
    ]


def test_unread_data_is_skipped() -> None:
    tar = make_tar(Item("a", data=b"1" * 3_000_000), Item("b", data=b"2"))
    reader = TarReader(io.BytesIO(tar))
    assert [e.name for e in reader] == [b"a", b"b"]


def test_global_records_apply_until_cancelled() -> None:
    def pax(kind: bytes, **records: str) -> bytes:
        info = tarfile.TarInfo("x")
        return info._create_pax_generic_header(records, kind, "utf-8")  # type: ignore[attr-defined, no-any-return]

    plain = make_tar(Item("f", uid=7), form=tarfile.USTAR_FORMAT)[:512]
    tar = (
        pax(b"g", uid="100", comment="c")
        + plain
        + pax(b"x", uid="200")
        + plain
        + plain
        + pax(b"g", uid="")
        + plain
        + bytes(1024)
    )
    assert [e.uid for e in entries(tar)] == [100, 200, 100, 7]


def test_global_records_are_bounded() -> None:
    info = tarfile.TarInfo("x")
    header = info._create_pax_generic_header({f"k{i}": "v" for i in range(1001)}, b"g", "utf-8")  # type: ignore[attr-defined]
    with pytest.raises(FileSystemError) as caught:
        entries(header + bytes(1024))
    assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_directories_of_old_archives_end_in_a_slash() -> None:
    block = bytearray(512)
    block[:2] = b"d/"
    block[100:108], block[124:136], block[136:148] = b"0000755\0", b"00000000000\0", b"00000000000\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (entry,) = entries(bytes(block) + bytes(1024))
    assert entry.type == DIRECTORY
    assert entry.mode == 0o755


def test_size_of_a_link_is_ignored() -> None:
    tar = bytearray(make_tar(hardlink("h", "a"), Item("b", data=b"x"), form=tarfile.USTAR_FORMAT))
    tar[124:136] = b"00000001000\0"
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    assert [e.name for e in entries(bytes(tar))] == [b"h", b"b"]


@pytest.mark.parametrize(
    ("data", "count"),
    [(b"", 0), (bytes(512), 0), (bytes(1024), 0), (bytes(10240), 0), (make_tar(Item("a"))[:512], 1)],
    ids=["nothing", "one-zero-block", "end", "padded", "no-end"],
)
def test_end_of_archive(data: bytes, count: int) -> None:
    assert len(entries(data)) == count


@pytest.mark.parametrize("kind", [b"V", b"M", b"D", b"Z"])
def test_unknown_kinds_are_named(kind: bytes) -> None:
    with pytest.raises(FileSystemError, match=f'unsupported type "{kind.decode()}"'):
        entries(make_tar(Item("f", kind), form=tarfile.GNU_FORMAT))


def test_not_an_archive() -> None:
    with pytest.raises(FileSystemError, match="not a tar archive"):
        entries(b"#!/bin/sh\n" * 100)


@pytest.mark.skipif(GNU_TAR is None, reason="needs GNU tar")
@pytest.mark.parametrize(
    "form",
    [["--format=gnu"], *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))],
    ids=["gnu", "pax-0.0", "pax-0.1", "pax-1.0"],
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 60])
def test_sparse_files(tmp_path: Path, form: list[str], pieces: int) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    root.mkdir()
    with open(source / "sparse", "wb") as file:
        for i in range(pieces):
            file.seek(i * 200_000 + 77)
            file.write(b"%04d" % i * 1500)
        file.truncate(pieces * 200_000 + 1_000_001)
    (source / "tail").write_bytes(b"tail")
    assert GNU_TAR is not None
    command = [GNU_TAR, "-cS", *form, "-C", str(source), "sparse", "tail"]
    tar = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert len(tar) < (source / "sparse").stat().st_size  # else tar found no holes, and nothing is tested
    unpack_layer(Rootfs(str(root)), io.BytesIO(tar))
    assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (root / "tail").read_bytes() == b"tail"
    assert (root / "sparse").stat().st_blocks * 512 < (root / "sparse").stat().st_size


@pytest.mark.skipif(GNU_TAR is None, reason="needs GNU tar")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_archives_of_gnu_tar(tmp_path: Path, form: str) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    (source / "d").mkdir(parents=True)
    root.mkdir()
    (source / "d/f").write_bytes(b"x" * 1000)
    (source / "d/g").hardlink_to(source / "d/f")
    (source / "l").symlink_to("d/f")
    assert GNU_TAR is not None
    tar = subprocess.run(
        [GNU_TAR, "-c", f"--format={form}", "-C", str(source), "."], stdout=subprocess.PIPE, check=True
    )
    unpack_layer(Rootfs(str(root)), io.BytesIO(tar.stdout))
    assert (root / "l").read_bytes() == b"x" * 1000
    assert (root / "d/f").samefile(root / "d/g")

"""Packing layers: their content, compatibility with other readers, and reproducible bytes."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
import zstandard

from imagewright.digest import Digest
from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import PackedLayer, PackOptions
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import CHARACTER, DIRECTORY, REGULAR, SYMLINK, Entry
from imagewright.oci.mediatypes import Compression


def pack(root: Path, *written: str, removed: tuple[str, ...] = (), **options: object) -> tuple[bytes, PackedLayer]:
    out = io.BytesIO()
    settings = PackOptions(**{"compression": "none", **options})  # type: ignore[arg-type]
    changes = Changes(tuple(p.encode() for p in written), tuple(p.encode() for p in removed))
    packed = pack_layer(Rootfs(str(root), frozenset({"excluded", "d/excluded"})), changes, out, settings)
    return out.getvalue(), packed


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = tar.getmembers()
    assert len({m.name for m in found}) == len(found)
    return {m.name: m for m in found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(b"content")
    (tmp_path / "d/e/f").chmod(0o4755)
    os.utime(tmp_path / "d/e/f", ns=(0, 1_600_000_000_123_456_789))
    (tmp_path / "d").chmod(0o2711)
    os.utime(tmp_path / "d", ns=(0, 1_500_000_000_000_000_000))
    return tmp_path


def test_parents_are_included_with_metadata_but_not_the_root(root: Path) -> None:
    data, _ = pack(root, "d/e/f")
    found = members(data)
    assert list(found) == ["d", "d/e", "d/e/f"]
    assert (found["d"].mode, found["d"].mtime) == (0o2711, 1_500_000_000)
    assert found["d/e/f"].mode == 0o4755
    assert found["d/e/f"].pax_headers["mtime"] == "1600000000.123456789"
    assert {(m.uid, m.gid, m.uname, m.gname) for m in found.values()} == {(os.getuid(), os.getgid(), "", "")}


def test_names_are_relative_with_a_slash_after_directories(root: Path) -> None:
    data, _ = pack(root, "d/e/f")
    assert data[:100].rstrip(b"\0") == b"d/"


def test_entries_are_sorted_by_component(root: Path) -> None:
    for name in ("a", "a-b", "a.c"):
        (root / name).mkdir()
        (root / name / "x").touch()
    data, _ = pack(root, "a.c/x", "a-b/x", "a/x", removed=("a/gone", "a-b/z"))
    assert list(members(data)) == ["a", "a/.wh.gone", "a/x", "a-b", "a-b/x", "a-b/.wh.z", "a.c", "a.c/x"]


def test_whiteouts_are_empty_files(root: Path) -> None:
    data, _ = pack(root, removed=("d/e/gone", "top"))
    found = members(data)
    assert list(found) == ["d", "d/e", "d/e/.wh.gone", ".wh.top"]
    assert all(m.isreg() and m.size == 0 for n, m in found.items() if ".wh." in n)


def test_hard_links_within_the_layer_are_links_and_others_are_files(root: Path) -> None:
    for name in ("a", "z/b", "outside"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).hardlink_to(root / "d/e/f")
    data, _ = pack(root, "a", "z/b", "d/e/f")
    found = members(data)
    assert found["a"].isreg()
    assert found["a"].size == 7
    for name in ("z/b", "d/e/f"):
        assert found[name].islnk()
        assert found[name].linkname == "a"
        assert found[name].size == 0
    alone = members(pack(root, "z/b")[0])
    assert alone["z/b"].isreg()


def test_links_fifos_and_long_names(root: Path) -> None:
    long = "n" * 200
    (root / "l").symlink_to("t" * 150)
    (root / "short").symlink_to("../é")
    os.mkfifo(root / "p", 0o600)
    (root / long).mkdir()
    (root / long / ("é" * 100)).write_bytes(b"x")
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"y")
    data, _ = pack(root, "l", "p", "short", f"{long}/{'é' * 100}")
    found = members(data)
    assert found["l"].linkname == "t" * 150
    assert found["short"].linkname == "../é"
    assert found["p"].isfifo()
    assert found[f"{long}/{'é' * 100}"].size == 1
    out = io.BytesIO()
    pack_layer(Rootfs(str(root)), Changes((b"\xff\xfe",), ()), out, PackOptions("none"))
    assert b"path=\xff\xfe\n" in out.getvalue()


def test_sockets_and_excluded_paths_are_skipped(root: Path) -> None:
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)  # a socket's path may have 107 bytes only
        try:
            listener.bind("s")
        finally:
            os.chdir(here)
        (root / "excluded").mkdir()
        (root / "excluded/x").touch()
        (root / "d/excluded").touch()
        data, _ = pack(root, "s", "excluded", "excluded/x", "d/excluded", "d/e/f", removed=("excluded/y",))
    assert list(members(data)) == ["d", "d/e", "d/e/f"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) - 512, 1 << 20, (1 << 20) + 1, 5_000_001])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_digests_and_sizes_match_the_bytes(tmp_path: Path, size: int, compression: Compression) -> None:
    (tmp_path / "f").write_bytes(os.urandom(size))
    data, packed = pack(tmp_path, "f", compression=compression)
    raw = {
        "none": bytes,
        "gzip": gzip.decompress,
        "zstd": lambda d: zstandard.ZstdDecompressor().decompressobj().decompress(d),
    }[compression](data)
    assert packed == PackedLayer(Digest.of(raw), Digest.of(data), len(data), len(raw))
    assert members(raw)["f"].size == size
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        file = tar.extractfile("f")
        assert file is not None
        assert file.read() == (tmp_path / "f").read_bytes()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_same_files_give_the_same_bytes(root: Path, tmp_path: Path, compression: Compression) -> None:
    first = pack(root, "d/e/f", removed=("x", "a"), compression=compression)
    assert pack(root, "d/e/f", removed=("a", "x"), compression=compression) == first


def test_compressed_layer_has_no_timestamp(root: Path) -> None:
    data, _ = pack(root, "d/e/f", compression="gzip")
    assert data[4:8] == bytes(4)  # RFC 1952: MTIME


@pytest.mark.parametrize(
    ("compression", "machine", "digest"),
    [
        ("none", "", "f06a9f4df6858fcd32f4ea874a62053d596b2b6b336d55570a5cde2007343ffa"),
        ("gzip", "x86_64", "f2e9ef504b3ba9c5e3044c6a589c91999ae3119fef3d118e7463b5ea3d390360"),
        ("zstd", "", "b953baf64cafe4b55be2ccf2d7a8a4eadaf3ad09a076db9b70eef8154a919ac3"),
    ],
)
def test_layer_bytes_are_stable_across_releases(
    tmp_path: Path, compression: Compression, machine: str, digest: str
) -> None:
    """A change here changes the digests of all images: it needs a line in the changelog."""
    if machine not in ("", os.uname().machine):
        pytest.skip("the compressor's bytes are known for another architecture")
    _, packed = pack(tmp_path, removed=tuple(f"file-{i * i}" for i in range(3000)), compression=compression)
    assert packed.digest.hex == digest


def test_headers_are_stable_across_releases() -> None:
    entries = [
        Entry(b"d", DIRECTORY, 0o2755, 0, 0, 0, 1_600_000_000_000_000_000),
        Entry(b"d/f", REGULAR, 0o4755, 1000, 1000, 5, 1_600_000_000_123_000_000, xattrs={b"user.b": b"2"}),
        Entry("d/é".encode(), SYMLINK, 0o777, 3_000_000, 0, 0, -5, b"t" * 101),
        Entry(b"n" * 101, REGULAR, 0o644, 0, 1 << 31, 1 << 40, 1 << 63),
        Entry(b"c", CHARACTER, 0o600, 0, 0, 0, 0, major=4095, minor=1 << 19),
    ]
    assert (
        Digest.of(b"".join(map(writer.header, entries))).hex
        == "723f22e18a1f0e22a28dffca7c65b57ea7b83796e3fe5e7a546f5b1e9dc7a328"
    )


def test_later_times_are_clamped(root: Path) -> None:
    data, _ = pack(root, "d/e/f", clamp_mtime_s=1_550_000_000)
    assert [m.mtime for m in members(data).values()] == [1_500_000_000, 1_550_000_000, 1_550_000_000]


def test_a_time_before_the_epoch_is_kept(root: Path) -> None:
    os.utime(root / "d/e/f", ns=(0, -1_500_000_000))
    assert members(pack(root, "d/e/f")[0])["d/e/f"].pax_headers["mtime"] == "-1.500000000"


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq", ".wh."])
def test_whiteout_prefix_is_refused(root: Path, name: str) -> None:
    (root / "d" / name).touch()
    with pytest.raises(FileSystemError) as caught:
        pack(root, f"d/{name}")
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert name in str(caught.value)


def test_removed_file_is_an_error_with_its_name(root: Path) -> None:
    for missing in ("gone", "gone/x"):
        with pytest.raises(FileSystemError, match="gone"):
            pack(root, missing)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_full_disk_is_an_error(tmp_path: Path, compression: Compression) -> None:
    class Full:
        def write(self, data: bytes, /) -> int:
            raise OSError(28, "No space left on device")

    (tmp_path / "f").write_bytes(os.urandom(20_000_000))
    with pytest.raises(FileSystemError) as caught:
        pack_layer(Rootfs(str(tmp_path)), Changes((b"f",), ()), Full(), PackOptions(compression))
    assert caught.value.reason is Reason.DISK_FULL


def test_xattrs_are_in_the_layer(root: Path) -> None:
    try:
        os.setxattr(root / "d/e/f", "user.b", b"\x00\xff=\n")
        os.setxattr(root / "d/e/f", "user.a", b"1")
        os.setxattr(root / "d", "user.directory", b"2")
    except OSError:
        pytest.skip("this file system has no user xattrs")
    data, _ = pack(root, "d/e/f")
    assert b"SCHILY.xattr.user.b=\x00\xff=\n\n" in data
    assert data.index(b"SCHILY.xattr.user.a=1\n") < data.index(b"SCHILY.xattr.user.b=")
    assert members(data)["d"].pax_headers["SCHILY.xattr.user.directory"] == "2"
    os.setxattr(root / "d", "user.odd=name", b"2")
    with pytest.raises(FileSystemError, match="odd=name"):
        pack(root, "d")

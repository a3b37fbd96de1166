"""Outputs appear when they are whole, and what was there before stays until then."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from servers.images import memory_image

from imagewright.digest import Digest
from imagewright.reference import Reference
from imagewright.store.archive import write_docker_archive
from imagewright.store.files import replacing


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")
    with replacing(str(place)) as out:
        out.write(b"new")
        out.flush()
        assert place.read_text() == "old"
    assert place.read_text() == "new"

    def fail() -> None:
        with replacing(str(place)) as out:
            out.write(b"never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert place.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_its_mode_is_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(str(tmp_path / "file")):
            pass
    finally:
        os.umask(before)
    assert oct((tmp_path / "file").stat().st_mode & 0o777) == "0o640"


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replacing(str(tmp_path / "link")) as out:
        out.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_two_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    """As builds in two Pods do, whose processes have the same number."""
    place = str(tmp_path / "file")
    with replacing(place) as first:
        first.write(b"first")
        with replacing(place) as second:
            second.write(b"second")
        assert Path(place).read_text() == "second"
    assert Path(place).read_text() == "first"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    with replacing(str(pipe)) as out:
        out.write(b"through")
    reader.join()
    assert found == [b"through"]
    assert pipe.is_fifo()


def test_an_archive_is_loaded_under_its_tags_only(tmp_path: Path) -> None:
    image = memory_image([b"layer"])
    pinned = Reference.parse(f"registry.test/app:1@{Digest.of(b'x')}")
    references = [pinned, Reference.parse("app:1"), Reference.parse(f"app@{Digest.of(b'x')}"), Reference.parse("app:1")]
    place = str(tmp_path / "image.tar")
    write_docker_archive(place, image.manifest, image.config, references, (image.open, _header))
    with tarfile.open(place) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        assert json.load(member)[0]["RepoTags"] == ["registry.test/app:1", "app:1"]


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_file_that_is_mounted_is_written_to(tmp_path: Path) -> None:
    """As the kubelet mounts /dev/termination-log."""
    mounted, target = tmp_path / "mounted", tmp_path / "target"
    mounted.write_text("before, and longer")
    target.touch()
    subprocess.run(["mount", "--bind", str(mounted), str(target)], check=True)
    try:
        with replacing(str(target)) as file:
            file.write(b"after")
    finally:
        subprocess.run(["umount", str(target)], check=True)
    assert mounted.read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mounted", "target"]

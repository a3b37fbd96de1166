"""The same input gives the same digest: again, in another folder, umask, time zone and file system."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

DOCKERFILE = """\
FROM busybox AS tools
WORKDIR /tools/deep
RUN for n in 9 3 7 1; do echo $n >file-$n; done; ln file-1 linked; date >when; chmod 4755 file-3; rm when
RUN dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000 2>/dev/null && echo end >>sparse
FROM busybox
COPY . /app/
COPY --chmod=640 --chown=3:4 src/a /b/c/
RUN --mount=type=bind,from=tools,target=/t cp /t/tools/deep/file-9 /nine && mkdir -p /x/y && touch /x/y/z && mv /app/src/b /moved
COPY --from=tools /tools /tools
ADD archive.tar /unpacked/
WORKDIR /work
RUN rm -r /app/src && mknod /fifo p && ln -s /nine /link
"""


def context(folder: Path, *, reverse: bool = False) -> Path:
    files = {"src/a": "a", "src/b": "b", "z": "z", "m/n/o": "o", ".hidden": "h"}
    folder.mkdir(parents=True)
    for name in sorted(files, reverse=reverse):  # the order in which a folder lists them may follow it
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name])
        path.chmod(0o644)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    os.link(folder / "z", folder / "hard")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "Dockerfile").chmod(0o644)
    packed = [
        "tar",
        "-C",
        str(folder),
        "--mtime=@1000000000",
        "--owner=0",
        "--group=0",
        "--sort=name",
        "-cf",
        f"{folder}/archive.tar",
        "m",
    ]
    subprocess.run(packed, check=True)
    (folder / "archive.tar").chmod(0o644)
    return folder


def build(engine: Engine, path: Path, work: Path, *flags: str, env: Mapping[str, str] = {}, umask: int = 0o022) -> str:
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={path}", f"--destination={engine.host}/same/app:1",
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={work}", *flags,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env}, umask=umask)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("@")[2]


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """ext4 on a file, where the tests' own folder is another or the same; tmpfs in addition."""
    image, place = tmp_path / "ext4.img", tmp_path / "ext4"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", str(image)], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tmpfs"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("how", ["--reproducible", "SOURCE_DATE_EPOCH"])
def test_reproducible(engine: Engine, other_file_system: Path, memory: Path, how: str) -> None:
    flags = [how] if how.startswith("--") else []
    env = {} if flags else {how: "1500000000"}
    root = engine.folder
    digests = {"first": build(engine, context(root / "a"), root / "w1", *flags, env=env)}
    time.sleep(1.1)  # times of the clock are others now
    digests["again, elsewhere"] = build(engine, context(root / "b" / "c", reverse=True), root / "w2", *flags, env=env)
    digests["umask"] = build(engine, root / "a", root / "w1", *flags, env=env, umask=0o077)
    digests["time zone"] = build(engine, root / "a", root / "w1", *flags, env={**env, "TZ": "Pacific/Auckland"})
    digests["ext4"] = build(engine, context(other_file_system / "a"), other_file_system / "w", *flags, env=env)
    digests["tmpfs"] = build(engine, context(memory / "a"), memory / "w", *flags, env=env)
    cache = f"--cache-repo=oci:{root / 'cache'}"
    digests["cache that is filled"] = build(engine, root / "a", root / "w1", *flags, "--cache", cache, env=env)
    digests["cache that is used"] = build(engine, root / "b" / "c", memory / "w", *flags, "--cache", cache, env=env)
    assert len(set(digests.values())) == 1, digests

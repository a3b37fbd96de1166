"""Cache mounts persist, follow their sharing mode and initial content, and are complete even after a kill."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagewright.engine.steps.cachemounts import CacheMounts, CacheRequest
from imagewright.errors import FileSystemError, ImagewrightError
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.steps import CacheMount, CacheSharing


def mount(id_: str = "a", sharing: CacheSharing = CacheSharing.SHARED, mode: int = 0o755) -> CacheMount:
    return CacheMount("/x", id_, sharing, mode=mode, uid=os.geteuid(), gid=os.getegid())


def seeded(mode: int | None = None) -> CacheMount:
    return CacheMount("/x", "a", mode=mode, uid=None, gid=None)


def locked(id_: str = "a") -> CacheMount:
    return mount(id_, CacheSharing.LOCKED)


def private(id_: str = "a") -> CacheMount:
    return mount(id_, CacheSharing.PRIVATE)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def caches(tmp_path: Path, log: list[str]) -> CacheMounts:
    return CacheMounts(str(tmp_path / "caches"), log.append, threading.Event())


def test_a_cache_persists_and_each_id_has_its_own(caches: CacheMounts) -> None:
    with caches.hold([CacheRequest(mount("a"), None), CacheRequest(mount("../../b"), None)]) as (a, b):
        Path(a, "file").write_text("kept")
        assert a != b
        assert os.path.dirname(a) == os.path.dirname(b)
    with caches.hold([CacheRequest(mount("../../b"), None), CacheRequest(mount("a"), None)]) as (b, a):
        assert os.listdir(b) == []
        assert Path(a, "file").read_text() == "kept"


def test_mode_and_owner_apply_to_a_new_cache(caches: CacheMounts) -> None:
    with caches.hold([CacheRequest(mount(mode=0o1770), None)]) as (folder,):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o1770
        os.chmod(folder, 0o700)
    with caches.hold([CacheRequest(mount(mode=0o1770), None)]) as (folder,):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    with caches.hold([CacheRequest(mount(mode=0o711), None)]) as (other,):
        assert other != folder, "as in BuildKit the initial content is part of the name"


def seed(folder: Path, text: str) -> Rootfs:
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "sub" / "file").write_text(text)
    (folder / "link").unlink(missing_ok=True)
    (folder / "link").symlink_to("sub/file")
    os.mkfifo(folder / "fifo") if not (folder / "fifo").exists() else None
    folder.chmod(0o750)
    return Rootfs(str(folder))


def test_a_seed_is_copied_once(caches: CacheMounts, tmp_path: Path) -> None:
    with caches.hold([CacheRequest(seeded(), seed(tmp_path / "one", "seed"))]) as (folder,):
        assert Path(folder, "link").read_text() == "seed"
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o750
        Path(folder, "sub", "file").write_text("changed")
    assert (tmp_path / "one" / "sub" / "file").read_text() == "seed"
    with caches.hold([CacheRequest(seeded(), seed(tmp_path / "two", "seed"))]) as (again,):
        assert Path(again, "sub", "file").read_text() == "changed", "the same content from another folder"
    with caches.hold([CacheRequest(seeded(), seed(tmp_path / "two", "other"))]) as (other,):
        assert Path(other, "sub", "file").read_text() == "other"


def test_a_given_mode_applies_to_a_cache_with_a_seed(caches: CacheMounts, tmp_path: Path) -> None:
    with caches.hold([CacheRequest(seeded(0o700), seed(tmp_path / "one", "seed"))]) as (folder,):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert Path(folder, "link").read_text() == "seed"


def test_a_seed_that_is_too_deep_is_refused(caches: CacheMounts, tmp_path: Path) -> None:
    """A RUN can nest folders deeper than a path can name."""
    top = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("deep", dir_fd=top)
    folder = os.open("deep", os.O_RDONLY, dir_fd=top)
    for _ in range(300):
        os.mkdir("d" * 20, dir_fd=folder)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        too_deep = pytest.raises(FileSystemError, match="too long")
        with too_deep, caches.hold([CacheRequest(seeded(), Rootfs(str(tmp_path / "deep")))]):
            pass
    finally:
        subprocess.run(["rm", "-rf", "deep"], cwd=tmp_path, check=True)
        os.close(top)


def test_shared_caches_are_held_together_and_private_ones_alone(caches: CacheMounts) -> None:
    with (
        caches.hold([CacheRequest(mount(), None)]) as (first,),
        caches.hold([CacheRequest(mount(), None)]) as (second,),
    ):
        assert first == second
        with (
            caches.hold([CacheRequest(private(), None)]) as (own,),
            caches.hold([CacheRequest(private(), None)]) as (other,),
        ):
            assert len({first, own, other}) == 3
    with caches.hold([CacheRequest(private(), None)]) as (again,):
        assert again == first, "the one that is free"


def test_a_cache_mounted_twice_in_one_run_is_the_same(caches: CacheMounts) -> None:
    for twice in (locked(), private(), mount()):
        with caches.hold([CacheRequest(twice, None), CacheRequest(twice, None)]) as (first, second):
            assert first == second
    with caches.hold([CacheRequest(mount(), None), CacheRequest(locked(), None)]) as (first, second):
        assert first == second


def in_a_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("holder", "waiter"), [(locked, locked), (mount, locked), (locked, mount)])
def test_a_locked_cache_is_waited_for_with_a_message(
    caches: CacheMounts, log: list[str], holder: Callable[[], CacheMount], waiter: Callable[[], CacheMount]
) -> None:
    order: list[str] = []

    def wait() -> None:
        with caches.hold([CacheRequest(waiter(), None)]):
            order.append("second")

    with caches.hold([CacheRequest(holder(), None)]):
        thread = in_a_thread(wait)
        while not log:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert log == ['waiting for cache "a", locked by another RUN or build']


def test_runs_with_the_same_two_caches_do_not_deadlock(caches: CacheMounts) -> None:
    counted: list[int] = []

    def work(ids: tuple[str, str]) -> None:
        for number in range(25):
            with caches.hold([CacheRequest(locked(ids[0]), None), CacheRequest(locked(ids[1]), None)]):
                counted.append(number)

    threads = [in_a_thread(lambda ids=ids: work(ids)) for ids in (("a", "b"), ("b", "a"), ("a", "b"))]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert len(counted) == 75


def test_a_stopped_build_does_not_wait_for_a_cache(tmp_path: Path, caches: CacheMounts) -> None:
    stopped = threading.Event()
    other = CacheMounts(str(tmp_path / "caches"), lambda text: stopped.set(), stopped)
    with (
        caches.hold([CacheRequest(locked(), None)]),
        pytest.raises(ImagewrightError, match="stopped"),
        other.hold([CacheRequest(locked(), None)]),
    ):
        pass


PROGRAM = """
import os, signal, sys, threading
from imagewright.engine.steps import cachemounts
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.steps import CacheMount, CacheSharing
def killed(*given):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "making":
    os.rename = killed
caches = cachemounts.CacheMounts(sys.argv[1], print, threading.Event())
mount = CacheMount("/x", "a", CacheSharing.LOCKED, mode=None, uid=None, gid=None)
with caches.hold([cachemounts.CacheRequest(mount, Rootfs(sys.argv[3]))]):
    killed()
"""


@pytest.mark.parametrize("when", ["making", "holding"])
def test_a_killed_build_leaves_neither_an_incomplete_cache_nor_a_lock(
    caches: CacheMounts, tmp_path: Path, when: str
) -> None:
    begin = seed(tmp_path / "seed", "whole")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "caches"), when, begin.path]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert bool([name for name in os.listdir(tmp_path / "caches") if ".new" in name]) == (when == "making")
    with caches.hold([CacheRequest(seeded(), begin)]) as (folder,):
        assert Path(folder, "sub", "file").read_text() == "whole"
    assert not [name for name in os.listdir(tmp_path / "caches") if ".new" in name]


def test_the_hint_for_an_unusable_folder_names_the_flag(tmp_path: Path, log: list[str]) -> None:
    (tmp_path / "file").touch()
    caches = CacheMounts(str(tmp_path / "file" / "caches"), log.append, threading.Event())
    unusable = pytest.raises(ImagewrightError, match="cannot use the folder for cache mounts")
    with unusable as caught, caches.hold([CacheRequest(mount(), None)]):
        pass
    assert "--cache-dir" in caught.value.hint

"""Mounts of a command, in every mode: the same files are visible, and nothing of them remains afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.errors import SandboxError
from imagewright.sandbox.model import DirectoryMount, FileMount, RunCommand, SandboxMount, SocketMount, TmpfsMount

if TYPE_CHECKING:
    from conftest import Mode, Outcome  # pytest gives it; only its name is needed here


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of this machine: files with owners and modes, links, and links out of it."""
    directory = tmp_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub" / "file").write_text("content\n")
    os.link(directory / "sub" / "file", directory / "hard")
    (directory / "link").symlink_to("sub/file")
    (directory / "out").symlink_to("/etc/passwd")
    os.mkfifo(directory / "fifo")
    os.chown(directory / "sub", 5, 6)
    (directory / "sub").chmod(0o2750)
    os.utime(directory / "sub" / "file", (1000, 1000))
    return directory


@pytest.fixture
def target(mode: Mode) -> Iterator[Path]:
    """A target in the mode's root file system that does not exist yet, as the command sees it."""
    inside = Path(mode.inside) / "mounts-of-a-test"
    yield inside
    shutil.rmtree(f"{mode.rootfs}{inside}", ignore_errors=True)


def outside(mode: Mode, target: Path) -> Path:
    return Path(f"{mode.rootfs}{target}")


def run(mode: Mode, script: str, *mounts: SandboxMount, user: tuple[int, int] = (0, 0)) -> Outcome:
    shell = (str(Path(mode.inside) / ("bin/busybox" if mode.inside == "/" else "busybox")), "sh", "-c", script)
    env = (("PATH", "/bin:/usr/bin"),)
    return mode.command(RunCommand(str(mode.rootfs), shell, env, "/", *user, mounts=mounts))


def test_directory_is_visible_and_leaves_no_mount_point(mode: Mode, target: Path, source: Path) -> None:
    script = (
        f"cd {target}/deep && cat link && ls -A | sort | tr '\\n' ' ' && stat -c '%a %u:%g' sub && stat -c '%h %Y' hard "
        "&& readlink out && test -p fifo && echo fifo"
    )
    done = run(mode, script, DirectoryMount(f"{target}/deep", str(source)))
    assert done.text == "content\nfifo hard link out sub 2750 5:6\n2 1000\n/etc/passwd\nfifo\n"
    assert not outside(mode, target).exists()


def test_discarded_mount_is_writable(mode: Mode, target: Path, source: Path) -> None:
    script = f"cd {target} && echo new >new && rm sub/file && echo changed >hard && ls -A && cat hard"
    done = run(mode, script, DirectoryMount(str(target), str(source), discard=True))
    assert done.text == "fifo\nhard\nlink\nnew\nout\nsub\nchanged\n"
    assert (source / "sub" / "file").read_text() == "content\n"
    assert not (source / "new").exists()
    assert not outside(mode, target).exists()


def test_read_only_mount_never_changes(mode: Mode, target: Path, source: Path) -> None:
    run(mode, f"echo x >{target}/hard; rm -rf {target}/sub", DirectoryMount(str(target), str(source)))
    assert (source / "sub" / "file").read_text() == "content\n"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one file system", "another file system"])
def test_writes_to_a_cache_are_kept(mode: Mode, target: Path, source: Path, tmp_path: Path, elsewhere: bool) -> None:
    cache = Path("/dev/shm", f"{tmp_path.name}-{os.getpid()}") if elsewhere else source
    if elsewhere:
        shutil.copytree(source / "sub", cache / "sub")
    try:
        mount = DirectoryMount(str(target), str(cache), writable=True)
        assert run(mode, f"cd {target} && echo new >new && rm sub/file", mount).code == 0
        assert run(mode, f"cat {target}/new; ls {target}/sub", mount).text == "new\n"
        assert (cache / "new").read_text() == "new\n"
        assert not (cache / "sub" / "file").exists()
        assert not outside(mode, target).exists()
        assert not list(cache.parent.glob(f"{cache.name}.*"))
    finally:
        if elsewhere:
            shutil.rmtree(cache)


def test_single_file_is_mounted(mode: Mode, target: Path, source: Path) -> None:
    done = run(mode, f"cat {target}/f; test -f {target}/f", DirectoryMount(f"{target}/f", str(source / "hard")))
    assert (done.code, done.text) == (0, "content\n")
    assert not outside(mode, target).exists()


def test_secret_has_its_mode_and_owner(mode: Mode, target: Path) -> None:
    mount = FileMount(f"{target}/a/b", b"hunter2", 0o440, 7, 8)
    done = run(mode, f"stat -c '%a %u:%g' {target}/a/b; cat {target}/a/b", mount, user=(7, 8))
    assert done.text == "440 7:8\nhunter2"
    assert not outside(mode, target).exists()


def test_script_is_executable(mode: Mode, target: Path) -> None:
    busybox = "/bin/busybox" if mode.inside == "/" else f"{mode.inside}/busybox"
    mount = FileMount("/dev/pipes/EOF", f"#!{busybox} sh\necho ran\n".encode(), 0o755)
    assert run(mode, "/dev/pipes/EOF", mount).text == "ran\n"
    assert run(mode, "test ! -e /dev/pipes").code == 0


def test_tmpfs_is_empty_and_removed(mode: Mode, target: Path) -> None:
    assert run(mode, f"ls -A {target} && echo x >{target}/x", TmpfsMount(str(target))).text == ""
    assert not outside(mode, target).exists()


def test_covered_entries_are_hidden_and_restored(mode: Mode, target: Path, source: Path) -> None:
    place = outside(mode, target)
    (place / "directory" / "below").mkdir(parents=True)
    (place / "file").write_text("the image's")
    (place / "link").symlink_to("nowhere")
    (place / "directory" / "below" / "x").write_text("x")
    os.utime(place, (2000, 2000))
    before = {path: path.lstat() for path in place.rglob("*")}
    script = f"cat {target}/file; ls -A {target}/directory; ls -A {target} | grep -c ."
    done = run(mode, script, FileMount(f"{target}/file", b"mounted\n"), TmpfsMount(f"{target}/directory"))
    assert done.text.startswith("mounted\n")
    assert (place / "file").read_text() == "the image's"
    assert (place / "directory" / "below" / "x").read_text() == "x"
    assert sorted(path.name for path in place.iterdir()) == ["directory", "file", "link"]
    assert place.stat().st_mtime == 2000
    for path, info in before.items():
        now = path.lstat()
        assert (now.st_mode, now.st_mtime_ns, now.st_ino) == (info.st_mode, info.st_mtime_ns, info.st_ino)


def test_nested_mounts(mode: Mode, target: Path, source: Path) -> None:
    cache = source / "sub"
    mounts = (
        DirectoryMount(str(target), str(source)),
        DirectoryMount(f"{target}/sub", str(cache), writable=True),
        FileMount(f"{target}/sub/inner/secret", b"s"),
    )
    done = run(mode, f"cat {target}/sub/inner/secret {target}/sub/file; echo kept >{target}/sub/kept", *mounts)
    assert done.text == "scontent\n"
    assert (cache / "kept").read_text() == "kept\n"
    assert sorted(path.name for path in cache.iterdir() if path.is_file()) == ["file", "kept"]
    assert not outside(mode, target).exists()


def test_link_of_the_image_is_followed_inside_the_root(mode: Mode, target: Path) -> None:
    place = outside(mode, target)
    (place / "real").mkdir(parents=True)
    (place / "link").symlink_to(f"{target}/real")
    done = run(mode, f"cat {target}/real/deep/file", FileMount(f"{target}/link/deep/file", b"x"))
    assert done.text == "x"
    assert list((place / "real").iterdir()) == []


def test_files_created_next_to_a_mount_are_kept(mode: Mode, target: Path) -> None:
    run(mode, f"echo own >{target}/deep/own", FileMount(f"{target}/deep/secret", b"hunter2"))
    assert [path.name for path in outside(mode, target).rglob("*")] == ["deep", "own"]


def test_renaming_the_parent_of_a_mount_is_harmless(mode: Mode, target: Path, tmp_path: Path) -> None:
    """Its parent is a link to another directory when the mount is removed: nothing there is changed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("precious")
    (victim / "directory").mkdir()
    (victim / "directory" / "x").write_text("precious")
    script = f"cd {Path(mode.inside)}; mv {target} {target}-moved && ln -s {victim} {target}; ls -A {target}-moved"
    done = run(mode, script, FileMount(f"{target}/secret", b"hunter2"), TmpfsMount(f"{target}/directory"))
    moved = Path(f"{mode.rootfs}{target}-moved")
    left = [path.name for path in moved.rglob("*")] if moved.exists() else []
    shutil.rmtree(moved, ignore_errors=True)
    if outside(mode, target).is_symlink():
        outside(mode, target).unlink()
    assert (victim / "secret").read_text() == "precious"
    assert (victim / "directory" / "x").read_text() == "precious"
    assert left == [], done.text


def test_socket_forwards_both_ways_and_enforces_its_mode(mode: Mode, target: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        os.chown(tmp_path / "socket", 7, 8)
        os.chmod(tmp_path / "socket", 0o600)
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(connection.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        mount = SocketMount(f"{target}/agent", str(tmp_path / "socket"), 0o600, 7, 8)
        ask = "/bin/ask" if mode.inside == "/" else f"{mode.inside}/ask"
        script = f"stat -c '%a %u:%g %F' {target}/agent; {ask} {target}/agent one; {ask} {target}/agent two"
        assert run(mode, script, mount, user=(7, 8)).text == "600 7:8 socket\nONETWO"
        assert run(mode, f"{ask} {target}/agent one", mount, user=(9, 9)).text == "connect: Permission denied\n"
        listener.shutdown(socket.SHUT_RDWR)
    assert not outside(mode, target).exists()


def test_missing_source_is_named(mode: Mode, target: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="nowhere"):
        run(mode, "true", DirectoryMount(str(target), str(tmp_path / "nowhere")))
    assert not outside(mode, target).exists()


def test_network_none_has_only_loopback(mode: Mode) -> None:
    shell = (str(Path(mode.inside) / ("bin/busybox" if mode.inside == "/" else "busybox")), "sh", "-c")
    script = "ip -o link | cut -d: -f2; ip -o -4 addr show lo | grep -c 127.0.0.1"
    done = mode.command(
        RunCommand(str(mode.rootfs), (*shell, script), (("PATH", "/bin:/usr/bin:/sbin:/usr/sbin"),), "/", network=False)
    )
    assert done.text.split() == ["lo", "1"]


def test_paths_of_the_container_are_refused_in_root_mode(root: Mode, programs: Path) -> None:
    own = str(programs / "own")
    Path(own).mkdir()
    try:
        command = RunCommand(
            "/", (str(programs / "busybox"), "true"), (), "/",
            mounts=(FileMount(f"{own}/x", b""),), excluded=frozenset({own.strip("/")}),
        )  # fmt: skip
        with pytest.raises(SandboxError, match="belongs to the container; the namespace sandbox can"):
            root.command(command)
        assert os.listdir(own) == []
    finally:
        shutil.rmtree(own)


def test_secret_is_never_on_disk_in_namespace_mode(namespace: Mode, tmp_path: Path) -> None:
    seen: list[bool] = []

    def look(data: bytes) -> None:
        files = [path for path in tmp_path.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
        seen.append(any(b"hunter2-on-disk" in path.read_bytes() for path in files))

    command = RunCommand(
        str(namespace.rootfs), ("/bin/sh", "-c", "echo begun; sleep 0.5"), (("PATH", "/bin"),), "/",
        mounts=(FileMount("/run/secret", b"hunter2-on-disk"),),
    )  # fmt: skip
    assert namespace.execute(command, look) == 0
    assert seen == [False]

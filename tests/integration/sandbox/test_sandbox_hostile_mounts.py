"""Commands attack their mounts: nothing outside changes, and nothing of a mount remains, in every mode."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.errors import Reason, SandboxError
from imagewright.fs.layer.changes import diff
from imagewright.fs.layer.snapshot import scan
from imagewright.fs.rootfs.root import Rootfs
from imagewright.sandbox.model import DirectoryMount, FileMount, RunCommand, SandboxMount, SocketMount, TmpfsMount

if TYPE_CHECKING:
    from conftest import Mode, Outcome

pytestmark = pytest.mark.root

SECRET = b"hunter2-" * 4
BOUND = b"from-the-source"


@dataclass
class Field:
    """A mode with directories of this machine around it. ``base``: the directory that the command may change."""

    mode: Mode
    base: Path
    victim: Path
    source: Path
    cache: Path

    @property
    def mounts(self) -> tuple[SandboxMount, ...]:
        target = f"{self.base}/t"
        return (
            FileMount(f"{target}/secret", SECRET, 0o444),
            DirectoryMount(f"{target}/ro", str(self.source)),
            DirectoryMount(f"{target}/bind", str(self.source), discard=True),
            DirectoryMount(f"{target}/cache", str(self.cache), writable=True),
            TmpfsMount(f"{target}/mem"),
        )

    @property
    def outside(self) -> Path:
        """``base`` as seen from outside."""
        return Path(f"{self.mode.rootfs}{self.base}")

    def run(self, script: str, *mounts: SandboxMount, user: tuple[int, int] = (0, 0)) -> Outcome:
        busybox = "/bin/busybox" if self.mode.inside == "/" else f"{self.mode.inside}/busybox"
        prelude = f"V={self.victim}; B={self.base}; T=$B/t; cd $B\n"
        return self.mode.command(
            RunCommand(
                str(self.mode.rootfs),
                (busybox, "sh", "-c", prelude + script),
                (("PATH", "/bin:/usr/bin:/sbin:/usr/sbin"),),
                "/",
                *user,
                mounts=mounts or self.mounts,
            )
        )


@pytest.fixture
def field(mode: Mode, tmp_path: Path) -> Iterator[Field]:
    directories = {name: tmp_path / "outside" / name for name in ("victim", "source", "cache")}
    for name, directory in directories.items():
        (directory / "sub").mkdir(parents=True)
        (directory / "file").write_bytes(BOUND if name == "source" else name.encode())
        (directory / "sub" / "file").write_bytes(name.encode())
    base = Path(mode.inside) / "base-of-a-test"
    outside = Path(f"{mode.rootfs}{base}")
    outside.mkdir()
    yield Field(mode, base, **directories)
    remove(outside)


def remove(directory: Path) -> None:
    """However deep it is."""
    subprocess.run(["rm", "-rf", directory], check=True)


def listing(directory: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in [directory, *directory.rglob("*")]:
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path)] = (info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


HOSTILE = {
    "its directory becomes a link that leads out": "mv t moved; ln -s $V t",
    "everything is removed": "rm -rf t",
    "everything is removed and links lead out": """
        rm -rf t; mkdir -p t
        ln -s $V/file t/secret; for n in ro bind cache mem; do ln -s $V t/$n; done""",
    "links lead out of the mounts": """
        for n in bind cache mem; do rm -rf t/$n/*; ln -s $V/file t/$n/file; ln -s $V t/$n/sub; done""",
    "the secret gets another name": "ln t/secret kept; ln t/secret t/kept",
    "the secret is moved": "mv t/secret kept",
    "the secret is moved twice": "mv t/secret kept; ln kept again; rm kept",
    "the secret is replaced": "echo mine >mine; mv mine t/secret; ln -s $V/file mine; mv mine t/secret",
    "the cache is moved": "mv t/cache moved",
    "the cache becomes a file": "rm -rf t/cache; echo mine >t/cache",
    "the cache becomes a link": "rm -rf t/cache; ln -s $V t/cache",
    "a fifo takes a mount's place": "for n in secret ro bind mem; do rm -rf t/$n; mkfifo t/$n; done",
    "nobody may enter": "chmod 000 t t/secret t/bind t/cache t/mem",
    "daemons hold on to everything": """
        for n in ro bind cache mem; do (cd t/$n && setsid sleep 1000 3<$T/secret >/dev/null 2>&1 &); done; sleep 0.1""",
    "mounts are taken away": "umount t/secret; umount -l t/ro; umount -f t/bind; umount t/cache t/mem",
    "mounts are made writable": "for n in secret ro; do mount -o remount,rw,bind t/$n; done; echo bad >t/ro/file",
    "it is root of a namespace of its own": """
        unshare -U -r -m sh -c '
            umount -l t/secret t/ro t/bind; mount -o remount,rw,bind t/ro; echo bad >t/ro/file; mount --bind t/cache t/ro
            mount -t tmpfs none t; rm -rf t'""",
    "devices are made": "mknod t/bind/sda b 8 0; mknod t/cache/sda b 8 0; mknod t/mem/zero c 1 5; mknod t/bind/file c 0 0",
    "overlay's own attributes": "setfattr -n user.overlay.opaque -v y t/bind/sub; setfattr -n trusted.overlay.opaque -v y t/bind",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_command_changes_nothing_outside(field: Field, name: str, running: Callable[[str], list[str]]) -> None:
    before = {path: listing(path) for path in (field.victim, field.source)}
    seconds = f"6{time.time_ns() % 10**9}"  # this test's own daemons, told from those of others that run now
    outcome = field.run(HOSTILE[name].replace("sleep 1000", f"sleep {seconds}") + "\ntrue")
    assert outcome.code == 0, outcome.text
    for path, state in before.items():
        assert listing(path) == state, outcome.text
    assert field.cache.is_dir()
    assert not field.cache.is_symlink()
    assert sorted(p.name for p in field.cache.parent.iterdir()) == ["cache", "source", "victim"]
    # What is left in the image was created by the command: no content of a mount, no mount point, nothing of the
    # engine.
    for path in field.outside.rglob("*"):
        info = path.lstat()
        assert not path.name.startswith(".imagewright"), path
        if stat.S_ISREG(info.st_mode):
            assert SECRET not in path.read_bytes(), path
            assert BOUND not in path.read_bytes(), path
            assert path.read_bytes() not in (b"victim", b"cache"), path
    left = {str(p.relative_to(field.outside)) for p in field.outside.rglob("*")}
    own = {"t", "kept", "again", "mine", "moved"}  # links, and what is empty now
    assert not [p for p in left - own if not p.startswith("t/") or p.count("/") > 1], left
    assert running(f"sleep\0{seconds}") == []
    # The next command finds everything in order.
    shutil.rmtree(field.outside)
    field.outside.mkdir()
    again = field.run("cat t/secret t/ro/file t/bind/file; ls -A t/mem")
    assert again.text == SECRET.decode() + BOUND.decode() * 2
    assert list(field.outside.iterdir()) == []


def test_reading_command_changes_nothing(field: Field) -> None:
    (field.outside / "t" / "ro").mkdir(parents=True)
    (field.outside / "t" / "secret").write_text("the image's own")
    (field.outside / "etc").mkdir()
    for path in [*field.outside.rglob("*"), field.outside]:
        os.utime(path, (1000, 1000))
    before = scan(Rootfs(str(field.outside)))
    times = {path: path.stat().st_mtime for path in [*field.outside.rglob("*"), field.outside]}
    looked = field.run("cat t/secret t/ro/file", *field.mounts, FileMount(f"{field.base}/etc/new/deep/file", b"x"))
    assert looked.text == SECRET.decode() + BOUND.decode()
    changes = diff(before, scan(Rootfs(str(field.outside))))
    # A file of the image that was moved aside and back has a new ctime: the engine ignores these paths.
    touched = {b"t/secret"} if field.mode.kind is not SandboxKind.NAMESPACE else set()
    assert set(changes.written) == touched == set(changes.touched)
    assert changes.removed == ()
    assert {path: path.stat().st_mtime for path in [*field.outside.rglob("*"), field.outside]} == times


def test_hard_link_out_of_a_cache_becomes_a_separate_file(field: Field) -> None:
    """As package managers do; across real mounts they copy instead."""
    (field.cache / "one").write_text("one")
    os.link(field.cache / "one", field.cache / "two")
    field.run("for f in file one; do ln t/cache/$f $f || cp t/cache/$f $f; done")
    (field.outside / "file").write_text("changed in the image")
    assert (field.cache / "file").read_bytes() == b"cache"
    assert (field.cache / "one").stat().st_nlink == 2  # its names in the cache are still one file
    assert (field.cache / "one").stat().st_ino != (field.outside / "one").stat().st_ino
    assert (field.outside / "one").stat().st_nlink == 1


def test_writes_outside_of_caches_are_discarded(field: Field) -> None:
    field.run("echo new >t/cache/new; for n in bind mem ro; do echo new >t/$n/new; done 2>/dev/null")
    assert (field.cache / "new").read_text() == "new\n"
    assert field.run("ls -A t/ro t/bind t/mem").text.count("new") == 0
    assert not (field.source / "new").exists()


def test_cache_with_two_targets(field: Field) -> None:
    mounts = [DirectoryMount(f"{field.base}/{name}", str(field.cache), writable=True) for name in ("a", "b")]
    if field.mode.kind is SandboxKind.NAMESPACE:
        assert field.run("echo new >a/new; cat b/new", *mounts).text == "new\n"
    else:
        with pytest.raises(SandboxError, match=r'at ".*/b" as well: only the namespace sandbox can'):
            field.run("true", *mounts)
    assert (field.cache / "file").read_bytes() == b"cache"
    assert list(field.outside.iterdir()) == []


def test_cache_is_kept_when_the_command_fails(field: Field) -> None:
    assert field.run("echo new >t/cache/new; kill -9 $$").code == 137
    assert (field.cache / "new").read_text() == "new\n"


def test_secret_mode_and_owner_are_enforced(field: Field) -> None:
    mount = FileMount(f"{field.base}/secret", SECRET, 0o400, 7, 8)
    assert field.run("cat secret", mount, user=(7, 8)).text == SECRET.decode()
    assert "Permission denied" in field.run("cat secret", mount, user=(9, 8)).text


@pytest.mark.parametrize(
    "target", ["/proc/x", "/proc", "/sys/kernel/x", "/dev", "/", "/proc/../dev/.", "/sub/../proc/1/x"]
)
def test_sandbox_paths_are_refused_as_targets(field: Field, target: str) -> None:
    with pytest.raises(SandboxError, match=f'cannot mount at "{target}"') as caught:
        field.run("true", FileMount(target, b"x"))
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert list(field.outside.iterdir()) == []


def test_sandbox_paths_are_refused_through_links(field: Field) -> None:
    (field.outside / "link").symlink_to("../../../../../../proc/self")
    with pytest.raises(SandboxError, match=r'"/proc/.*", where it leads, belongs to the sandbox'):
        field.run("true", FileMount(f"{field.base}/link/x", b"x"))


@pytest.mark.parametrize(
    "mount", [FileMount("directory", b""), DirectoryMount("file", "/etc"), TmpfsMount("file")], ids=repr
)
def test_mounts_must_match_the_kind_of_the_target(field: Field, mount: SandboxMount) -> None:
    (field.outside / "directory").mkdir()
    (field.outside / "file").write_text("the image's")
    target = f"{field.base}/{mount.target}"
    match mount:
        case FileMount():
            mount = FileMount(target, b"")
        case DirectoryMount(source=source):
            mount = DirectoryMount(target, source)
        case _:
            mount = TmpfsMount(target)
    with pytest.raises(SandboxError, match=f'cannot mount a .* at "{target}"') as caught:
        field.run("true", mount)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert (field.outside / "file").read_text() == "the image's"


def test_tmpfs_has_the_mode_of_the_covered_directory(field: Field) -> None:
    (field.outside / "t" / "mem").mkdir(parents=True)
    os.chown(field.outside / "t" / "mem", 5, 6)
    (field.outside / "t" / "mem").chmod(0o2750)
    target = f"{field.base}/t"
    done = field.run("stat -c '%a %u:%g' t/mem t/new", TmpfsMount(f"{target}/mem"), TmpfsMount(f"{target}/new"))
    assert done.text == "2750 0:0\n1777 0:0\n"
    info = (field.outside / "t" / "mem").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (5, 6, 0o2750)


@pytest.mark.parametrize("mode", ["namespace", "chroot"], indirect=True)  # in root it would be this machine's own /etc
def test_mount_over_a_file_of_name_resolution(field: Field) -> None:
    done = field.run("cat /etc/hosts", FileMount("/etc/hosts", b"10.0.0.1 mine\n"))
    assert done.text == "10.0.0.1 mine\n"
    assert not (field.mode.rootfs / "etc").exists()


def test_source_name_with_delimiters_of_mount_options(field: Field, tmp_path: Path) -> None:
    odd = tmp_path / "a:b,c\\d=e \n f"
    odd.mkdir()
    (odd / "file").write_bytes(BOUND)
    done = field.run("echo x >m/new && cat m/file", DirectoryMount(f"{field.base}/m", str(odd), discard=True))
    assert (done.code, done.text) == (0, BOUND.decode())
    assert os.listdir(odd) == ["file"]


def test_source_nested_deeper_than_the_call_stack(field: Field, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        fd, above = os.open("d", os.O_RDONLY, dir_fd=fd), fd
        os.close(above)
    os.close(fd)
    mount = DirectoryMount(f"{field.base}/m", str(tmp_path / "d"), discard=True)
    try:
        assert field.run("test -d m/d/d/d && echo there", mount).text == "there\n"
        assert not (field.outside / "m/d").exists()
    finally:
        remove(tmp_path / "d")


# --- what real mounts alone can do


def test_secrets_are_read_only_and_tmpfs_size_is_limited(namespace: Mode) -> None:
    script = """
        echo x >/s || echo refused; chmod 777 /s || echo refused
        head -c 2000000 /dev/zero >/m/big || echo full"""
    command = RunCommand(
        str(namespace.rootfs), ("/bin/sh", "-c", script), (("PATH", "/bin"),), "/",
        mounts=(FileMount("/s", SECRET), TmpfsMount("/m", 1 << 20)),
    )  # fmt: skip
    text = namespace.command(command).text
    assert text.count("refused\n") == 2
    assert (namespace.rootfs / "m").exists() is False
    assert text.endswith("full\n")


def test_devices_and_setuid_are_disabled_in_mounts(namespace: Mode, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mknod(source / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    shutil.copy(namespace.rootfs / "bin/attack", source / "raised")
    (source / "raised").chmod(0o4755)
    for kind in ({}, {"writable": True}, {"discard": True}):
        command = RunCommand(
            str(namespace.rootfs), ("/bin/sh", "-c", "head -c 1 /m/zero; /m/raised ids"), (("PATH", "/bin"),), "/", 1000, 1000,
            mounts=(DirectoryMount("/m", str(source), **kind),),
        )  # fmt: skip
        text = namespace.command(command).text
        assert "/m/zero: Permission denied" in text
        assert "uid 1000 euid 1000 " in text


def test_missing_mount_point_in_a_read_only_mount_is_refused(namespace: Mode, tmp_path: Path) -> None:
    mounts = (DirectoryMount("/src", str(tmp_path)), TmpfsMount("/src/node_modules"))
    with pytest.raises(
        SandboxError, match='cannot create the mount point "/src/node_modules": the mount at "/src" is read-only'
    ) as caught:
        namespace.command(RunCommand(str(namespace.rootfs), ("/bin/sh",), (), "/", mounts=mounts))
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert sorted(os.listdir(namespace.rootfs)) == ["bin"]


def test_mounts_of_parallel_commands_are_separate(namespace: Mode) -> None:
    mounts = (FileMount("/dev/shm/secret", SECRET), FileMount("/dev/pipes/x", b"x"))
    command = RunCommand(
        str(namespace.rootfs), ("/bin/sh", "-c", "cat /dev/shm/secret /dev/pipes/x"), (("PATH", "/bin"),), "/",
        mounts=mounts,
    )  # fmt: skip
    assert namespace.command(command).text == SECRET.decode() + "x"
    assert namespace.sh("ls -A /dev/shm /dev/pipes 2>/dev/null; cat /proc/mounts").text.count("secret") == 0
    assert sorted(os.listdir(namespace.rootfs)) == ["bin"]


@pytest.mark.parametrize("mode", ["namespace"], indirect=True)  # elsewhere it is asked for at the first connection
def test_missing_socket_is_named(field: Field, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no-agent"):
        field.run("true", SocketMount(f"{field.base}/s", str(tmp_path / "no-agent")))

"""The root of the namespace mode: its content, what is protected, and that nothing of it enters a layer."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.errors import SandboxError

if TYPE_CHECKING:
    from conftest import Mode

pytestmark = pytest.mark.root

PAST = 1_000_000_000_000_000_001  # ns


def listing(root: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and modification time of everything."""
    found = {}
    for parent, directories, files in os.walk(root):
        for name in [".", *directories, *files]:
            path = Path(parent, name)
            info = path.lstat()
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            found[str(path.relative_to(root))] = (info.st_mode, size, info.st_mtime_ns)
    return found


def age(root: Path) -> dict[str, tuple[int, int, int]]:
    for parent, directories, files in os.walk(root, topdown=False):
        for name in [*directories, *files]:
            os.utime(Path(parent, name), ns=(PAST, PAST), follow_symlinks=False)
    os.utime(root, ns=(PAST, PAST))
    return listing(root)


def test_root_is_the_image_with_proc_dev_and_sys(namespace: Mode) -> None:
    assert namespace.sh("cd /; echo *").text == "bin dev etc proc sys\n"
    assert "self" in namespace.sh("ls /proc").text
    assert namespace.sh("ls /sys").text != ""
    names = namespace.sh("ls /dev").text.split()
    expected = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert set(expected.split()) - {"tty"} <= set(names)


def test_devices_work(namespace: Mode) -> None:
    script = """
        echo gone > /dev/null
        head -c 4 /dev/zero | od -An -tx1
        [ $(head -c 16 /dev/urandom | wc -c) = 16 ] && echo random
        echo full 2>/dev/null > /dev/full || echo full
        echo shared > /dev/shm/file && cat /dev/shm/file
        script=$(exec 3<>/dev/ptmx && ls /dev/pts) && echo pts $script
        echo standard > /dev/stdout
    """
    assert namespace.sh(script).text == " 00 00 00 00\nrandom\nfull\nshared\npts 0 ptmx\nstandard\n"


def test_name_resolution_files_are_copies_of_the_outer_ones(namespace: Mode) -> None:
    assert namespace.sh("cat /etc/hosts").text == Path("/etc/hosts").read_text()
    assert namespace.sh("cat /etc/resolv.conf").text == Path("/etc/resolv.conf").read_text()
    before = Path("/etc/hosts").read_bytes()
    assert namespace.sh("echo 10.0.0.1 added >> /etc/hosts && grep added /etc/hosts").text == "10.0.0.1 added\n"
    assert Path("/etc/hosts").read_bytes() == before
    assert "added" not in namespace.sh("cat /etc/hosts").text


def test_command_without_changes_leaves_nothing(namespace: Mode) -> None:
    (namespace.rootfs / "etc").mkdir()
    before = age(namespace.rootfs)
    assert namespace.sh("true").code == 0
    assert listing(namespace.rootfs) == before


def test_empty_image_stays_empty(namespace: Mode) -> None:
    before = age(namespace.rootfs)
    namespace.sh("ls -l / >/dev/null; echo >> /etc/hosts")
    assert listing(namespace.rootfs) == before


def test_hosts_file_of_the_image_is_untouched(namespace: Mode) -> None:
    (namespace.rootfs / "etc").mkdir()
    (namespace.rootfs / "etc/hosts").write_text("the image's\n")
    before = age(namespace.rootfs)
    assert "the image's" not in namespace.sh("cat /etc/hosts; echo x >> /etc/hosts").text
    assert listing(namespace.rootfs) == before


def test_dangling_link_is_followed_inside_and_kept(namespace: Mode) -> None:
    (namespace.rootfs / "etc").mkdir()
    (namespace.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    before = age(namespace.rootfs)
    assert namespace.sh("cat /etc/resolv.conf").text == Path("/etc/resolv.conf").read_text()
    assert listing(namespace.rootfs) == before


def test_files_created_by_the_command_are_kept(namespace: Mode) -> None:
    namespace.sh("echo own > /etc/own; mkdir /run; chmod 700 /etc")
    assert (namespace.rootfs / "etc/own").read_text() == "own\n"
    assert (namespace.rootfs / "etc").stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(namespace.rootfs)) == ["bin", "etc", "run"]
    assert os.listdir(namespace.rootfs / "etc") == ["own"]


def test_renamed_directory_keeps_no_mount_point(namespace: Mode) -> None:
    assert namespace.sh("mv /etc /old && mkdir /etc && echo new > /etc/hosts").code == 0
    assert os.listdir(namespace.rootfs / "old") == []
    assert (namespace.rootfs / "etc/hosts").read_text() == "new\n"


def test_links_of_the_image_do_not_lead_outside(namespace: Mode, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "resolv.conf").write_text("untouched")
    up = "../" * 30
    root = namespace.rootfs
    (root / "etc").symlink_to(up + str(victim).lstrip("/"))
    (root / "proc").symlink_to(f"{victim}/proc")
    (root / "sys").symlink_to(up + "anywhere")
    assert namespace.sh("echo x > /etc/resolv.conf; echo y > /etc/new; true").code == 0
    assert sorted(os.listdir(victim)) == ["resolv.conf"]
    assert (victim / "resolv.conf").read_text() == "untouched"


@pytest.mark.parametrize("name", ["dev", "proc"])
def test_link_loop_is_an_error_that_names_it(namespace: Mode, name: str) -> None:
    (namespace.rootfs / name).symlink_to(name)
    with pytest.raises(SandboxError, match=f'cannot resolve "/{name}" in the image'):
        namespace.sh("true")
    (namespace.rootfs / name).unlink()
    assert namespace.sh("true").code == 0


def test_link_to_the_root_is_an_error_that_names_it(namespace: Mode) -> None:
    (namespace.rootfs / "proc").symlink_to("/")
    with pytest.raises(SandboxError, match='cannot resolve "/proc" in the image'):
        namespace.sh("true")


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/power/state"]
)
def test_kernel_settings_are_read_only(namespace: Mode, path: str) -> None:
    outcome = namespace.sh(f"[ -e {path} ] || echo absent; echo 0 > {path}")
    assert outcome.code != 0
    assert "absent" in outcome.text or "Read-only file system" in outcome.text


def test_kernel_settings_are_read_only_in_nested_namespaces(namespace: Mode) -> None:
    script = """
        unshare -U -r -m sh -c '
            mount -o remount,rw,bind /proc/sys || echo refused
            umount /proc/sys || echo refused
            umount /etc/hosts || echo refused
            echo 0 > /proc/sys/kernel/core_pattern || echo refused'
    """
    outcome = namespace.sh(script)
    assert outcome.text.count("refused\n") == 4


def test_sensitive_kernel_files_are_hidden(namespace: Mode) -> None:
    assert namespace.sh("cat /proc/kcore /proc/keys 2>/dev/null | wc -c").text == "0\n"
    assert namespace.sh("ls -A /sys/firmware 2>/dev/null").text == ""


def test_mounting_and_unmounting_are_denied(namespace: Mode) -> None:
    assert namespace.sh("mount -t tmpfs none /etc 2>/dev/null || umount /proc 2>/dev/null || echo no").text == "no\n"


def test_devices_of_the_image_are_disabled(namespace: Mode) -> None:
    os.mknod(namespace.rootfs / "disk", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    outcome = namespace.sh("head -c 1 /disk; mknod /mine c 1 5 || echo refused")
    assert "Permission denied" in outcome.text
    assert outcome.text.endswith("refused\n")


def test_owners_are_those_of_the_image(namespace: Mode) -> None:
    namespace.sh("echo > /file && chown 1234:2345 /file && chmod 4755 /file")
    info = (namespace.rootfs / "file").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1234, 2345, 0o4755)


def test_files_can_be_given_capabilities(namespace: Mode) -> None:
    assert namespace.run("/bin/attack", "setcap", "/bin/attack").code == 0
    value = os.getxattr(namespace.rootfs / "bin/attack", "security.capability")
    assert value == bytes.fromhex("0100000200040000000000000000000000000000")  # version 2, as on an ordinary machine
    assert " permitted 000000400 " in namespace.run("/bin/attack", "caps", user=(1000, 1000)).text


def test_other_processes_are_hidden_with_a_new_proc(namespace: Mode) -> None:
    assert namespace.sh("echo /proc/[0-9]*").text == "/proc/1 /proc/2\n"


def test_forking_processes_are_killed(namespace: Mode, running: Callable[[str], list[str]]) -> None:
    name = f"hydra-{os.getpid()}"  # not one of another run of the tests
    assert namespace.sh(f"ln -s attack /bin/{name}; /bin/{name} hydra; echo started").text == "started\n"
    assert running(f"{name}\0hydra") == []

"""What a command in namespaces reaches of the machine's kernel: files of /proc and /sys, and cgroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine, Mode

pytestmark = pytest.mark.root

# As in a Pod: /proc is not whole, so that a new one is not permitted, and /proc/sys is read-only.
POD = """umount -l /proc; mount -t proc proc /proc; mount --bind /dev/null /proc/keys
    mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec """
# File systems that machines have below /sys. The kernel of a test machine may lack some.
BELOW_SYS = {
    "debugfs": "kernel/debug",
    "tracefs": "kernel/tracing",
    "securityfs": "kernel/security",
    "bpf": "fs/bpf",
    "fusectl": "fs/fuse/connections",
    "pstore": "fs/pstore",
}
# Each has only what its own mount makes.
HARMLESS = {"tmpfs", "ramfs", "devpts", "mqueue", "binfmt_misc", "overlay"}


@pytest.mark.parametrize("prelude", ["", POD], ids=["machine", "pod"])
def test_nested_namespaces_reach_no_cgroup(engine: Engine, prelude: str) -> None:
    done = engine("namespace", "exec /bin/nest", prelude)
    assert done.stdout.startswith("namespace: "), done
    found = done.stdout.splitlines()[1:]
    assert [line for line in found if line.startswith(("writable", "made"))] == []
    assert [line.split(":")[0] for line in found if line.startswith("refused")] == ["refused cgroup"]
    mounted = {line.split()[1] for line in found if line.startswith("mounted")}
    assert "tmpfs" in mounted, "the attack itself works"
    assert mounted <= HARMLESS


def test_the_command_keeps_its_system_calls(engine: Engine) -> None:
    """Under the filter too, a command creates processes, threads and other namespaces."""
    done = engine(
        "namespace", "unshare -U -r -m -p -f -n sh -c 'mkdir /m && mount -t tmpfs none /m && echo fine' | cat", POD
    )
    assert done.stdout.endswith("\nfine\n"), done


def test_what_tells_about_the_whole_machine_is_hidden(engine: Engine) -> None:
    mounts = "umount -l /proc; mount -t proc proc /proc; " + "".join(
        f"mount -t {kind} {kind} /sys/{place} 2>/dev/null; " for kind, place in BELOW_SYS.items()
    )
    names = "kcore keys kmsg kpagecgroup kpagecount kpageflags pagetypeinfo slabinfo timer_list vmallocinfo"
    script = f"""
        cd /proc; for name in {names}; do [ ! -s $name ] || echo "size $name"; head -c 8 $name; done 2>/dev/null
        find /proc -maxdepth 1 -type f ! -perm -4 -exec echo secret {{}} \\;
        cd /sys; ls -A {" ".join(BELOW_SYS.values())} 2>/dev/null | grep -v :$ | grep .
        cut -d ' ' -f 5,6- /proc/self/mountinfo | sed -n 's|^/sys.* - ||p' | cut -d ' ' -f 1 | sort -u"""
    done = engine("namespace", script, mounts + "exec ")
    kinds = done.stdout.splitlines()[1:]
    assert {"sysfs", "tmpfs"} <= set(kinds) <= {"sysfs", "tmpfs", "cgroup", "cgroup2", *BELOW_SYS}, done
    assert not any(line.startswith(("size", "secret")) for line in kinds)


@pytest.mark.parametrize("kind", BELOW_SYS)
def test_other_file_systems_below_sys_are_hidden(namespace: Mode, kind: str) -> None:
    """Over each, mounted or not, is an empty directory; nested namespaces cannot remove it."""
    place = f"/sys/{BELOW_SYS[kind]}"
    script = f"""
        [ -d {place} ] || exit 0
        ls -A {place}; grep -q ' {place} ro.* - tmpfs' /proc/self/mountinfo || echo bare
        unshare -U -r -m umount {place} 2>/dev/null && echo removed"""
    assert namespace.sh(script).text == ""


def test_no_file_of_proc_is_writable_that_is_not_everybody_s(namespace: Mode) -> None:
    script = """
        find /proc -path '/proc/[0-9]*' -prune -o -path /proc/self -prune -o -type f -perm /222 ! -perm -2 -print |
        while read -r file; do (: >> "$file") 2>/dev/null && echo "$file"; done"""
    assert namespace.sh(script).text in ("", "/proc/mtrr\n"), "mtrr requires CAP_SYS_ADMIN when it is written"

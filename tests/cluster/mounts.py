"""The mounts of the cluster's own mount namespace, and its folder in each cgroup hierarchy. Run by the supervisor.

Kubelet, containerd and the CNI plugins keep things at fixed paths (device plugin sockets, log links, address leases)
and expect others to be reachable by every user. In a mount namespace they all find their usual paths, backed by the
cluster's state folder or by memory, and the machine's own paths are never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 20
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8

# The kubelet sets these for the whole machine unless they already are so. It gets files that say they are.
KERNEL_FLAGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
IN_MEMORY = ("/run", "/var/lib", "/var/log")
# path in the namespace: folder of the state that backs it
BACKED = {"/var/lib/containerd": "containerd", "/var/lib/kubelet": "kubelet", "/var/log/pods": "pod-logs"}
CGROUPS = Path("/sys/fs/cgroup")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind or source} at {target}: {os.strerror(number)}")


def set_up_mounts(state: Path) -> None:
    """Make the namespace's mounts private to it and put the cluster's folders where its programs look."""
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("", "/", "", MS_REC | MS_SHARED)  # among the Pods of this cluster, for mount propagation
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for path in IN_MEMORY:
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for path, folder in BACKED.items():
        backing = state / folder
        backing.mkdir(exist_ok=True)
        backing.chmod(0o711)
        Path(path).mkdir(parents=True)
        mount(str(backing), path, "", MS_BIND)
    Path("/var/lib/cni").mkdir()
    Path("/var/log/containers").mkdir()
    # A Pod with users of its own may mount /proc only while some /proc of this namespace has nothing mounted in it.
    Path("/run/pristine-proc").mkdir()
    mount("proc", "/run/pristine-proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name, value in KERNEL_FLAGS.items():
        answer = Path("/run/kernel-flags", name)
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text(value + "\n")
        if Path("/proc/sys", name).exists():
            mount(str(answer), f"/proc/sys/{name}", "", MS_BIND)


def cgroup_folders(name: str) -> list[Path]:
    """The cluster's folder in each hierarchy: one for version 2, one for each controller of version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / name]
    return [path / name for path in sorted(CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]


def make_cgroups(name: str) -> None:
    """Make them; with version 2 the kubelet wants every controller there, and only what the root hands down is."""
    for folder in cgroup_folders(name):
        folder.mkdir(exist_ok=True)
    offered = CGROUPS / "cgroup.controllers"
    for controller in offered.read_text().split() if offered.exists() else []:
        with contextlib.suppress(OSError):  # the kubelet complains about one that is missing
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")


def remove_cgroups(name: str) -> None:
    """Remove the cluster's cgroups once their processes are gone."""
    for top in cgroup_folders(name):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue

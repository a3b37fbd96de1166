"""Build Kubernetes, etcd, containerd, runc, CNI plugins and a registry once, from the one Go module in this directory.

Runs ``go``; writes below the cache, keyed by the module's content. On two cores and from nothing it takes seven
minutes; with the outcome there, no time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.places import SOURCE, ClusterError, cache_root
from cluster.progress import say, step
from cluster.toolchain import find_go

MODULE = SOURCE / "go"
# One program that is all of these, by the name it is called: they share nine tenths of their code.
KUBE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
# runc needs cgo and libseccomp; without the tag it would have no seccomp, which Pods' profiles are about.
TAGS = "seccomp urfave_cli_no_docs no_btrfs no_zfs no_devmapper"


def content_key(module: Path, how: str) -> str:
    """What programs are made from: every file of their module, and ``how`` they are built."""
    digest = hashlib.sha256(how.encode())
    for path in sorted(module.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(module)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def key() -> str:
    return content_key(MODULE, f"{TAGS}\0{KUBE}\0")


def binaries() -> Path:
    """The folder that holds every program, built if it isn't there.

    Raises:
        ClusterError: no Go, no C compiler, or the build failed.
    """
    return made_once(cache_root() / "cluster" / key(), build)


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """The folder ``target``, filled by ``make`` if it isn't there: by one process, and there whole or not at all."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / "build.lock"):
        if not target.is_dir():
            partial = target.with_name(f"{target.name}.partial.{os.getpid()}")
            partial.mkdir()
            try:
                make(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def build(partial: Path) -> None:
    for program in ("gcc", "pkg-config"):
        if shutil.which(program) is None:
            raise ClusterError(f"{program} is needed to build runc: run scripts/setup as root")
    if subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False).returncode != 0:
        raise ClusterError("libseccomp-dev is needed to build runc: run scripts/setup as root")
    go = find_go()
    with step("Fetching the cluster's Go modules", "1 GB, half a minute"):
        run(go, "mod", "download")
    with step("Building Kubernetes, etcd, containerd, runc and a registry, once", "seven minutes on two cores"):
        flags = ["-trimpath", "-tags", TAGS, "-ldflags", linker_flags(go)]
        run(go, "build", "-v", *flags, "-o", f"{partial}/", ".", "./pause", "./registry", "tool")
    for name in KUBE:
        (partial / name).symlink_to("kube")


def linker_flags(go: Path) -> str:
    """The versions that the programs tell of themselves: kubelet and API server compare them."""
    kubernetes = module_version(go, "k8s.io/kubernetes")
    containerd = module_version(go, "github.com/containerd/containerd/v2")
    minor = kubernetes.split(".")[1]
    base = "k8s.io/component-base/version"
    values = {
        f"{base}.gitVersion": kubernetes,
        f"{base}.gitMajor": "1",
        f"{base}.gitMinor": minor,
        f"{base}.gitCommit": "release",
        f"{base}.gitTreeState": "clean",
        "github.com/containerd/containerd/v2/version.Version": containerd,
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def module_version(go: Path, module: str) -> str:
    return run(go, "list", "-m", "-f", "{{.Version}}", module).strip()


def run(go: Path, *arguments: str, module: Path = MODULE, cgo: bool = True) -> str:
    """One go command in the module; packages it names as built are counted aloud."""
    environment = {
        **os.environ,
        "CGO_ENABLED": "1" if cgo else "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
    }
    command = [str(go), *arguments]
    with subprocess.Popen(
        command, cwd=module, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        messages = follow(process.stderr)
        output = process.stdout.read()
    if process.returncode != 0:
        raise ClusterError(f"go {arguments[0]} failed:\n" + "\n".join(messages[-20:]))
    return output


def follow(lines: Iterator[str], every: int = 300) -> list[str]:
    """The lines that say something went wrong; a package's bare path is progress."""
    built = 0
    messages: list[str] = []
    for line in lines:
        if re.fullmatch(r"[\w.~/-]+\n", line):
            built += 1
            if built % every == 0:
                say(f"{built} packages compiled")
        else:
            messages.append(line.rstrip())
    return messages


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

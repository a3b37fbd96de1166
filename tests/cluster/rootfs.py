"""Make the root file systems of the base images from this machine's packages: no internet, no image of anyone's.

Runs mmdebstrap, apt-get and tar as root in temporary folders below the cache; each outcome is a compressed layer, kept
by a hash of its recipe and of this machine's settings.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.binaries import locked
from cluster.machine import ADDED_CERTIFICATES, CERTIFICATES, Machine
from cluster.places import ClusterError, cache_root
from cluster.progress import say, step
from cluster.push import Layer

EPOCH = "1735689600"  # 2025-01-01: what packages ship keeps its own, older times
SUITES = ("trixie", "bookworm")  # the first that the mirror has
SLIM = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
PYTHON = ("python3", "python3-pip", "python3-venv", "ca-certificates")
PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n"


def debian(root: Path, machine: Machine) -> None:
    """A minimal Debian, as slim as the image of that name."""
    bootstrap(root, machine, ())


def python(root: Path, machine: Machine) -> None:
    """The same with Python, pip and venv, callable as ``python`` and free to install into the system."""
    bootstrap(root, machine, PYTHON)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (root / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
    for marker in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        marker.unlink()


def bootstrap(root: Path, machine: Machine, packages: tuple[str, ...]) -> None:
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in SLIM]
    command += [f"--include={','.join(packages)}"] if packages else []
    failures = []
    for suite in SUITES:
        mirror = [machine.debian_mirror] if machine.debian_mirror else []
        done = run(*command, suite, str(root), *mirror, check=False)
        if done.returncode == 0:
            break
        failures.append(f"{suite}: {done.stderr[-2000:]}")
        shutil.rmtree(root)
        root.mkdir()
    else:
        raise ClusterError("no Debian could be made from this machine's mirror:\n" + "\n".join(failures))
    for leftover in (root / "var/cache/apt").glob("*.bin"):
        leftover.unlink()
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    (root / "etc/apt/apt.conf.d/90machine").write_text(machine.apt)
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    trust(root, machine)


def busybox(root: Path, machine: Machine) -> None:
    """BusyBox alone: one static program that is every command, by hard links in /bin."""
    skeleton(root, machine)
    program = static_busybox()
    shutil.copy2(program, root / "bin/busybox")
    for name in applets(program):
        os.link(root / "bin/busybox", root / "bin" / name)
    (root / "usr/bin/env").symlink_to("/bin/env")


def alpine(root: Path, machine: Machine) -> None:
    """What stands in for Alpine: its layout, BusyBox by symbolic links and musl; no apk and no glibc."""
    skeleton(root, machine)
    program = static_busybox()
    shutil.copy2(program, root / "bin/busybox")
    for name in applets(program):
        (root / ("sbin" if name in ("init", "reboot", "poweroff", "halt") else "bin") / name).symlink_to("/bin/busybox")
    (root / "usr/bin/env").symlink_to("/bin/busybox")
    (root / "etc/alpine-release").write_text("3.22.0\n")
    (root / "etc/os-release").write_text('NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.22.0\n')
    musl(root)


def musl(root: Path) -> None:
    """The loader and C library of Debian's musl package, where Alpine has them."""
    scratch = root.with_name("musl")
    scratch.mkdir()
    if os.geteuid() == 0:
        shutil.chown(scratch, "_apt")  # apt downloads as that user and warns where it can't
    run("apt-get", "download", "-q", "musl", folder=scratch)
    run("dpkg-deb", "-x", str(next(scratch.glob("musl_*.deb"))), str(scratch / "tree"))
    for found in (scratch / "tree").rglob("libc.so"):
        (root / "lib").mkdir(exist_ok=True)
        loader = root / "lib" / f"ld-musl-{os.uname().machine}.so.1"
        shutil.copy2(found, loader)
        (root / "lib" / f"libc.musl-{os.uname().machine}.so.1").symlink_to(loader.name)
    shutil.rmtree(scratch)


def skeleton(root: Path, machine: Machine) -> None:
    for name in (
        "bin",
        "sbin",
        "dev",
        "etc",
        "home",
        "proc",
        "sys",
        "usr/bin",
        "usr/sbin",
        "var/log",
        "var/spool",
        "run",
    ):
        (root / name).mkdir(parents=True)
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/shadow").write_text("root:*:::::::\n")
    (root / "etc/shadow").chmod(0o640)
    trust(root, machine)


def static_busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise ClusterError("busybox-static is needed for base images: run scripts/setup as root")
    return Path(found).resolve()


def applets(program: Path) -> list[str]:
    names = run(str(program), "--list").stdout.split()
    return [name for name in names if name != "busybox"]


def trust(root: Path, machine: Machine) -> None:
    """Let what runs in the image trust whom this machine trusts, also after ca-certificates is installed there."""
    write(root, str(CERTIFICATES), machine.certificates)
    for name, content in machine.added_certificates:
        write(root, f"{ADDED_CERTIFICATES}/{name}", content)
    write(root, "/etc/pip.conf", machine.pip.encode())


def write(root: Path, path: str, content: bytes) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def go_tree(goroot: Path) -> Callable[[Path, Machine], None]:
    """A recipe: this machine's Go in /usr/local/go, with its module proxy as the default."""

    def go(root: Path, machine: Machine) -> None:
        target = root / "usr/local/go"
        target.parent.mkdir(parents=True)
        skip = shutil.ignore_patterns("testdata")
        shutil.copytree(goroot, target, symlinks=True, ignore=skip)
        for name in ("test", "api", "doc", "misc"):
            shutil.rmtree(target / name, ignore_errors=True)
        settings = {**dict(machine.go), "GOTOOLCHAIN": "local"}
        (target / "go.env").write_text("".join(f"{name}={value}\n" for name, value in sorted(settings.items())))
        for name in ("go", "go/bin", "go/src"):
            (root / name).mkdir()
            (root / name).chmod(0o1777)

    return go


def layer(recipe: Callable[[Path, Machine], None], machine: Machine, inputs: Mapping[str, str]) -> Layer:
    """The layer that ``recipe`` makes, from the cache where it is there. ``inputs`` is what else it depends on."""
    name = recipe.__name__
    source = Path(inspect.getfile(recipe)).read_text()
    key = hashlib.sha256(json.dumps([name, source, machine.fingerprint, dict(inputs)]).encode()).hexdigest()[:16]
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / f"{name}-{key}.json"
    with locked(folder / f"{name}.lock"):
        if not described.exists():
            for old in folder.glob(f"{name}-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            with step(f"Making the {name} base image", "half a minute at most"):
                scratch = folder / f"{name}-{key}.partial"
                (scratch / "root").mkdir(parents=True)
                (scratch / "root").chmod(0o755)
                recipe(scratch / "root", machine)
                packed = folder / f"{name}-{key}.tar.gz"
                facts = pack(scratch / "root", packed)
                shutil.rmtree(scratch)
            described.write_text(json.dumps(facts))
            say(f"{name}: {packed.stat().st_size >> 20} MB compressed")
    return Layer(content=folder / f"{name}-{key}.tar.gz", **json.loads(described.read_text()))


def pack(root: Path, target: Path) -> dict[str, str | int]:
    """Tar and compress in one pass. Gives the fields of a ``Layer`` but for its content."""
    command = ["tar", "--create", "--sort=name", "--numeric-owner", "--xattrs", "--format=pax", "--clamp-mtime"]
    command += [f"--mtime=@{EPOCH}", "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f"]
    raw, compressed = hashlib.sha256(), hashlib.sha256()
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (
        target.open("wb") as out,
        subprocess.Popen([*command, "--directory", str(root), "."], stdout=subprocess.PIPE) as tar,
    ):
        assert tar.stdout is not None
        while block := tar.stdout.read(1 << 20):
            raw.update(block)
            piece = compressor.compress(block)
            compressed.update(piece)
            out.write(piece)
        piece = compressor.flush()
        compressed.update(piece)
        out.write(piece)
    if tar.returncode != 0:
        target.unlink()
        raise ClusterError(f"tar ended with {tar.returncode}")
    size = target.stat().st_size
    return {"digest": f"sha256:{compressed.hexdigest()}", "size": size, "diff_id": f"sha256:{raw.hexdigest()}"}


def run(*command: str, folder: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is needed for base images: run scripts/setup as root") from error
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done

"""A container of the executor image for tests of the root sandbox: a mount namespace with a root of its own, and what
it mounts.

The engine's programs are where the image has them, below /imagewright, but they are this machine's. Runs unshare(1),
mount(8) and chroot(8): needs root. What a build leaves is read from the directory that was its root.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HOST = "/imagewright/host"
# A /dev of its own, as a container has it: what a build does to it must not reach this machine's.
_DEVICES = """\
mkdir -p {dev}; mount -t tmpfs -o mode=755,nosuid tmpfs {dev}
while read -r name major minor; do mknod -m 666 {dev}/"$name" c "$major" "$minor"; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
ln -s /proc/self/fd {dev}/fd; mkdir {dev}/shm; mount -t tmpfs -o mode=1777 tmpfs {dev}/shm"""
# Words of unshare(1). A command may kill whatever it sees, and that must not be this machine's processes.
OWN_PROCESSES = ["--pid", "--fork", "--kill-child", "--mount-proc"]
Entries = Mapping[str, "str | int"]  # a number is a directory's mode, "-> x" a link to x, other text a file


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer's tar has: names without a slash at the end, and contents of files."""

    entries: dict[str, tarfile.TarInfo]
    contents: dict[str, str]


@dataclass(slots=True)
class Container:
    """``mounted``: paths in the container, without the first slash, and what is mounted there.

    ``read_only``: nothing can be written outside of mounts. ``disk_bytes``: the size of its own file system, 0 for this
    machine's; what a build leaves there can't be read afterwards. ``variables`` are added to the engine's environment.
    """

    directory: Path
    mounted: dict[str, Path] = field(default_factory=dict)
    read_only: bool = False
    disk_bytes: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    log: str = ""
    code: int = 0

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def volume(self, target: str, content: Mapping[str, str]) -> Path:
        """Mount a directory with these files."""
        source = self.directory / "volumes" / str(len(self.mounted))
        source.mkdir(parents=True)
        _write(source, content)
        self.mounted[target] = source
        return source

    def file(self, target: str, content: str) -> Path:
        """Mount one file, as a ConfigMap's with subPath."""
        source = self.directory / "volumes" / str(len(self.mounted))
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(content)
        self.mounted[target] = source
        return source

    def context(self, dockerfile: str, files: Mapping[str, str] = {}) -> str:
        """A context where no image is in its way."""
        write_context(self.root / "kaniko/context", dockerfile, files)
        return "/kaniko/context"

    def command(self, *words: str) -> list[str]:
        """The words that run the engine's program in this container, with what is mounted."""
        parts = [
            *((path, f"{HOST}{path}") for path in ("/usr", sys.base_prefix)),
            (str(REPOSITORY / "builder"), "/imagewright/builder"),
            (sysconfig.get_path("purelib"), "/imagewright/site"),
            ("/proc", "/proc"),
            *((str(source), f"/{target}") for target, source in self.mounted.items()),
        ]
        root = shlex.quote(str(self.root))
        script = ["set -e", f"mount --bind {root} {root}" if self.read_only else ":"]
        if self.disk_bytes:
            script.append(f"mount -t tmpfs -o size={self.disk_bytes} tmpfs {root}")
            script.append(f"mkdir -p {root}/imagewright {root}/tmp; touch {root}/imagewright/executor-image")
        for source, target in parts:
            place = shlex.quote(f"{self.root}{target}")
            made = f"mkdir -p {place}" if Path(source).is_dir() else f'mkdir -p "$(dirname {place})"; touch {place}'
            script.append(f"{made}; mount --rbind {shlex.quote(source)} {place}")
        script.append(_DEVICES.format(dev=shlex.quote(f"{self.root}/dev")))
        maps = Path("/proc/self/maps").read_text()
        loader = re.search(r"/usr/\S*/ld-\S+", maps)
        found = (str(Path(path).parent) for path in re.findall(r"/usr/\S+\.so\S*", maps))
        libraries = dict.fromkeys((f"{sys.base_prefix}/lib", *found))  # a libpython of its own comes before another's
        assert loader is not None, "the loader of this Python isn't below /usr"
        program = os.path.realpath(sys.executable)
        command = [
            "chroot", str(self.root), f"{HOST}{loader[0]}", "--library-path", ":".join(f"{HOST}{path}" for path in libraries),
            f"{HOST}{program}", "-m", "imagewright", *words,
        ]  # fmt: skip
        script.append(f"mount -o remount,bind,ro {root}" if self.read_only else ":")
        script.append("exec " + shlex.join(command))
        return ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(script)]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ``command`` needs."""
        return {"PYTHONHOME": f"{HOST}{sys.base_prefix}", "PYTHONPATH": "/imagewright/builder:/imagewright/site",
                "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root", "PATH": os.environ["PATH"], **self.variables}  # fmt: skip

    def execute(self, context: str, *flags: str) -> None:
        """Build in the root sandbox with what is mounted."""
        command = self.command(
            "build", f"--context={context}", "--sandbox=root", "--no-push", "--work-dir=/kaniko/work",
            "--oci-layout-path=/kaniko/out", "--build-context=base=oci-layout:///kaniko/base", *flags,
        )  # fmt: skip
        command[1:1] = OWN_PROCESSES
        shutil.rmtree(self.root / "kaniko/out", ignore_errors=True)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment)
        self.code, self.log = done.returncode, done.stdout + done.stderr
        assert "Traceback" not in self.log, self.log

    def build(self, dockerfile: str, files: Mapping[str, str] = {}, *flags: str) -> list[Layer]:
        """Build what must succeed; its layers, the base's first."""
        self.execute(self.context(dockerfile, files), *flags)
        assert self.code == 0, self.log
        return self.layers()

    def layers(self) -> list[Layer]:
        return layers_of(self.root / "kaniko/out")


def write_context(directory: Path, dockerfile: str, files: Mapping[str, str]) -> Path:
    """Replace ``directory`` by a build context with these files; returns it."""
    shutil.rmtree(directory, ignore_errors=True)
    _write(directory, {"Dockerfile": dockerfile, **files})
    return directory


def _write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def layers_of(layout: Path) -> list[Layer]:
    def blob(digest: str) -> Path:
        return layout / "blobs/sha256" / digest.partition(":")[2]

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    found = []
    for descriptor in manifest["layers"]:
        with tarfile.open(blob(descriptor["digest"])) as tar:
            members = tar.getmembers()
            contents = {m.name: tar.extractfile(m).read().decode("latin-1") for m in members if m.isreg()}  # type: ignore[union-attr]
            found.append(Layer({member.name: member for member in members}, contents))
    return found


def archive(entries: Entries) -> bytes:
    """A tar with these entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            if isinstance(what, int):
                info.type, info.mode = tarfile.DIRTYPE, what
            elif what.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, what[3:]
            else:
                info.size = len(what.encode())
            tar.addfile(info, io.BytesIO(str(what).encode()))
    return out.getvalue()


def make_base(container: Container, *layers: Entries) -> None:
    """The image ``base``, an OCI layout in the container: a static busybox, and these layers."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is missing: run scripts/setup"
    directory = container.root / "kaniko/base"
    (directory / "blobs/sha256").mkdir(parents=True)

    def keep(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (directory / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    programs = io.BytesIO()
    with tarfile.open(fileobj=programs, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        tar.add(busybox, "bin/sh")
    tars = [programs.getvalue(), *(archive(entries) for entries in layers)]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in tars]}
    config = {"os": "linux", "architecture": machine, "config": {"Env": ["PATH=/bin"]}, "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "config.v1+json"),
        "layers": [keep(data, "layer.v1.tar") for data in tars],
    }
    described = keep(json.dumps(manifest).encode(), "manifest.v1+json")
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def empty_container(directory: Path) -> Container:
    """A container of the executor image, before it builds anything."""
    made = Container(directory)
    for name in ("imagewright", "kaniko", "etc", "tmp"):
        (made.root / name).mkdir(parents=True)
    (made.root / "imagewright/executor-image").touch()
    (made.root / "etc/passwd").write_text("the executor's\n")
    made.file("etc/hosts", "127.0.0.1 localhost\n")
    return made

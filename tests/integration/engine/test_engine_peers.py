"""The same Dockerfiles built by the engine and by Debian's buildah: files, metadata and configuration are the same.

Both images are unpacked by umoci, which is neither's own code. What differs on purpose is named here, and why.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Engine

pytestmark = [pytest.mark.root, pytest.mark.registry]

Tree = dict[str, tuple[Any, ...]]
Files = Mapping[str, str | bytes]

CASES: dict[str, tuple[str, Files]] = {
    "run and whiteouts": (
        "FROM debian\nRUN rm /etc/issue && mkdir -p /a/b && echo x >/a/b/c && rm -r /usr/share/doc && mkdir /usr/share/doc\n",
        {},
    ),
    "modes owners and links": (
        "FROM busybox\nRUN mkdir -p /d && touch /d/f && chmod 4755 /d/f && chown 12:34 /d/f && ln /d/f /d/hard"
        " && ln -s f /d/soft && chmod 1777 /d && mkfifo /d/pipe && chown -h 5:6 /d/soft\n",
        {},
    ),
    "copy a folder": (
        "FROM busybox\nCOPY dir /target\nCOPY dir/ /other/\nCOPY dir/sub/x /single\nCOPY dir/sub/x /into/\n",
        {"dir/a": "1", "dir/sub/x": "2", "dir/.hidden": "3"},
    ),
    "copy with wildcards and ignore": (
        "FROM busybox\nCOPY *.txt /texts/\nCOPY d?r[0-9] /all/\nCOPY . /everything\n",
        {"one.txt": "1", "two.txt": "2", "dir1/a": "a", "dir2/b": "b", ".dockerignore": "dir2/b\n*.md\n!keep.md\n",
         "no.md": "n", "keep.md": "k"},
    ),
    "chown and chmod": (
        "FROM debian\nCOPY --chown=www-data:daemon f /a/\nCOPY --chown=7:8 --chmod=640 f /g\nCOPY --chown=9 d /c/\n",
        {"f": "1", "d/x": "2"},
    ),
    "copy from stages and images": (
        "FROM busybox AS one\nRUN mkdir /o && echo 1 >/o/f && ln /o/f /o/g && chown 3:4 /o/f && ln -s f /o/l\n"
        "FROM alpine\nCOPY --from=one /o /p\nCOPY --from=debian /etc/debian_version /v\n",
        {},
    ),
    "users and work folders": (
        "FROM debian\nRUN useradd -u 1500 -m me\nUSER me\nWORKDIR /home/me/x\nRUN id >who && umask >mask\nWORKDIR rel\nRUN touch here\n",
        {},
    ),
    "configuration": (
        'FROM busybox\nENV A=1 B="two words"\nENV C=$A-$B\nLABEL x=y "k k"="v v"\nEXPOSE 80 53/udp 8000-8001\nVOLUME /data /more\n'
        'STOPSIGNAL SIGINT\nENTRYPOINT ["/bin/sh","-c"]\nCMD ["echo hi"]\nUSER 5:6\nWORKDIR /\n'
        "HEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN echo later\n",
        {},
    ),
    # CMD in shell form is left out: the reference puts it through SHELL, as RUN, and buildah 1.28 through /bin/sh.
    "shell and forms": (
        'FROM debian\nSHELL ["/bin/bash","-o","pipefail","-c"]\nRUN echo $BASH_VERSION | grep -q . && echo ok >/ok\n'
        'RUN ["/bin/sh","-c","echo exec >/exec"]\nCMD ["exec","form"]\n',
        {},
    ),
    "arguments": (
        "ARG BASE=busybox\nARG G=global\nFROM $BASE\nARG G\nARG L=local\nENV E=${L:-none}\nRUN echo $G $L $E >/args\n"
        "LABEL l=${G}-${L:+set}\n",
        {},
    ),
    "replaced types": (
        "FROM busybox\nRUN mkdir -p /t/dir/sub && echo 1 >/t/file && ln -s dir /t/link\n"
        "RUN rm -r /t/dir && echo now-a-file >/t/dir && rm /t/file && mkdir /t/file && touch /t/file/x && rm /t/link && mkdir /t/link\n",
        {},
    ),
    "copy over what is there": (
        "FROM busybox\nRUN mkdir -p /t/d && echo old >/t/d/f && chmod 700 /t/d && ln -s d /t/link\n"
        "COPY d /t/d\nCOPY d/f /t/link/g\n",
        {"d/f": "new", "d/h": "more"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_image_equals_buildahs(engine: Engine, name: str) -> None:
    dockerfile, files = CASES[name]
    context = engine.context(dockerfile, files)
    built = engine.build(context)
    assert built.code == 0, built.stderr
    ours = unpack(engine.folder, "ours", built.layout)
    theirs = unpack(engine.folder, "theirs", buildah(engine, context))
    differences = {
        path: (ours[0].get(path), theirs[0].get(path))
        for path in sorted({*ours[0], *theirs[0]})
        if ours[0].get(path) != theirs[0].get(path) and not on_purpose(path)
    }
    assert not differences
    assert normal(ours[1]) == normal(theirs[1])


# buildah leaves the mount points of its own sandbox in the image; ours are taken away again.
_LEFT_BY_BUILDAH = frozenset(
    {"dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "run", "run/.containerenv", "run/secrets", "sys"}
)


# useradd writes a backup with the size and the modification time of the one before: buildah takes it for unchanged and
# leaves the old content in the image. A changed inode gives it away to us.
_MISSED_BY_BUILDAH = frozenset({"etc/group-"})


def on_purpose(path: str) -> bool:
    return path in _LEFT_BY_BUILDAH | _MISSED_BY_BUILDAH or path.startswith(("dev/", "proc/", "sys/"))


def buildah(engine: Engine, context: Path) -> Path:
    """The layout of buildah's image, in Docker's format: OCI's has no HEALTHCHECK, ONBUILD and SHELL for it."""
    folder = engine.folder / "buildah"
    folder.mkdir()
    config = folder / "registries.conf"
    config.write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{engine.host}"\ninsecure = true\n')
    common = ["buildah", f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs"]
    environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(config)}
    run([*common, "bud", "--isolation=chroot", "--layers=false", "--network=host", "--format=docker", "--tls-verify=false",
         "-t", "peer", str(context)], environment)  # fmt: skip
    run([*common, "push", "--format=docker", "peer", f"docker-archive:{folder}/peer.tar:peer:1"], environment)
    layout = folder / "layout"
    run(["skopeo", "copy", f"docker-archive:{folder}/peer.tar", f"oci:{layout}:1"], environment)
    # The configuration as Docker's format has it: converting to OCI drops some of it.
    raw = run(["skopeo", "inspect", "--config", "--raw", f"docker-archive:{folder}/peer.tar"], environment)
    (layout / "docker-config.json").write_text(raw)
    return layout


def unpack(folder: Path, name: str, layout: Path) -> tuple[Tree, dict[str, Any]]:
    """What umoci makes of a layout, and the configuration."""
    index = json.loads((layout / "index.json").read_text())
    manifest_file = layout / "blobs" / "sha256" / index["manifests"][0]["digest"].partition(":")[2]
    manifest = json.loads(manifest_file.read_text())
    config_file = layout / "docker-config.json"
    if not config_file.exists():
        config_file = layout / "blobs" / "sha256" / manifest["config"]["digest"].partition(":")[2]
    bundle = folder / f"bundle-{name}"
    tag = index["manifests"][0].get("annotations", {}).get("org.opencontainers.image.ref.name", "1")
    run(["umoci", "unpack", "--keep-dirlinks", "--image", f"{layout}:{tag}", str(bundle)], dict(os.environ))
    return walk(bundle / "rootfs"), json.loads(config_file.read_text())["config"]


def walk(root: Path) -> Tree:
    """Every path with type, mode, owner, device, link target, content, xattrs and the first name of its inode."""
    found: Tree = {}
    first: dict[tuple[int, int], str] = {}
    for parent, folders, files in os.walk(root):
        folders.sort()
        for entry in sorted([*folders, *files]):
            path = Path(parent, entry)
            name = str(path.relative_to(root))
            info = path.lstat()
            content: Any = ""
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            linked = first.setdefault((info.st_dev, info.st_ino), name) if not stat.S_ISDIR(info.st_mode) else name
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            xattrs = {key: value for key, value in xattrs.items() if not key.startswith("user.rootlesscontainers")}
            found[name] = (stat.filemode(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, content, linked, xattrs)
    return found


def normal(config: dict[str, Any]) -> dict[str, Any]:
    """Without what only one of both writes: buildah labels its images, and fills in what is empty."""
    kept: dict[str, Callable[[Any], Any]] = {
        "Env": sorted, "Cmd": list, "Entrypoint": list, "User": str, "WorkingDir": str, "ExposedPorts": sorted,
        "Volumes": sorted, "StopSignal": str, "Healthcheck": dict, "OnBuild": list, "Shell": list, "Labels": dict,
    }  # fmt: skip
    found = {key: shape(config[key]) for key, shape in kept.items() if config.get(key)}
    found.get("Labels", {}).pop("io.buildah.version", None)
    # A range of ports is one entry for each, as Docker writes them; buildah keeps the range.
    ports = [port for entry in found.get("ExposedPorts", []) for port in one_by_one(entry)]
    return {key: value for key, value in {**found, "ExposedPorts": sorted(ports)}.items() if value}


def one_by_one(ports: str) -> list[str]:
    numbers, _, protocol = ports.partition("/")
    first, _, last = numbers.partition("-")
    return [f"{number}/{protocol}" for number in range(int(first), int(last or first) + 1)]


def run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=dict(environment))
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
    return done.stdout

"""Someone who isn't root builds an image on a machine: with ranges of ids from /etc/subuid, and without.

The user exists in a mount namespace of the test's own only: the machine's /etc/passwd is not touched.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can"),
]

UID = 4242
NAME = "imagewright-test"
BUSYBOX = shutil.which("busybox") or "/bin/busybox"
DOCKERFILE = """\
FROM scratch
COPY --chown=0:0 busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "{command}"]
"""


@dataclass(frozen=True)
class Ended:
    code: int
    output: str


@dataclass(frozen=True)
class User:
    """``home`` is theirs; ``ranges`` says whether /etc/subuid gives them ids in addition to their own. ``restricted``:
    as in a Pod of Pod Security's level, where no program gives more rights than its caller has."""

    home: Path
    ranges: bool = True
    tools: bool = True
    restricted: bool = False

    def build(self, *flags: str, stdin: str = "") -> Ended:
        """Run ``imagewright build`` on the context in their home."""
        command = [sys.executable, "-m", "imagewright", "build", "--context", str(self.home / "context"), "--no-push"]
        words = [*command, "--work-dir", str(self.home / "work"), *flags]
        script = "\n".join(["set -eu", "mount --make-rprivate /", *self._account(), *self._interpreter()])
        rights = "--bounding-set=-all --no-new-privs" if self.restricted else ""
        run = f"exec setpriv --reuid={UID} --regid={UID} --clear-groups --inh-caps=-all {rights} -- {shlex.join(words)}"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"{script}\ncd {shlex.quote(str(self.home))}\n{run}"],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "LOGNAME": "root"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=stdin,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    def _account(self) -> Iterator[str]:
        """The user and the ranges, in copies of the machine's files."""
        line = f"{NAME}:x:{UID}:{UID}::{self.home}:/bin/sh\n"
        files = {
            "/etc/passwd": Path("/etc/passwd").read_text() + line,
            "/etc/subuid": f"{NAME}:300000:65536\n" if self.ranges else "",
            "/etc/subgid": f"{NAME}:300000:65536\n" if self.ranges else "",
        }
        for path, text in files.items():
            copy = self.home.parent / Path(path).name
            copy.write_text(text)
            copy.chmod(0o644)
            yield f"mount --bind {copy} {path}"
        if not self.tools:
            empty = self.home.parent / "empty"
            empty.touch(0o644)
            for tool in filter(None, map(shutil.which, ("newuidmap", "newgidmap"))):
                yield f"mount --bind {empty} {tool}"

    def _interpreter(self) -> Iterator[str]:
        """This interpreter may live where only root can go: there the user sees it alone."""
        base = Path(os.path.realpath(sys.base_prefix))
        closed = [folder for folder in base.parents if not folder.stat().st_mode & 0o001]
        if closed:
            top = closed[-1]
            stage = self.home.parent / "interpreter"
            below = stage / base.relative_to(top)
            yield f"mkdir -p {stage} && mount -t tmpfs -o mode=755 tmpfs {stage} && mkdir -p {below}"
            yield f"mount --bind {base} {below} && mount --rbind {stage} {top}"


@pytest.fixture
def place() -> Iterator[Path]:
    """pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="imagewright-user-"))
    folder.chmod(0o755)
    home = folder / "home"
    (home / "context").mkdir(parents=True)
    shutil.copy2(BUSYBOX, home / "context/busybox")
    yield home
    shutil.rmtree(folder)


def write(home: Path, command: str, *more: str) -> None:
    text = DOCKERFILE.format(command=command) + "".join(line + "\n" for line in more)
    (home / "context/Dockerfile").write_text(text)
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, UID)


def layers_of(layout: Path) -> list[list[str]]:
    """The names and owners in each layer of an OCI layout."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    found = []
    for layer in manifest["layers"]:
        listing = ["tar", "--list", "--verbose", "--gzip", "--numeric-owner", "--file", str(blob(layer["digest"]))]
        lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
        found.append([f"{line.split()[1]} {line.split()[-1]}" for line in lines])
    return found


def test_a_dockerfile_on_standard_input_is_still_there_in_the_namespace(place: Path) -> None:
    write(place, "exit 1")
    text = DOCKERFILE.format(command="/bin/busybox touch /made")
    ended = User(place).build("--dockerfile=-", "--oci-layout-path", str(place / "layout"), stdin=text)
    assert ended.code == 0, ended.output
    assert layers_of(place / "layout")[1] == ["0/0 made"]


def test_ids_of_etc_subuid_are_there(place: Path) -> None:
    write(place, "/bin/busybox touch /theirs && /bin/busybox chown 1000:1001 /theirs && /bin/busybox id -u")
    ended = User(place).build("--oci-layout-path", str(place / "layout"))
    assert ended.code == 0, ended.output
    assert "| 0" in ended.output
    layers = layers_of(place / "layout")
    assert "0/0 bin/busybox" in layers[0]
    assert layers[1] == ["1000/1001 theirs"]


def test_command_runs_as_another_user(place: Path) -> None:
    write(place, "true", "USER 1000:1001", 'RUN ["/bin/busybox", "id", "-u"]')
    ended = User(place).build()
    assert ended.code == 0, ended.output
    assert "| 1000" in ended.output


@pytest.mark.parametrize("lacking", ["ranges", "tools", "rights"])
def test_one_id_is_enough_for_images_of_root_alone(place: Path, lacking: str) -> None:
    write(place, "/bin/busybox id -u > /id")
    user = User(place, ranges=lacking != "ranges", tools=lacking != "tools", restricted=lacking == "rights")
    ended = user.build("--oci-layout-path", str(place / "layout"))
    assert ended.code == 0, ended.output
    assert "sandbox namespace: " in ended.output
    assert layers_of(place / "layout")[1] == ["0/0 id"]


def test_id_that_is_not_there_is_named(place: Path) -> None:
    write(place, "true", "USER 1000", 'RUN ["/bin/busybox", "id"]')
    ended = User(place, ranges=False).build()
    assert ended.code == 8, ended.output
    assert "[IdOutOfRange]" in ended.output
    assert "1000" in ended.output
    assert "/etc/subuid" in ended.output


def test_work_folder_is_left_empty(place: Path) -> None:
    write(place, "/bin/busybox mkdir -m 0 /closed && /bin/busybox touch /closed/file && /bin/busybox chown 7:7 /closed")
    ended = User(place).build()
    assert ended.code == 0, ended.output
    assert list((place / "work").iterdir()) == []

"""What the disk of a user without rights cannot hold is in the image nevertheless, byte for byte as root builds it.

As in a Pod of Pod Security ``restricted`` under the runtime's default seccomp profile.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from archives.tars import CHARACTER, FIFO, HARDLINK, Item, directory, hardlink, make_tar, symlink
from containers.restricted import UID, give_away, restricted

from imagewright.errors import SandboxError
from imagewright.sandbox.processes.connection import receive_request
from imagewright.sandbox.runner.container import RunnerListener

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becomes another user: needs root"),
]

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
ACL = "system.posix_acl_access"


def acl(owner: int, user: int, group: int, mask: int, others: int) -> bytes:
    """An ACL that gives user 7 rights, as the kernel stores it (posix_acl_xattr.h)."""
    entries = [(1, owner, -1), (2, user, 7), (4, group, -1), (16, mask, -1), (32, others, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def pax(name: str, value: bytes) -> dict[str, str]:
    return {f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")}


ITEMS = (
    directory("etc", uid=0, gid=0),
    Item("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\napp:x:70:71::/home:/bin/sh\n", uid=0, gid=0),
    Item("etc/group", data=b"app:x:71:\n", uid=0, gid=0),
    Item("etc/shadow", data=b"root:*::\n", mode=0o640, uid=0, gid=42),
    Item("secret", data=b"nobody reads this", mode=0, uid=1, gid=2),
    directory("closed", 0, uid=3, gid=4),
    Item("closed/inside", data=b"in a closed folder", mode=0o200, uid=5, gid=6),
    directory("tmp", 0o1777, uid=0, gid=0),
    directory("mail", 0o2775, uid=0, gid=8),
    Item("su", data=b"root's", mode=0o6755, uid=0, gid=12),
    hardlink("su-too", "su"),
    Item("ping", data=b"capable", mode=0o755, uid=0, gid=0, pax=pax("security.capability", CAPABILITY)),
    hardlink("ping-too", "ping"),
    Item("noted", data=b"with a note", uid=4_000_000_000, gid=13, pax=pax("user.note", b"a note")),
    Item("link", symlink("", "").type, link="secret", mode=0o777, uid=14, gid=15),
    Item("pipe", FIFO, mode=0o620, uid=16, gid=17),
    Item("null", CHARACTER, mode=0o666, uid=18, gid=19, device=(1, 3)),
    Item("disk", tarfile.BLKTYPE, mode=0o4660, uid=0, gid=6, device=(8, 1)),
    hardlink("disk-too", "disk"),
    directory("shelf", 0o070, uid=22, gid=23, pax=pax(ACL, acl(0, 6, 4, 6, 0))),
    Item("shared", data=b"by an ACL", mode=0o040, uid=20, gid=21, pax=pax(ACL, acl(0, 6, 4, 6, 0))),
)
BASE = make_tar(*ITEMS)
OVER = make_tar(
    directory("closed", 0o111, uid=30, gid=31),
    directory("shelf", 0o770, uid=22, gid=23, pax=pax(ACL, acl(7, 7, 5, 7, 0))),
    Item("null", data=b"a file now", mode=0o600, uid=32, gid=33),
    Item("secret", CHARACTER, mode=0o600, uid=34, gid=35, device=(1, 5)),
    Item("ping", data=b"no longer capable", mode=0o755, uid=0, gid=0),
)
DOCKERFILE = """\
FROM scratch AS base
ADD base.tar /
ADD --chown=50:51 base.tar /given
FROM base AS changed
ADD over.tar /
COPY --chown=app files /app
COPY --chmod=u=rwX,go= files /private
COPY --chmod=000 files/plain /none/
COPY files /files
COPY --chown=9:10 files /files
USER app
WORKDIR /work/below
FROM changed
COPY --from=base / /copied
COPY --from=base --chown=1:1 --chmod=2711 /closed /su /ping /chosen/
COPY --link --from=base /mail /linked/mail
COPY --link --from=base --chown=77 /secret /null /disk /linked/
COPY --from=base /closed /closed
COPY --from=base /secret /null /
ADD over.tar /copied
ADD over.tar /copied
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where root and the user build the same context. ``home`` is the user's own."""

    home: Path

    def build(self, flags: Sequence[str], *, user: bool) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imagewright", "build", f"--context={self.home / 'context'}", "--no-push"]
        command += [f"--work-dir={self.home / ('theirs' if user else 'work')}", "--reproducible", *flags]
        return subprocess.run(
            restricted(command, self.home / "interpreter") if user else command,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )

    def digest(self, *flags: str, user: bool) -> str:
        """The digest of the image that root or the user builds."""
        done = self.build(flags, user=user)
        assert done.returncode == 0, done.stderr
        recorded = (
            f"Operation not permitted (seccomp filter); owners and modes that user {UID} may not set are recorded"
        )
        assert (f"sandbox none: cannot create a user namespace: {recorded}" in done.stderr) == user
        return done.stdout

    def failure(self, *flags: str) -> str:
        """The log of a build of the user that fails."""
        done = self.build(flags, user=True)
        assert done.returncode, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def write(self, name: str, text: str) -> None:
        (self.home / "context" / name).write_text(text)


@pytest.fixture
def place() -> Iterator[Place]:
    """pytest's own folders are closed to others."""
    home = Path(tempfile.mkdtemp(prefix="imagewright-restricted-"))
    files = home / "context/files"
    (files / "below").mkdir(parents=True)
    for name, mode in (("plain", 0o644), ("su", 0o4755), ("own", 0o400), ("below/group", 0o2710)):
        (files / name).write_text(name)
        (files / name).chmod(mode)
    (files / "below").chmod(0o2500)
    (files / "sticky").mkdir(0o755)
    (files / "sticky").chmod(0o1755)
    os.setxattr(files / "su", "security.capability", CAPABILITY)
    (files / "link").symlink_to("su")
    os.link(files / "plain", files / "plain-too")
    (home / "context/base.tar").write_bytes(BASE)
    (home / "context/over.tar").write_bytes(OVER)
    (home / "context/Dockerfile").write_text(DOCKERFILE)
    give_away(home)
    os.setxattr(files / "own", ACL, acl(4, 6, 0, 6, 0))
    yield Place(home)
    shutil.rmtree(home)


@pytest.mark.parametrize("flags", [(), ("--single-snapshot",), ("--target=changed",), ("--target=base",)])
def test_image_is_byte_for_byte_that_of_root(place: Place, flags: tuple[str, ...]) -> None:
    assert place.digest(*flags, user=True) == place.digest(*flags, user=False)


def test_archive_as_a_context_keeps_what_the_disk_cannot_hold(place: Place) -> None:
    dockerfile = Item("Dockerfile", data=b"FROM scratch\nCOPY given /\nCOPY given/su /again/\n")
    (place.home / "context.tar").write_bytes(
        make_tar(
            dockerfile,
            directory("given"),
            *(
                replace(
                    item, name=f"given/{item.name}", link=f"given/{item.link}" if item.type == HARDLINK else item.link
                )
                for item in ITEMS
            ),
        )
    )
    context = f"--context=tar://{place.home / 'context.tar'}"
    assert place.digest(context, user=True) == place.digest(context, user=False)


def test_steps_are_found_in_the_cache_that_root_has_filled(place: Place) -> None:
    """Also a RUN, which this user could not execute; and the keys of COPY are the same, read from recorded files."""
    place.write(
        "Dockerfile",
        f'{DOCKERFILE}USER 0\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "id -u > /id; chmod 0 /id"]\nCOPY --from=changed / /last\n',
    )
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", place.home / "context/busybox")
    cache = ("--cache", "--cache-copy-layers", "--cache-run-layers", f"--cache-repo=oci:{place.home / 'cache'}")
    digest = place.digest(*cache, user=False)
    result = place.home / "result.json"
    give_away(place.home / "cache")
    assert place.digest(*cache, f"--result-file={result}", user=True) == digest
    steps = json.loads(result.read_text())["steps"]
    assert any("RUN" in step["name"] for step in steps)
    assert [step["name"] for step in steps if not step.get("cached") and "FROM" not in step["name"]] == []


def test_file_of_the_context_that_the_user_may_not_read_is_named(place: Place) -> None:
    place.write("Dockerfile", "FROM scratch\nCOPY files /\n")
    (place.home / "context/files/below/group").chmod(0)
    said = place.failure()
    assert 'error: cannot copy to "/": Permission denied' in said
    assert f'hint: Let user {UID} read "group" and the directories above, or run as root.' in said


def test_run_is_refused_before_anything_is_executed(place: Place) -> None:
    place.write("Dockerfile", "FROM scratch\nCOPY files /\nRUN true\n")
    said = place.failure()
    assert "[SandboxUnavailable]" in said
    assert "cannot execute RUN: cannot create a user namespace: Operation not permitted (seccomp filter)" in said
    assert "--> Dockerfile:3:1" in said
    assert "[stage-0" not in said
    assert "Localhost seccomp profile such as deploy/seccomp/imagewright.json" in said


def test_run_is_refused_only_when_it_is_reached(place: Place) -> None:
    """With a cache nobody knows before whether a RUN has to be executed. A stage that isn't needed has none."""
    place.write("Dockerfile", "FROM scratch AS unused\nRUN true\nFROM scratch\nCOPY files /\n")
    assert place.digest(user=True) == place.digest(user=False)
    place.write("Dockerfile", "FROM scratch\nCOPY files /\nRUN true\n")
    cache = ("--cache", f"--cache-repo=oci:{place.home / 'theirs/cache'}")
    said = place.failure(*cache)
    assert "COPY files /\n  done" in said
    assert "[SandboxUnavailable]" in said
    assert "--> Dockerfile:3:1" in said


@contextmanager
def runner_of_such_a_pod(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A runner that connects to the socket in the place's home."""
    path = place.home / "socket"
    code = f"import sys; from imagewright.sandbox.runner import server; sys.exit(server.serve_from_container('{path}'))"
    command = restricted([sys.executable, "-c", code], place.home / "interpreter")
    with subprocess.Popen(
        command, cwd=place.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as runner:
        try:
            yield runner
        finally:
            runner.kill()


def test_runner_of_such_a_pod_sleeps_until_its_engine_ends(place: Place) -> None:
    """Its engine never asks it to run a command, and it may not write to its own root."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(place.home / "socket"))
        (place.home / "socket").chmod(0o777)
        engine.listen()
        with runner_of_such_a_pod(place) as runner:
            line, _ = engine.accept()
            with line:
                assert receive_request(line) == (b"", []), "it has no root to give"
                line.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    line.recv(1)
            assert (runner.communicate(timeout=60)[0], runner.returncode) == ("", 0)


def test_runner_of_such_a_pod_is_no_help_to_an_engine_that_needs_one(place: Place) -> None:
    listener = RunnerListener(str(place.home / "socket"))
    (place.home / "socket").chmod(0o777)
    with runner_of_such_a_pod(place) as runner:
        with pytest.raises(SandboxError, match="does not run as root"):
            listener.accept()
        assert (runner.communicate(timeout=60)[0], runner.returncode) == ("", 0)

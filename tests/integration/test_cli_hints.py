"""A failure's hint names its cause: what the kernel said no to, and to whom."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagebuilds.waiting import eventually

from imagewright.contract import REQUEST_ENV
from imagewright.contract.request import BuildRequest, ContextSettings, OutputSettings
from imagewright.contract.sources import ConfigMapSource

BUSYBOX = shutil.which("busybox")
SETPRIV = shutil.which("setpriv")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or BUSYBOX is None, reason="runs commands: needs root and busybox"),
]
BUILD = [sys.executable, "-m", "imagewright", "build", "--no-push"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """busybox; an executable file that is not a program; one that may not be."""
    folder = tmp_path / "context"
    folder.mkdir()
    assert BUSYBOX is not None
    shutil.copy2(BUSYBOX, folder / "busybox")
    (folder / "foreign").write_bytes(b"\x7fELF of another world")
    (folder / "foreign").chmod(0o755)
    (folder / "plain").write_text("#!/bin/sh\n")
    return folder


def failure(context: Path, text: str, *flags: str, before: tuple[str, ...] = ()) -> str:
    """The log's end, from ``error:`` on."""
    (context / "Dockerfile").write_text(f"FROM scratch\n{text}\n")
    command = [*before, *BUILD, f"--context={context}", *flags]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return "error:" + done.stderr.partition("error:")[2]


LONG = "x" * 200_000
SHELL = "COPY busybox /bin/sh\n"
ON_DISK = 'RUN ["/plain"]'  # a RUN needs the files of the steps before it


@pytest.mark.parametrize("sandbox", ["namespace", "chroot"])
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f"{SHELL}RUN : {LONG}", "one argument, and this command has 195 KiB. COPY it as a script"),
        (f"{SHELL}ENV BIG={LONG}\nRUN true", "one variable, and BIG has 195 KiB. Put its value into a file"),
        ("COPY busybox /bin/\nCOPY busybox /bin/sh\nRUN /bin/busybox : $(yes | head -c 7000000)", "Use xargs or find"),
        ('COPY foreign /\nRUN ["/foreign"]', "Check that the program is for this architecture"),
        ('COPY plain /\nRUN ["/plain"]', "Check its mode"),
        ('COPY --chmod=755 plain /\nRUN ["/plain"]', "its interpreter (#! line)"),
        ("COPY plain /\nRUN true", 'The image has no "/bin/sh"'),
        (f"{SHELL}RUN nothing", "Install the command in an earlier step"),
        (f"{SHELL}WORKDIR /w\nRUN chmod 700 /w\nUSER 7\nRUN true", "enter WORKDIR"),
    ],
)
def test_of_a_command(context: Path, sandbox: str, text: str, hint: str) -> None:
    assert hint in failure(context, text, f"--sandbox={sandbox}").partition("hint:")[2]


needs_setpriv = pytest.mark.skipif(SETPRIV is None, reason="needs setpriv")


def without(*capabilities: str) -> tuple[str, ...]:
    """What runs a command as root without some of root's capabilities."""
    less = ",".join(f"-{name}" for name in capabilities)
    return ("setpriv", f"--bounding-set={less}", f"--inh-caps={less}", "--")


@needs_setpriv
@pytest.mark.parametrize(
    ("missing", "named"),
    [(("chown",), "Add CHOWN to"), (("fowner",), "Add FOWNER to"), (("chown", "fowner"), "Add CHOWN, FOWNER to")],
)
def test_root_without_a_capability_is_told_which(context: Path, missing: tuple[str, ...], named: str) -> None:
    text = f"COPY --chown=7:8 --chmod=600 plain /\n{ON_DISK}"
    said = failure(context, text, "--sandbox=chroot", before=without(*missing))
    assert f"hint: {named}" in said
    assert "Run as root" not in said


@needs_setpriv
def test_root_that_may_not_change_its_user(context: Path) -> None:
    said = failure(context, f"{SHELL}USER 7\nRUN true", "--sandbox=chroot", before=without("setuid"))
    assert "cannot run as 7:0: Operation not permitted" in said
    assert "hint: Add the capabilities SETUID and SETGID to the container" in said


@needs_setpriv
def test_id_without_a_range_of_ids(context: Path) -> None:
    """A namespace that holds one id, as an ordinary user without ranges gets it."""
    said = failure(
        context, f"COPY --chown=7 plain /\n{ON_DISK}", "--sandbox=chroot", before=("unshare", "--map-root-user")
    )
    assert "maps only the users 0 and the groups 0" in said
    assert "hint: Run as root, or as a user with ranges in /etc/subuid" in said


# Becomes what its arguments say, as root of a user namespace of 1,000 ids.
NAMESPACE = """
import os, sys
from imagewright.sandbox.kernel import linux
ready, go = os.pipe()
process = os.getpid()
mapper = os.fork()
if mapper == 0:
    os.close(go)
    os.read(ready, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write("0 0 1000")
    os._exit(0)
linux.unshare(linux.CLONE_NEWUSER)
os.close(go)
assert os.waitpid(mapper, 0)[1] == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_id_beyond_the_namespace_s_ids(context: Path) -> None:
    said = failure(
        context, f"COPY --chown=5000 plain /\n{ON_DISK}", "--sandbox=chroot", before=(sys.executable, "-c", NAMESPACE)
    )
    assert "maps only the users 0-999 and the groups 0-999" in said
    assert "hint: Use mapped ids" in said


def test_a_helper_that_is_killed_from_outside(context: Path, tmp_path: Path) -> None:
    """As by a RUN that kills what it sees: it isn't blamed on memory alone."""
    (context / "Dockerfile").write_text(f"FROM scratch\n{SHELL}COPY busybox /bin/sleep\nRUN echo begun; sleep 600\n")
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*BUILD, f"--context={context}", "--sandbox=chroot"], env=ENVIRONMENT, stderr=out)
    try:
        eventually(lambda: "| begun" in log.read_text())
        for helper in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(helper), signal.SIGKILL)
        assert process.wait() == 8, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "[SandboxUnavailable]" in log.read_text()
    assert "the command killed it, as `kill -9 -1` and `pkill` do" in log.read_text()


# What an ordinary user is told where no further namespaces are allowed.
NO_MORE = NAMESPACE.replace(
    "os.execvp(sys.argv[1], sys.argv[1:])",
    """
from imagewright.sandbox.rootless import enter_user_namespace_if_needed
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.setresgid(7, 7, 7)
os.setresuid(7, 7, 7)
refusal = enter_user_namespace_if_needed()
assert refusal is not None
print(refusal.render())
""",
)


def test_exhausted_user_namespaces() -> None:
    said = subprocess.run([sys.executable, "-c", NO_MORE], capture_output=True, text=True, check=True).stdout
    assert "cannot create a user namespace" in said
    assert "hint: Run as root, or allow more user namespaces: sysctl user.max_user_namespaces." in said


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk without space."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        (folder / "fill").write_bytes(bytes(64 << 10))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_cache_directory_on_a_full_disk(context: Path, full: Path) -> None:
    text = f"{SHELL}FROM scratch\n{SHELL}RUN --mount=type=cache,target=/c,from=0 true"
    said = failure(context, text, f"--cache-dir={full}")
    assert "[DiskFull]" in said
    assert (
        "hint: Free some space there, or name another place with --cache-dir (ImageBuild: spec.cache.volume)." in said
    )


def test_work_directory_too_small_for_a_config_map(context: Path, full: Path) -> None:
    """The disk is at fault, not the ConfigMap."""
    request = BuildRequest(
        context=ContextSettings(source=ConfigMapSource(path=str(context))),
        output=OutputSettings(push=False),
        work_dir=str(full),
    )
    environment = {**ENVIRONMENT, REQUEST_ENV: request.encode()}
    command = [sys.executable, "-m", "imagewright", "execute"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "[DiskFull]" in done.stdout, done.stdout
    assert "hint: Give the build a larger work directory" in done.stdout


@pytest.mark.parametrize("flag", ["tar-path", "oci-layout-path", "digest-file"])
def test_outputs_on_a_full_disk(context: Path, full: Path, flag: str) -> None:
    said = failure(context, "COPY plain /", f"--{flag}={full}/{flag}")
    assert "[OutputFailed]" in said
    assert f"hint: Free space there, or use another path for --{flag}." in said

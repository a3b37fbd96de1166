"""A secret that a RUN mounts is seen by that RUN and appears nowhere else, whatever the RUN does with its output.

The same with a private key behind an agent. Bytes are looked for in every usual encoding (``leaks.needles``).
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imagebuilds.waiting import eventually
from leaks.needles import Needles

from imagewright.contract.request import (
    BuildRequest,
    ContextSettings,
    OutputSettings,
    RegistryAccess,
    RegistrySettings,
    RunSettings,
    SandboxKind,
    SecretSource,
    SshSource,
)
from imagewright.contract.sources import DirectorySource

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

# It prints what it can, whole, in two pieces, without a line's end and on standard error; and fails where it should not
# see.
PRINTS = """\
FROM busybox
ARG VERSION=1
RUN --mount=type=secret,id=token sha256sum /run/secrets/token | grep -q {digest}
RUN --mount=type=secret,id=token cat /run/secrets/token; echo; cat /run/secrets/token >&2; echo "<$(cat /run/secrets/token)>"
RUN --mount=type=secret,id=token head -c 11 /run/secrets/token; sleep 0.3; tail -c +12 /run/secrets/token; sleep 0.1; echo
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=cache,target=/cache echo "$TOKEN"; env; test -d /cache; touch /cache/x
RUN --mount=type=secret,id=token,target=/root/.npmrc,mode=0440,uid=7,gid=8 \\
    test "$(stat -c '%a %u %g' /root/.npmrc)" = "440 7 8"; cat /root/.npmrc
RUN --mount=type=secret,id=text,target=/text cat /text; while read -r line; do echo "$line"; sleep 0.1; done </text
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"
RUN --mount=type=secret,id=variable cat /run/secrets/variable; echo
RUN test -z "$TOKEN"; test ! -e /run/secrets; test ! -e /root/.npmrc; test ! -e /text; test ! -e /cache; echo made >/made
"""
FAILS = """\
FROM busybox
RUN --mount=type=secret,id=token --mount=type=secret,id=text,target=/text --mount=type=secret,id=variable,env=VARIABLE \\
    cat /text; echo "wrong: $VARIABLE"; echo "the password is $(cat /run/secrets/token)"; exit 3
"""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of a build, and the search for them."""

    token: str
    needles: Needles
    flags: tuple[str, ...]
    environment: dict[str, str]

    def dockerfile(self, text: str) -> str:
        return text.replace("{digest}", hashlib.sha256(self.token.encode()).hexdigest())


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """Secrets in files, with and without a final line feed, in a variable, and a private key, outside the searched
    folders.
    """
    folder = tmp_path / "given"
    folder.mkdir()
    token, variable = f"token-{uuid.uuid4().hex}", f"variable-{uuid.uuid4()}"
    text = "".join(f"line {number} is {uuid.uuid4().hex}\n" for number in range(3))
    (folder / "token").write_text(token)
    (folder / "text").write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    key = "".join((folder / "key").read_text().splitlines()[2:-1])  # the first line of all such keys is the same
    flags = (
        f"--secret=id=token,src={folder / 'token'}",
        f"--secret=id=text,src={folder / 'text'}",
        "--secret=id=variable,env=MY_SECRET",
        f"--ssh=default={folder / 'key'}",
        f"--cache-dir={tmp_path / 'cache'}",
    )
    return Secrets(token, Needles(token, variable, text, key), flags, {"MY_SECRET": variable})


@pytest.mark.parametrize("sandbox", ["namespace", "chroot"])
def test_a_mounted_secret_that_is_printed_appears_nowhere(engine: Engine, secrets: Secrets, sandbox: str) -> None:
    context = engine.context(secrets.dockerfile(PRINTS))
    archive = engine.folder / "image.tar"
    flags = (f"--sandbox={sandbox}", "--verbosity=trace", f"--tar-path={archive}", *secrets.flags)
    built = engine.build(context, *flags, env=secrets.environment)
    assert built.code == 0, built.stderr
    assert built.stderr.count("***") >= 10, built.stderr
    assert secrets.needles.in_text(built.stdout + built.stderr) == set()
    assert secrets.needles.in_files([built.layout, archive, engine.folder / "cache", engine.folder / "work"]) == []
    history = json.dumps(built.config)
    assert "/run/secrets/token | grep" in history, "the history has the commands"


@pytest.mark.parametrize("sandbox", ["namespace", "chroot"])
def test_layers_contain_nothing_of_a_mount(engine: Engine, secrets: Secrets, sandbox: str) -> None:
    """Not even a mount point."""
    context = engine.context(secrets.dockerfile(PRINTS))
    built = engine.build(context, f"--sandbox={sandbox}", *secrets.flags, env=secrets.environment)
    assert built.code == 0, built.stderr
    names = []
    for layer in built.manifest["layers"][1:]:
        path = built.layout / "blobs" / "sha256" / layer["digest"].partition(":")[2]
        names += subprocess.run(["tar", "-tzf", path], check=True, capture_output=True, text=True).stdout.split()
    assert names == ["made"]


@pytest.mark.parametrize("log_format", ["text", "json", "color"])
def test_the_error_of_a_run_does_not_show_it_in_any_log_format(
    engine: Engine, secrets: Secrets, log_format: str
) -> None:
    built = engine.build(engine.context(FAILS), f"--log-format={log_format}", *secrets.flags, env=secrets.environment)
    assert built.code != 0
    assert "the password is ***" in built.stderr, "the message's last words"
    assert "wrong: ***" in built.stderr, "the last lines of its output"
    assert secrets.needles.in_text(built.stdout + built.stderr) == set()


@pytest.mark.parametrize("text", [PRINTS, FAILS], ids=["prints", "fails"])
def test_the_live_display_does_not_show_it(engine: Engine, secrets: Secrets, text: str) -> None:
    context = engine.context(secrets.dockerfile(text))
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={context}", "--no-push", *secrets.flags,
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder / 'work'}",
    ]  # fmt: skip
    shown = "".join(_on_a_terminal(command, {**os.environ, **secrets.environment, "TERM": "xterm"}))
    assert "***" in shown
    assert secrets.needles.in_text(shown) == set()


def _on_a_terminal(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment):
        os.close(slave)
        try:
            while data := os.read(master, 65536):
                yield data.decode("utf-8", "replace")
        except OSError:  # EIO: nobody has the other end open any more
            pass
        finally:
            os.close(master)


@pytest.mark.parametrize("text", [PRINTS, FAILS], ids=["prints", "fails"])
def test_log_and_result_for_the_operator_do_not_show_it(engine: Engine, secrets: Secrets, text: str) -> None:
    """The Pod's log and the result in its last line, which becomes the ImageBuild's status."""
    given = engine.folder / "given"
    request = BuildRequest(
        context=ContextSettings(source=DirectorySource(path=str(engine.context(secrets.dockerfile(text))))),
        run=RunSettings(
            sandbox=SandboxKind.NAMESPACE,
            secrets=(
                SecretSource(id="token", file=str(given / "token")),
                SecretSource(id="text", file=str(given / "text")),
                SecretSource(id="variable", env="MY_SECRET"),
            ),
            ssh=(SshSource(paths=(str(given / "key"),)),),
        ),
        registry=RegistryAccess(hosts=(RegistrySettings(host="docker.io", endpoint=engine.host),)),
        output=OutputSettings(destinations=(f"{engine.host}/test/told:1",)),
        work_dir=str(engine.folder / "work"),
    ).encode()
    environment = {**os.environ, **secrets.environment, "IMAGEWRIGHT_REQUEST": request}
    done = subprocess.run(
        [sys.executable, "-m", "imagewright", "execute"], env=environment, capture_output=True, text=True, check=False
    )
    result = json.loads(done.stdout.splitlines()[-1])["imagewrightResult"]
    assert ("failure" in result) == (text is FAILS), done.stdout
    assert len(result["steps"]) > 1
    assert secrets.needles.in_text(done.stdout + done.stderr + request) == set()


def test_plan_does_not_show_it(engine: Engine, secrets: Secrets) -> None:
    context = engine.context(secrets.dockerfile(PRINTS))
    command = [
        sys.executable, "-m", "imagewright", "plan", f"--context={context}", *secrets.flags,
        f"--registry-endpoint=docker.io={engine.host}",
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, **secrets.environment}, capture_output=True, text=True, check=True
    )
    assert "secret" in done.stdout
    assert secrets.needles.in_text(done.stdout + done.stderr) == set()


def test_a_killed_engine_leaves_no_secret_on_disk(engine: Engine, secrets: Secrets) -> None:
    """In the namespace mode a secret is in memory alone, so that no tidying up is needed."""
    dockerfile = (
        "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=secret,id=text,target=/etc/text "
        "--mount=type=cache,target=/c cat /run/secrets/token; touch /c/started; sleep 600\n"
    )
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={engine.context(dockerfile)}", "--no-push",
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder / 'work'}", "--sandbox=namespace",
        *secrets.flags,
    ]  # fmt: skip
    log = engine.folder / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env={**os.environ, **secrets.environment}, stdout=out, stderr=out) as process,
    ):
        eventually(lambda: list((engine.folder / "cache").rglob("started")), "the RUN")
        held = secrets.needles.in_files([engine.folder / "work", engine.folder / "cache"])
        process.send_signal(signal.SIGKILL)
    assert held == []
    assert secrets.needles.in_files([engine.folder / "work", engine.folder / "cache", log]) == []

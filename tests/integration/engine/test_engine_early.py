"""Layers are uploaded as soon as they are known, while later steps run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from servers.forking import Forking
from servers.registry import RegistryServer, RegistryServerOptions
from servers.scripted import Answer, Asked, ScriptedServer

pytestmark = [pytest.mark.root, pytest.mark.registry]

PROGRAM = [sys.executable, "-m", "imagewright"]
PATIENCE_S = 45  # for what takes less than a second


@dataclass(slots=True)
class Gate:
    """A registry, and a file server whose one file, ``/gate``, comes when ``opens`` is set.

    ``opens`` is set by an upload, or by the test. ``refuse`` may answer a request in another way.
    """

    refuse: Callable[[Asked], Answer | None] = lambda _: None
    by_upload: bool = True
    stored: list[str] = field(default_factory=list)
    opens: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)  # for the file

    def __call__(self, asked: Asked) -> Answer:
        where, _, query = asked.path.partition("?")
        refused = self.refuse(asked)
        if refused is not None:
            return refused
        if where == "/gate":
            self.asked.set()
            return Answer(body=b"open") if self.opens.wait(PATIENCE_S) else Answer(404)
        if asked.method == "POST":
            return Answer(202, {"Location": f"{where}1"})
        if asked.method == "PUT":
            if "/blobs/" in where:
                self.stored.append(query)
                if self.by_upload:
                    self.opens.set()
            return Answer(201)
        return Answer(200 if where == "/v2/" else 404)


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    log: str

    @property
    def failure(self) -> list[str]:
        """What the log says of it; which of several blobs was the first to fail doesn't matter."""
        lines = self.log.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("error"))
        return [re.sub("sha256:[0-9a-f]{64}", "BLOB", line) for line in lines[first:]]


class Builds:
    def __init__(self, folder: Path, process: Forking) -> None:
        self.folder = folder
        self.process = process
        self.context = folder / "context"
        self.context.mkdir()
        for name in ("a", "b"):
            (self.context / name).write_text(name)

    def command(self, dockerfile: str, *flags: str) -> Sequence[str]:
        (self.context / "Dockerfile").write_text(dockerfile)
        work = f"--work-dir={self.folder}/work"
        return ["build", f"--context={self.context}", work, "--reproducible", "--log-format=text", *flags]

    def run(self, dockerfile: str, *flags: str) -> Ended:
        done = self.process.run(self.command(dockerfile, *flags), os.environ)
        assert "Traceback" not in done.stderr, done.stderr
        assert list((self.folder / "work").glob("*")) == []
        return Ended(done.returncode, done.stderr)

    @contextmanager
    def running(self, dockerfile: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
        command = [*PROGRAM, *self.command(dockerfile, *flags)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def builds(tmp_path: Path, process: Forking) -> Builds:
    return Builds(tmp_path, process)


GATED = "FROM scratch\nCOPY a /\nADD http://{0}/gate /\n"


def test_a_layer_is_uploaded_while_the_next_step_runs(builds: Builds) -> None:
    """The step ends when the registry has the layer before it."""
    gate = Gate()
    with ScriptedServer(gate) as server:
        ended = builds.run(GATED.format(server.host), f"--destination={server.host}/app:1")
        assert ended.code == 0, ended.log
        assert len(gate.stored) == len(set(gate.stored)) == 3  # two layers and the configuration
        assert server.log[-1] == "PUT /v2/app/manifests/1"


@pytest.mark.parametrize("flag", ["--no-push", "--skip-push-permission-check"])
def test_nothing_is_uploaded_early_where_it_was_not_made_sure_that_it_may_be(builds: Builds, flag: str) -> None:
    gate = Gate()
    gate.opens.set()
    with ScriptedServer(gate) as server:
        ended = builds.run(GATED.format(server.host), f"--destination={server.host}/app:1", flag)
        assert ended.code == 0, ended.log
        before = server.log[: server.log.index("GET /gate") + 1]
        assert before == ["GET /gate"]
        assert bool(gate.stored) == (flag != "--no-push")


def test_only_layers_of_the_image_are_uploaded(builds: Builds) -> None:
    gate = Gate()
    text = "FROM scratch AS tools\nCOPY a /\nCOPY b /\nFROM scratch AS base\nCOPY --from=tools /a /x\nFROM base\nCOPY b /\n"
    with ScriptedServer(gate) as server:
        layout = builds.folder / "layout"
        cache = ("--cache", "--cache-copy-layers", f"--cache-repo=oci:{builds.folder}/cache")  # wants all layers
        ended = builds.run(text, f"--destination={server.host}/app:1", f"--oci-layout-path={layout}", *cache)
        assert ended.code == 0, ended.log
    blobs = {path.name for path in (layout / "blobs/sha256").iterdir()}
    sent = {query.rpartition("%3A")[2] for query in gate.stored}
    assert len(sent) == 3
    assert len(blobs - sent) == 1  # the manifest
    assert sent < blobs


def test_a_step_that_fails_leaves_no_image(builds: Builds) -> None:
    gate = Gate()
    with ScriptedServer(gate) as server:
        text = GATED.format(server.host) + "COPY missing /\n"
        ended = builds.run(text, f"--destination={server.host}/app:1")
        assert ended.code != 0
        assert "missing" in ended.log
        assert gate.stored
        assert not [line for line in server.log if "/manifests/" in line]


DENIED = b'{"errors": [{"code": "DENIED", "message": "no blobs today"}]}'


@pytest.mark.parametrize("status", [403, 413])
def test_a_registry_that_refuses_blobs_fails_the_push_and_not_the_step(builds: Builds, status: int) -> None:
    """With the error of a push at the end."""

    def refuse(asked: Asked) -> Answer | None:
        if asked.method == "PUT" and "/blobs/" in asked.path:
            gate.opens.set()
            return Answer(status, body=DENIED)
        return None

    ends = []
    for flags in ((), ("--skip-push-permission-check",)):
        gate = Gate(refuse)
        if flags:
            gate.opens.set()
        with ScriptedServer(gate) as server:
            text = GATED.format(server.host)
            ended = builds.run(text, f"--destination={server.host}/app:1", "--push-retry=0", *flags)
            assert not [line for line in server.log if "/manifests/" in line]
        ends.append((ended.code, [line.replace(server.host, "HOST") for line in ended.failure]))
    assert ends[0] == ends[1]
    assert ends[0][0] != 0


def test_a_failure_that_passes_is_not_seen(builds: Builds) -> None:
    refusals = 1

    def refuse(asked: Asked) -> Answer | None:
        nonlocal refusals
        if asked.method == "PUT" and refusals:
            refusals -= 1
            gate.opens.set()
            return Answer(403, body=DENIED)
        return None

    gate = Gate(refuse)
    with ScriptedServer(gate) as server:
        ended = builds.run(GATED.format(server.host), f"--destination={server.host}/app:1")
        assert ended.code == 0, ended.log
        assert "no blobs today" not in ended.log
        assert len(set(gate.stored)) == 3


def test_a_login_that_expires_while_the_build_runs_is_renewed(builds: Builds) -> None:
    """No token is accepted any more that is older than the last step."""
    issued, expired = 0, 0

    def refuse(asked: Asked) -> Answer | None:
        nonlocal issued, expired
        if asked.path.startswith("/token"):
            issued += 1
            return Answer(body=json.dumps({"token": f"token{issued}"}).encode())
        if asked.path == "/gate":
            expired = issued
        if asked.path.startswith("/v2/app/") and int(asked.authorization.removeprefix("Bearer token") or 0) <= expired:
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token",service="test"'})
        return None

    gate = Gate(refuse)
    with ScriptedServer(gate) as server:
        ended = builds.run(GATED.format(server.host), f"--destination={server.host}/app:1")
        assert ended.code == 0, ended.log
        assert len(set(gate.stored)) == 3
        assert issued > expired > 0


def test_a_destination_that_may_not_be_pushed_to_is_told_before_anything_is_built(builds: Builds) -> None:
    with ScriptedServer(lambda asked: Answer(403 if asked.method == "POST" else 404)) as server:
        ended = builds.run("FROM scratch\nCOPY a /\n", f"--destination={server.host}/app:1")
        assert ended.code != 0
        assert "RegistryAuthFailed" in ended.log
        assert "COPY" not in ended.log
        assert [line for line in server.log if "/app/" in line] == ["POST /v2/app/blobs/uploads/"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_build_whose_upload_is_not_answered(builds: Builds, sent: signal.Signals) -> None:
    """While a step runs. No image is published, also if nothing is left that could clean up."""
    reached, over = threading.Event(), threading.Event()

    def refuse(asked: Asked) -> Answer | None:
        if asked.method == "PUT":
            reached.set()
            over.wait()
        return None

    gate = Gate(refuse)
    with ScriptedServer(gate) as server:
        text = GATED.format(server.host)
        with builds.running(text, f"--destination={server.host}/app:1") as process:
            try:
                assert reached.wait(PATIENCE_S)
                assert gate.asked.wait(PATIENCE_S)
                process.send_signal(sent)
                log = process.communicate(timeout=PATIENCE_S)[1]
            finally:
                over.set()
                gate.opens.set()
        if sent is signal.SIGTERM:
            assert process.returncode == 130, log
            assert "[Cancelled]" in log
            assert "Traceback" not in log
            assert list((builds.folder / "work").glob("*")) == []
        assert not [line for line in server.log if "/manifests/" in line]


# --- base images


@pytest.fixture
def empty(programs: Path, tmp_path: Path) -> Iterator[RegistryServer]:
    """A registry that has nothing."""
    with RegistryServer(RegistryServerOptions(tmp_path / "empty", programs / "registry")) as server:
        yield server


def requests(server: RegistryServer, pattern: str) -> list[str]:
    """The digests, or what else is last in the pattern, of requests in the server's log."""
    return re.findall(rf'"{pattern}', server.log.read_text())


BASED = {
    "a link": "FROM busybox\nCOPY --link a /a\n",
    "a copy": "FROM busybox\nCOPY a /etc/\n",
    "a run": 'FROM busybox\nRUN ["true"]\nCOPY a /etc/\n',
    "a copy after other stages": "FROM busybox AS x\nRUN echo >/x\nFROM busybox\nCOPY --from=x /x /etc/\n",
}


@pytest.mark.parametrize("text", BASED.values(), ids=BASED)
def test_the_layers_of_a_base_that_the_destination_lacks_are_downloaded_once(
    builds: Builds, bases: RegistryServer, empty: RegistryServer, text: str
) -> None:
    before = len(requests(bases, r"GET \S+/busybox/blobs/(\S+)"))
    endpoint = f"--registry-endpoint=docker.io={bases.host}"
    ended = builds.run(text, endpoint, f"--destination={empty.host}/app:1")
    assert ended.code == 0, ended.log
    got = requests(bases, r"GET \S+/busybox/blobs/(\S+)")[before:]
    assert len(got) == len(set(got)) == 2  # its configuration and its layer
    puts = requests(empty, r"PUT \S+/blobs/uploads/\S+digest=(\S+?)[ &\"]")
    assert len(puts) == len(set(puts)) == 3  # both layers and the configuration
    assert builds.run(text, endpoint, f"--destination={empty.host}/app:2").code == 0
    assert len(requests(empty, r"PUT \S+/blobs/uploads/")) == 4  # nothing but the configuration, again


@pytest.mark.parametrize("text", BASED.values(), ids=BASED)
def test_the_layers_of_a_base_in_the_destination_s_registry_are_mounted(
    builds: Builds, bases: RegistryServer, text: str
) -> None:
    number = list(BASED.values()).index(text)
    before = len(requests(bases, r"GET \S+/busybox/blobs/(\S+)"))
    ended = builds.run(
        text, f"--registry-endpoint=docker.io={bases.host}", f"--destination={bases.host}/early/{number}:1"
    )
    assert ended.code == 0, ended.log
    got = len(requests(bases, r"GET \S+/busybox/blobs/(\S+)")) - before
    assert got == (1 if "--link" in text else 2)  # its configuration, and its layer where a step needs its files
    assert len(requests(bases, rf"PUT /v2/early/{number}/blobs/uploads/")) == 2


def test_a_layer_that_the_cache_stores_in_the_same_registry_is_sent_once(builds: Builds, empty: RegistryServer) -> None:
    ended = builds.run(
        "FROM scratch\nCOPY a /\nWORKDIR /w\n",
        "--cache", "--cache-copy-layers", f"--cache-repo={empty.host}/cache", f"--destination={empty.host}/app:1",
    )  # fmt: skip
    assert ended.code == 0, ended.log
    assert len(requests(empty, "PUT /v2/app/blobs/uploads/")) == 1  # the configuration
    mounts = requests(empty, r"POST /v2/app/blobs/uploads/\?mount=(\S+?)&")
    assert len(mounts) == len(set(mounts)) == 2
    assert requests(empty, r"HEAD /v2/app/blobs/(\S+)") == []


def test_the_work_folder_may_be_full(builds: Builds, bases: RegistryServer, empty: RegistryServer) -> None:
    """A base's layer that can't be kept is downloaded again."""
    work = builds.folder / "work"
    work.mkdir()
    command = builds.command(
        BASED["a copy"], f"--registry-endpoint=docker.io={bases.host}", f"--destination={empty.host}/app:1"
    )
    before = len(requests(bases, r"GET \S+/busybox/blobs/(\S+)"))
    script = 'mount -t tmpfs -o size=512k,nr_inodes=60 tmpfs "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(work), *PROGRAM, *command],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(requests(bases, r"GET \S+/busybox/blobs/(\S+)")) - before == 3

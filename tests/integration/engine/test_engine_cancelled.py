"""SIGTERM, by which the time-out of an ImageBuild reaches the engine, while a server says nothing: the engine ends.

In each phase the server keeps the connection open and is silent, for as long as the engine lives.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.scripted import Answer, Asked, ScriptedServer

pytestmark = pytest.mark.root

PATIENCE_S = 45  # less than the silence that the engine bears: a minute for an answer, ten for that to an upload
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


LAYER = b"\0" * 10240  # an empty tar
CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]}}
).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(CONFIG),
            "size": len(CONFIG),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(LAYER), "size": len(LAYER)}
        ],
    }
).encode()


class Silence:
    """A registry, file server and git server that gives no answer to the first request that ``begins`` like this."""

    def __init__(self, begins: str) -> None:
        self._begins = begins
        self.reached, self.over = threading.Event(), threading.Event()
        self.server = ScriptedServer(self._answer)

    def _answer(self, asked: Asked) -> Answer:
        if f"{asked.method} {asked.path}".startswith(self._begins):
            self.reached.set()
            self.over.wait()
        return self._registry(asked)

    @staticmethod
    def _registry(asked: Asked) -> Answer:
        where = asked.path.partition("?")[0]
        known = {digest(CONFIG): CONFIG, digest(LAYER): LAYER}
        if where == "/v2/":
            return Answer()
        if where.startswith("/v2/base/manifests/"):
            return Answer(headers={"Content-Type": MANIFEST_TYPE}, body=MANIFEST)
        if where.startswith("/v2/base/blobs/"):
            return Answer(body=known[where.rpartition("/")[2]])
        if asked.method == "POST":
            return Answer(202, {"Location": f"{where}1"})
        if asked.method in ("PUT", "PATCH"):
            return Answer(201 if asked.method == "PUT" else 202, {"Location": where})
        return Answer(404)


@pytest.fixture
def silence() -> Iterator[Callable[[str], Silence]]:
    made: list[Silence] = []

    def start(begins: str) -> Silence:
        made.append(Silence(begins))
        return made[-1]

    yield start
    for one in made:
        one.over.set()
        one.server.close()


BASE = "FROM {0}/base:1\n"
TWO = "FROM scratch AS a\nADD http://{0}/a /\nFROM scratch AS b\nADD http://{0}/b /\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n"
# The request that gets no answer, the Dockerfile, and flags.
PHASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "the base's manifest": ("GET /v2/base/manifests", BASE, ()),
    "the base's configuration": (f"GET /v2/base/blobs/{digest(CONFIG)}", BASE, ()),
    "the base's layer": (f"GET /v2/base/blobs/{digest(LAYER)}", f"{BASE}WORKDIR /a\n", ()),
    "ADD": ("GET /file", "FROM scratch\nADD http://{0}/file /\n", ()),
    "ADD in two stages": ("GET /b", TWO, ()),
    "ADD from git": ("GET /a.git", "FROM scratch\nADD http://{0}/a.git /\n", ()),
    "the context": ("GET /context", "", ("--context=http://{0}/context.tar.gz",)),
    "the context from git": ("GET /a.git", "", ("--context=http://{0}/a.git",)),
    "a look at the cache": ("GET /v2/cache", f"{BASE}WORKDIR /a\n", ("--cache", "--cache-repo={0}/cache")),
    "an upload to the cache": (
        "PUT /v2/cache", "FROM scratch\nRUN x\nCOPY . /\n", ("--cache", "--cache-copy-layers", "--cache-repo={0}/cache"),
    ),
    "the check of the push": ("POST /v2/app", "FROM scratch\nCOPY . /\n", ("--destination={0}/app:1",)),
    "the push of a layer": ("PUT /v2/app/blobs", "FROM scratch\nCOPY . /\n", ("--destination={0}/app:1",)),
    "the push of the manifest": ("PUT /v2/app/manifests", "FROM scratch\nCOPY . /\n", ("--destination={0}/app:1",)),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_the_engine_ends_although_a_server_says_nothing(
    silence: Callable[[str], Silence], tmp_path: Path, phase: str
) -> None:
    begins, dockerfile, flags = PHASES[phase]
    other = silence(begins)
    host = other.server.host
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile.replace("RUN x\n", "").format(host))
    (context / "file").write_text("x")
    given = [flag.format(host) for flag in flags]
    if not any(flag.startswith("--context") for flag in given):
        given.append(f"--context={context}")
    if not any(flag.startswith("--destination") for flag in given):
        given.append("--no-push")
    command = [sys.executable, "-m", "imagewright", "build", f"--work-dir={tmp_path / 'work'}", *given]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not other.reached.wait(0.2):
                assert process.poll() is None, process.communicate()[1]
            process.terminate()
            log = process.communicate(timeout=PATIENCE_S)[1]
        finally:
            process.kill()
    assert process.returncode == 130, log
    assert "[Cancelled]" in log
    assert "Traceback" not in log
    assert list((tmp_path / "work").glob("*")) == []

"""SIGTERM, by which the time-out of an ImageBuild reaches the engine, while a server says nothing: the engine ends.

In each phase the server keeps the connection open and is silent, for as long as the engine lives. However many threads
wait for it, and whatever for, they are waited for once.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engineruns.cancelled import PATIENCE_S, cancelled
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright import workers
from imagewright.engine.stages.schedule import STILL_S

pytestmark = pytest.mark.root

WAITED = "seconds waited in vain:"
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


# How long the main thread was ready to wait for others, in vain, is printed in the end.
COUNTED = f"""
import atexit, threading
from imagewright.__main__ import main
granted, join, this = [], threading.Thread.join, threading.current_thread()
def counted(thread, timeout=None):
    join(thread, timeout)
    if timeout and thread.is_alive() and threading.current_thread() is this:
        granted.append(timeout)
threading.Thread.join = counted
atexit.register(lambda: print("{WAITED}", sum(granted), file=__import__("sys").stderr))
main()
"""


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
    "a mount that is not waited for before": (
        "POST /v2/app/blobs/uploads/?mount", f"{BASE}COPY . /\n", ("--destination={0}/app:1",)
    ),
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
    command = [sys.executable, "-c", COUNTED, "build", f"--work-dir={tmp_path / 'work'}", *given]
    log = cancelled(command, tmp_path / "work", lambda running: running.wait_for(other.reached.wait))
    assert float(log.rpartition(WAITED)[2]) <= workers.PATIENCE_S + STILL_S


# What a signal would have to come between otherwise: two instructions of the C library.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    static int sent;
    if (timeout_ms > 30000 && getpid() == gettid() && !sent++)
        kill(getpid(), SIGTERM);
    return ((int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(fds, count, timeout_ms);
}
"""


@pytest.mark.parametrize("words", [("build", "--no-push"), ("pin", "--check")], ids=["a build", "a first process"])
def test_a_signal_just_before_the_engine_waits_ends_the_wait(
    silence: Callable[[str], Silence], tmp_path: Path, words: tuple[str, ...]
) -> None:
    host = silence("GET").server.host
    (tmp_path / "Dockerfile").write_text(f"FROM {host}/base:1\n")
    (tmp_path / "shim.c").write_text(SHIM)
    shim = str(tmp_path / "shim.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    command = ["env", f"LD_PRELOAD={shim}", sys.executable, "-m", "imagewright", *words]
    if words[0] == "build":
        command += [f"--context={tmp_path}", f"--work-dir={tmp_path / 'work'}"]
    else:
        command = ["unshare", "--pid", "--fork", "--kill-child", *command, str(tmp_path / "Dockerfile")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == (130 if words[0] == "build" else 128 + signal.SIGTERM), done.stderr

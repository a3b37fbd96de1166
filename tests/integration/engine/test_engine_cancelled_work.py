"""SIGTERM while the engine computes: every loop over foreign data ends, in whichever thread it is.

The data have no end: only the signal can end the build.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives.tars import Item, make_tar
from engineruns.cancelled import Running, cancelled
from servers.scripted import Answer, Asked, ScriptedServer

pytestmark = pytest.mark.root

TYPES = "application/vnd.oci.image"
ENDLESS_BYTES = 1 << 40
DIGEST = f"sha256:{'a' * 64}"  # what has no end has none
CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}
).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": f"{TYPES}.manifest.v1+json",
        "config": {
            "mediaType": f"{TYPES}.config.v1+json",
            "digest": f"sha256:{hashlib.sha256(CONFIG).hexdigest()}",
            "size": len(CONFIG),
        },
        "layers": [{"mediaType": f"{TYPES}.layer.v1.tar+gzip", "digest": DIGEST, "size": ENDLESS_BYTES}],
    }
).encode()
# Files that replace each other, so that only time is used up: 1,024 entries, in two thousand bytes.
ENTRIES = gzip.compress(make_tar(*(Item(f"d/{number % 8}") for number in range(1024)))[: 1024 * 512])


class Endless:
    """A registry whose images have an endless layer, and a file server with an endless archive."""

    def __init__(self) -> None:
        self._sent = threading.Semaphore(0)
        self.over = threading.Event()
        self.server = ScriptedServer(self._answer)

    def wait(self, running: Running, streams: int) -> None:
        """Until the engine is in the midst of all streams."""
        for _ in range(50 * streams):
            running.wait_for(lambda seconds: self._sent.acquire(timeout=seconds))

    def _answer(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        if path == "/v2/":
            return Answer()
        if "/manifests/" in path:
            return Answer(headers={"Content-Type": f"{TYPES}.manifest.v1+json"}, body=MANIFEST)
        if path.endswith((DIGEST, ".tar.gz")):
            return Answer(length=ENDLESS_BYTES, stream=self._entries())
        return Answer(body=CONFIG) if "/blobs/" in path else Answer(404)

    def _entries(self) -> Iterator[bytes]:
        while not self.over.wait(0.02):  # faster than they are unpacked
            yield ENTRIES
            self._sent.release()


@pytest.fixture
def endless() -> Iterator[Endless]:
    made = Endless()
    yield made
    made.over.set()
    made.server.close()


BASES = "FROM {0}/a:1 AS a\n%s\nFROM {0}/b:1 AS b\n%s\nFROM scratch\nCOPY --from=a /d /a\nCOPY --from=b /d /b\n"
# How many streams there are, the Dockerfile, and flags.
PHASES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "unpacking": (1, "FROM {0}/a:1\nRUN true\n", ()),
    "indexing": (1, "FROM {0}/a:1\nCOPY . /\n", ()),
    "an image that is copied from": (1, "FROM scratch\nCOPY --from={0}/a:1 /d /\n", ()),
    "the context": (1, "", ("--context=http://{0}/context.tar.gz",)),
    "unpacking in two stages": (2, BASES % ("RUN true", "RUN true"), ()),
    "indexing in two stages": (2, BASES % ("COPY . /", "COPY . /"), ()),
}


@pytest.mark.parametrize("phase", PHASES)
def test_the_engine_ends_although_its_work_does_not(endless: Endless, tmp_path: Path, phase: str) -> None:
    streams, dockerfile, flags = PHASES[phase]
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile.format(endless.server.host))
    given = [flag.format(endless.server.host) for flag in flags] or [f"--context={context}"]
    command = [sys.executable, "-m", "imagewright", "build", f"--work-dir={tmp_path / 'work'}", "--no-push", *given]
    cancelled(command, tmp_path / "work", lambda running: endless.wait(running, streams))

"""Two hundred builds through a network that cuts connections: the right digest or a clear error, always an end.

``IMAGEWRIGHT_SEED`` repeats a run; the seed and the counts are printed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.cutting_proxy import CuttingProxy
from servers.registry import RegistryServer
from servers.registryclient import Client

pytestmark = [pytest.mark.root, pytest.mark.registry]

BUILDS = 200
KINDS = 8  # of contexts, each with its own digest
REASONS = {"RegistryUnavailable", "RegistryProtocolError", "BaseImagePullFailed", "PushFailed"}
MAX_RSS_KIB = 300 * 1024
# A process counts what its parent had in memory when it was forked, and that of tests is large: a small one stands
# between.
MEASURE = (
    "import resource, subprocess, sys\n"
    "subprocess.run(sys.argv[2:], check=False)\n"
    "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
)
HANGS_S = 300  # far above any sum of retries


@dataclass(frozen=True, slots=True)
class Ended:
    """``digest`` is of a successful build, ``reason`` of a failed one. ``rss_kib`` is the peak of the process."""

    kind: int
    digest: str
    reason: str
    rss_kib: int


def build(folder: Path, kind: int, registry: str, name: str, *flags: str) -> Ended:
    result = folder / f"result-{name}"
    log = folder / f"log-{name}"
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={folder / f'context-{kind}'}", "--reproducible",
        f"--destination={registry}/cut/{name}:1", f"--build-arg=BASE={registry}/cut/base:1", f"--result-file={result}",
        f"--work-dir={folder / 'work'}", "--sandbox=chroot", *flags,
    ]  # fmt: skip
    peak = folder / f"peak-{name}"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", MEASURE, str(peak), *command], stdout=out, stderr=out)
        try:
            process.wait(HANGS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode != -9, f"{name} hung:\n{log.read_text()[-3000:]}"
    assert "Traceback" not in log.read_text(), log.read_text()
    said = json.loads(result.read_text())
    return Ended(kind, said.get("digest", ""), said.get("failure", {}).get("reason", ""), int(peak.read_text()))


def test_every_build_ends_in_the_right_digest_or_a_clear_error(registry: RegistryServer, tmp_path: Path) -> None:
    seed = int(os.environ.get("IMAGEWRIGHT_SEED") or random.randrange(1 << 32))
    content = random.Random(seed)
    base = tmp_path / "context-base"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM scratch\nCOPY a /a\nCOPY b /b\n")
    for name in ("a", "b"):
        (base / name).write_bytes(content.randbytes(400_000))
    for kind in range(KINDS):
        folder = tmp_path / f"context-{kind}"
        folder.mkdir()
        (folder / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY file /file\nWORKDIR /made\n")
        (folder / "file").write_bytes(content.randbytes(300_000))
    pushed = subprocess.run(
        [sys.executable, "-m", "imagewright", "build", f"--context={base}", f"--destination={registry.host}/cut/base:1"],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert pushed.returncode == 0, pushed.stderr
    right = [build(tmp_path, kind, registry.host, f"right-{kind}").digest for kind in range(KINDS)]
    assert len(set(right)) == KINDS

    with CuttingProxy(("127.0.0.1", registry.port), seed, rate=0.35) as proxy, ThreadPoolExecutor(4) as pool:
        numbers = range(BUILDS)
        ended = list(pool.map(lambda n: build(tmp_path, n % KINDS, proxy.host, f"cut-{n}"), numbers))
    client = Client()
    for number, each in enumerate(ended):  # what a build says is one thing, what the registry has another
        if each.digest:
            name = f"{registry.host}/cut/cut-{number}:1"
            found = client.resolve(name)
            assert str(found.manifest.digest) == each.digest, f"seed {seed}"
            with client.puller.open_blob(found, found.manifest.layers[-2]) as stream:
                while stream.read(1 << 20):
                    pass
    wrong = [each for each in ended if each.digest and each.digest != right[each.kind]]
    reasons = Counter(each.reason or "right digest" for each in ended)
    peak = max(each.rss_kib for each in ended)
    print(f"seed {seed}: {proxy.connections} connections, {proxy.cuts} cut; {dict(reasons)}; peak {peak} KiB")
    assert not wrong, f"seed {seed}"
    assert set(reasons) <= REASONS | {"right digest"}, f"seed {seed}"
    assert proxy.cuts >= BUILDS // 2, "the network was too good to show anything"
    # Most get through: that is what retries are for.
    assert reasons["right digest"] >= BUILDS * 0.8, f"seed {seed}: {reasons}"
    assert peak < MAX_RSS_KIB

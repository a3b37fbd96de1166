"""RUN --mount=type=cache between builds: one cache folder for several builds, one of which is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imagebuilds.waiting import eventually

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]


@contextmanager
def building(engine: Engine, name: str, dockerfile: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A build in the background, and its log."""
    context, log = engine.folder / name, engine.folder / f"{name}.log"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={context}", "--no-push",
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder / f'work-{name}'}",
        f"--cache-dir={engine.folder / 'cache'}", "--sandbox=namespace",
    ]  # fmt: skip
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process, log
        finally:
            process.kill()


def locked(script: str) -> str:
    return f"FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked {script}\n"


def test_a_locked_cache_is_free_again_after_its_build_is_killed(engine: Engine) -> None:
    """The kernel releases a lock with its process, so the next build needs no clean-up."""
    with ExitStack() as stack:
        first, _ = stack.enter_context(building(engine, "first", locked("echo 1 >/c/first; sleep 600")))
        eventually(lambda: list((engine.folder / "cache").rglob("first")), "the first RUN")
        second, log = stack.enter_context(building(engine, "second", locked("echo found $(cat /c/first); ls /c")))
        eventually(lambda: b'waiting for cache "/c"' in log.read_bytes(), "the second's message")
        assert second.poll() is None
        first.send_signal(signal.SIGKILL)
        assert second.wait() == 0, log.read_text()
        assert "found 1" in log.read_text()


def test_a_second_private_cache_is_created_while_the_first_is_in_use(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=private {}\n"
    with building(engine, "first", dockerfile.format("echo 1 >/c/first; sleep 600")):
        eventually(lambda: list((engine.folder / "cache").rglob("first")), "the first RUN")
        with building(engine, "second", dockerfile.format("test ! -e /c/first")) as (second, log):
            assert second.wait() == 0, log.read_text()


def test_no_id_leads_out_of_the_cache_folder(engine: Engine) -> None:
    ids = ("../../escape", "/etc", "a/../../b", ".", "x" * 500, "\u00e9\u00df")
    runs = "".join(f"RUN --mount=type=cache,target=/c,id={id_} echo {number} >/c/n\n" for number, id_ in enumerate(ids))
    built = engine.build(engine.context(f"FROM busybox\n{runs}"), f"--cache-dir={engine.folder / 'cache'}")
    assert built.code == 0, built.stderr
    folders = {name for name in os.listdir(engine.folder / "cache") if not name.endswith((".lock", ".making"))}
    found = folders - {"indexes"}  # of layers: no cache mount's
    assert len(found) == len(ids)
    assert sorted((engine.folder / "cache" / name / "n").read_text() for name in found) == [
        f"{number}\n" for number in range(len(ids))
    ]

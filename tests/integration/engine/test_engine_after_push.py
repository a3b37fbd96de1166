"""Once an image is pushed, its build has succeeded: what can't be removed or written afterwards is a warning. Its
result is written before anything is removed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imagebuilds.waiting import eventually

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

DIG = "i=0; while [ $i -lt {levels} ]; do mkdir {name} && cd -P {name} || exit 1; i=$((i+1)); done"


@pytest.mark.parametrize(("levels", "name"), [(1500, "d"), (600, "d" * 60)], ids=["deep", "longer than any path"])
def test_a_deep_cache_mount(engine: Engine, levels: int, name: str) -> None:
    result = engine.folder / "result.json"
    mount = f"RUN --mount=type=cache,target=/c cd /c && {DIG.format(levels=levels, name=name)}\n"
    built = engine.image(f"FROM busybox\n{mount}", {}, f"--result-file={result}")
    assert json.loads(result.read_text())["digest"] == built.digest


def test_a_file_that_cannot_be_written_any_more(engine: Engine) -> None:
    result = engine.folder / "result.json"
    built = engine.image("FROM busybox\n", {}, "--digest-file=/dev/full", f"--result-file={result}")
    assert "after the image was pushed: cannot write the file /dev/full" in built.stderr
    assert json.loads(result.read_text())["references"] == [f"{built.name}@{built.digest}"]


@pytest.mark.parametrize("flag", ["--digest-file", "--image-name-with-digest-file", "--result-file"])
def test_a_file_that_can_never_be_written_is_noticed_before_the_push(engine: Engine, flag: str) -> None:
    for path in ("/proc/file", str(engine.folder)):
        built = engine.build(engine.context("FROM busybox\n"), f"{flag}={path}")
        assert built.code == 6
        assert flag in built.stderr
        assert "pushed" not in built.stderr


def test_the_result_is_written_before_the_clean_up(engine: Engine) -> None:
    """A pipe is read while the engine waits: an eviction may come while a large work folder is removed."""
    pipe = engine.folder / "result"
    os.mkfifo(pipe)
    seen: list[bool] = []

    def read() -> None:
        with pipe.open() as result:
            seen.append(any((engine.folder / "work").iterdir()))
            seen.append("sha256:" in json.load(result)["digest"])

    reader = threading.Thread(target=read)
    reader.start()
    engine.image("FROM busybox\n", {}, f"--result-file={pipe}")  # which checks that nothing is left
    reader.join()
    assert seen == [True, True]


def test_nothing_is_left_if_the_result_cannot_be_written(engine: Engine) -> None:
    """A pipe that nobody reads, until the build is cancelled."""
    pipe, digest = engine.folder / "result", engine.folder / "digest"
    os.mkfifo(pipe)
    context = engine.context("FROM busybox\n")
    command = [
        sys.executable, "-m", "imagewright", "build", f"--context={context}", "--no-push",
        f"--registry-endpoint=docker.io={engine.host}", f"--work-dir={engine.folder}/work", f"--digest-file={digest}",
        f"--result-file={pipe}",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        eventually(digest.exists, "the digest")
        eventually(lambda: "wait_for_partner" in Path(f"/proc/{process.pid}/wchan").read_text(), "the open of the pipe")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 130
    assert not list((engine.folder / "work").iterdir())


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("FROM busybox\nRUN false\n", []),
        ("FROM busybox\nUNKNOWN\n", []),
        ("FROM busybox\n", ["--destination=127.0.0.1:1/app"]),
        ("FROM busybox\n", ["--image-format=docker", "--compression=zstd"]),
    ],
    ids=["step", "Dockerfile", "push", "flags"],
)
def test_no_digest_of_an_earlier_build_remains_after_a_failure(engine: Engine, text: str, flags: list[str]) -> None:
    names = ("digest-file", "image-name-with-digest-file", "image-name-tag-with-digest-file")
    for name in names:
        (engine.folder / name).write_text("stale")
    built = engine.build(engine.context(text), *(f"--{name}={engine.folder}/{name}" for name in names), *flags)
    assert built.code != 0
    assert [name for name in names if (engine.folder / name).exists()] == []


def test_a_log_is_no_digest_of_an_earlier_build(engine: Engine) -> None:
    log = engine.folder / "log"
    context = engine.context("FROM busybox\nRUN false\n")
    command = [sys.executable, "-m", "imagewright", "build", f"--context={context}", "--no-push"]
    command += [f"--registry-endpoint=docker.io={engine.host}", "--digest-file=/dev/stderr"]
    with log.open("w") as out:
        subprocess.run(command, stderr=out, check=False)
    assert "sandbox" in log.read_text()

"""The root in the Pod's other container: what commands change of the runner's own is noticed, at no cost."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from imagewright.engine.steps.runnerroot import RunnerRoot
from imagewright.errors import Reason, SandboxError
from imagewright.plan.steps import RunStep
from imagewright.sandbox.model import BuildDirectory, RunnerContainer

OWN = "imagewright/runner"
STEP = cast("RunStep", None)  # which one it is does not matter


@pytest.fixture
def container(tmp_path: Path) -> Path:
    for name in ("scratch", "sources", "rootfs"):
        (tmp_path / OWN / name).mkdir(parents=True)
    (tmp_path / "imagewright/bin").mkdir()
    (tmp_path / "imagewright/bin/python").write_text("program")
    return tmp_path


@pytest.fixture
def root(container: Path) -> RunnerRoot:
    runner = RunnerContainer(str(container), b"", OWN, f"/{OWN}/sources")
    return RunnerRoot(BuildDirectory(str(container), "/"), runner)


def refused(root: RunnerRoot) -> bool:
    try:
        root.before_run(STEP)
    except SandboxError as error:
        return error.reason is Reason.NOT_ISOLATED
    return False


def test_what_the_runner_itself_writes_is_no_change(root: RunnerRoot, container: Path) -> None:
    (container / OWN / "scratch/run-1").mkdir()
    (container / OWN / "sources/file").write_text("source")
    (container / "other").write_text("the image's")
    assert not refused(root)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new program": lambda at: (at / "imagewright/bin/sh").write_text("evil"),
    "a new content": lambda at: (at / "imagewright/bin/python").write_text("evil"),
    "another mode": lambda at: (at / "imagewright/bin/python").chmod(0o700),
    "a missing one": lambda at: (at / "imagewright/bin/python").unlink(),
    "none at all": lambda at: (at / "imagewright").rename(at / "away"),
    "a directory of its own": lambda at: (at / OWN / "more").mkdir(),
    "a moved directory of its own": lambda at: (at / OWN / "scratch").rename(at / "away"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused(root: RunnerRoot, container: Path, name: str) -> None:
    CHANGES[name](container)
    assert refused(root)


@pytest.mark.parametrize("name", ["", "/scratch", "/rootfs"])
def test_no_other_directory_gets_the_number_of_one_that_was_removed(
    root: RunnerRoot, container: Path, name: str
) -> None:
    """File systems give the number of a removed directory to the next, as long as nobody has it open."""
    path = container / f"{OWN}{name}"
    number = path.stat().st_ino
    for below in path.iterdir():
        below.rmdir()
    path.rmdir()
    for at in range(100):
        (made := container / f"new-{at}").mkdir()
        if made.stat().st_ino == number:
            made.rename(path)
    assert refused(root)


def test_what_a_command_adds_is_not_read_to_its_end(root: RunnerRoot, container: Path) -> None:
    for at in range(3000):
        (container / "imagewright/bin" / f"{at}").touch()
    tracemalloc.start()
    try:
        assert refused(root)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert len(os.listdir(container / "imagewright/bin")) == 3001

"""Once an image is pushed, its build has succeeded: what can't be removed or written afterwards is a warning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

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

"""``--timings``: the trace of real builds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

DOCKERFILE = "FROM busybox\nRUN echo one >/one\nCOPY files /files\n"


def spans(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


def kinds(path: Path) -> Counter[str]:
    return Counter(event["cat"] for event in spans(path))


def test_a_build_tells_where_its_time_went(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.json"
    built = engine.image(DOCKERFILE, {"files/a": "a"}, f"--timings={path}", "--verbosity=debug")
    found = spans(path)
    count = kinds(path)
    assert count["step"] == 3
    assert count["run"] == count["copy"] == count["download"] == count["inflate"] == count["unpack"] == 1
    assert count["scan"] == 2  # before and after the RUN
    assert count["pack"] == count["compress"] == 2
    assert count["upload"] == 2  # the base's layer is mounted
    for kind in ("start", "sandbox", "check push", "fetch", "parse", "plan", "resolve", "push", "write", "clean up"):
        assert count[kind] == 1, kind
    layers = [layer["size"] for layer in built.manifest["layers"]]
    by_kind = {kind: [event for event in found if event["cat"] == kind] for kind in count}
    assert [event["args"]["bytes"] for event in by_kind["download"]] == layers[:1]
    sent = [event["args"]["bytes"] for event in by_kind["upload"] if event["args"]]
    assert sorted(sent) == sorted(layers[1:])
    # What overlaps is in threads of its own.
    assert by_kind["download"][0]["tid"] != by_kind["inflate"][0]["tid"] != by_kind["unpack"][0]["tid"]
    assert {event["tid"] for event in by_kind["pack"]}.isdisjoint(event["tid"] for event in by_kind["compress"])
    lines = built.stderr.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("timings: "))
    assert {line.split()[0] for line in lines[first + 2 :]} <= {word.split()[0] for word in count}
    assert len(lines) == first + 2 + len(count)


def test_the_number_of_spans_does_not_depend_on_the_number_of_files(engine: Engine, tmp_path: Path) -> None:
    """So timing costs nothing that could be measured."""
    few, many = tmp_path / "few.json", tmp_path / "many.json"
    engine.image(DOCKERFILE, {"files/a": "a"}, f"--timings={few}")
    engine.image(DOCKERFILE, {f"files/{n}": "a" * 4000 for n in range(800)}, f"--timings={many}")
    assert kinds(few) == kinds(many)


def test_a_cached_build_shows_its_lookups(engine: Engine, tmp_path: Path) -> None:
    path, flags = tmp_path / "t.json", ("--cache", f"--cache-repo=oci:{tmp_path}/cache")
    engine.image(DOCKERFILE, {"files/a": "a"}, *flags, f"--timings={path}")
    assert kinds(path)["store"] == 2  # layers, and their indexes
    engine.image(DOCKERFILE, {"files/a": "a"}, *flags, f"--timings={path}")
    count = kinds(path)
    assert count["look up"] == 2
    assert count["run"] == count["copy"] == count["unpack"] == count["pack"] == 0


def test_a_failed_build_has_its_trace(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    context = engine.context("FROM busybox\nRUN exit 3\nRUN never\n")
    built = engine.build(context, f"--timings={path}")
    assert built.code != 0
    count = kinds(path)
    assert count["run"] == 1
    assert count["step"] == 2
    assert count["push"] == 0


def test_a_file_that_cannot_be_written_fails_before_anything_is_built(engine: Engine, tmp_path: Path) -> None:
    built = engine.build(engine.context("FROM busybox\nRUN never\n"), f"--timings={tmp_path}")
    assert "[OutputFailed]" in built.stderr
    assert "--timings" in built.stderr
    assert "RUN never" not in built.stderr


def test_a_stage_that_is_built_upon_and_copied_from(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    engine.image(
        "FROM busybox AS a\nRUN echo 1 >/1\nFROM a\nRUN echo 2 >/2\nCOPY --from=a /1 /3\n", {}, f"--timings={path}"
    )
    assert kinds(path)["move"] >= 1

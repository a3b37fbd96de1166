"""Several caches of layers in one build: which are read and in which order, and that only one is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

GZIP = b"\x1f\x8b"
DOCKERFILE = "FROM scratch\nCOPY a /a\nCOPY b /b\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    cached: list[bool]
    layers: list[str]
    log: str


Build = Callable[..., Outcome]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build ``DOCKERFILE``, or another, with other contents of ``b`` if given."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "a").write_text("a")

    def run(*flags: str, b: str = "b", dockerfile: str = DOCKERFILE) -> Outcome:
        (context / "Dockerfile").write_text(dockerfile)
        (context / "b").write_text(b)
        layout = tmp_path / "layout"
        command = [
            sys.executable, "-m", "imagewright", "build", str(context), "--no-push", f"--oci-layout-path={layout}",
            f"--work-dir={tmp_path / 'work'}", "--log-format=json", "--cache", "--explain-cache", "--reproducible", *flags,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        steps = [
            event.get("cached", False) for event in events if event["event"] == "stepEnded" and "COPY" in event["msg"]
        ]
        manifest = json.loads(blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]))
        return Outcome(steps, [layer["digest"] for layer in manifest["layers"]], done.stderr)

    return run


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cache_that_is_only_looked_up_is_not_written(build: Build, tmp_path: Path) -> None:
    """As pull requests use the cache of the main branch."""
    main = tmp_path / "main"
    build(f"--cache-repo=oci:{main}")
    before = files(main)
    outcome = build(f"--cache-from=oci:{main}", b="changed by a pull request")
    assert outcome.cached == [True, False]
    assert files(main) == before
    assert build(f"--cache-from=oci:{main}", b="changed by a pull request").cached == [True, False]


def test_layers_of_a_pull_request_are_stored_in_its_own_cache(build: Build, tmp_path: Path) -> None:
    main, own = tmp_path / "main", tmp_path / "own"
    build(f"--cache-repo=oci:{main}")
    before = files(main)
    flags = (f"--cache-from=oci:{own}", f"--cache-from=oci:{main}", f"--cache-to=oci:{own}")
    first = build(*flags, b="changed")
    assert first.cached == [True, False]
    again = build(*flags, b="changed")
    assert again.cached == [True, True], "one layer of each cache"
    assert again.layers == first.layers
    assert files(main) == before
    assert build(f"--cache-repo=oci:{own}", f"--cache-from=oci:{main}", b="changed").cached == [True, True]
    assert build(f"--cache-repo=oci:{main}").cached == [True, True], "main goes on as before"


def test_a_cache_that_is_only_stored_is_not_looked_up(build: Build, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for _ in range(2):
        assert build(f"--cache-to=oci:{target}").cached == [False, False]
    assert build(f"--cache-from=oci:{target}").cached == [True, True]


def test_the_first_cache_with_an_entry_wins(build: Build, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    build(f"--cache-repo=oci:{first}")
    build(f"--cache-repo=oci:{second}")
    sources = (f"--cache-from=oci:{first}", f"--cache-from=oci:{second}")
    for file in second.rglob("*"):
        file.is_file() and file.unlink()  # nothing of it is read
    outcome = build(*sources)
    assert outcome.cached == [True, True]
    assert "ignoring" not in outcome.log
    assert "cannot read" not in outcome.log


def test_a_damaged_entry_is_taken_from_the_next_cache(build: Build, tmp_path: Path) -> None:
    damaged, whole = tmp_path / "damaged", tmp_path / "whole"
    expected = build(f"--cache-repo=oci:{damaged}").layers
    build(f"--cache-repo=oci:{whole}")
    index = json.loads((damaged / "index.json").read_text())
    for manifest in index["manifests"]:
        (damaged / "blobs" / manifest["digest"].replace(":", "/")).write_text("{}")
    outcome = build(f"--cache-from=oci:{damaged}", f"--cache-from=oci:{whole}")
    assert outcome.cached == [True, True]
    assert outcome.layers == expected
    assert f"ignoring an entry of the cache oci:{damaged}" in outcome.log


def test_a_damaged_layer_of_a_later_cache_restarts_the_build_once(build: Build, tmp_path: Path) -> None:
    """It shows only when the layer is unpacked, here for a COPY from the stage that was cached."""
    empty, damaged = tmp_path / "empty", tmp_path / "damaged"
    build(f"--cache-repo=oci:{empty}", dockerfile="FROM scratch\nCOPY b /other\n")
    build(f"--cache-repo=oci:{damaged}", dockerfile="FROM scratch\nCOPY a /a\n")
    for blob_file in (damaged / "blobs/sha256").iterdir():
        if blob_file.read_bytes().startswith(GZIP):
            blob_file.write_bytes(bytes(blob_file.stat().st_size))
    copied = "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a /b\n"
    outcome = build(f"--cache-from=oci:{empty}", f"--cache-from=oci:{damaged}", dockerfile=copied)
    assert outcome.log.count(f"ignoring an entry of the cache oci:{damaged}") == 1
    assert outcome.log.count("starting over without that cache entry") == 1
    assert outcome.cached[-2:] == [False, False]


@pytest.mark.parametrize("order", [("whole", "damaged"), ("damaged", "whole")])
def test_a_layer_is_opened_where_its_entry_was_found(build: Build, tmp_path: Path, order: tuple[str, str]) -> None:
    """Both caches have the layer, and in one of them its blob is missing."""

    for name in order:
        build(f"--cache-repo=oci:{tmp_path / name}", dockerfile="FROM scratch\nCOPY a /a\n")
    for blob_file in (tmp_path / "damaged/blobs/sha256").iterdir():
        if blob_file.read_bytes().startswith(GZIP):
            blob_file.unlink()
    copied = "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a /b\n"
    outcome = build(*(f"--cache-from=oci:{tmp_path / name}" for name in order), dockerfile=copied)
    assert "starting over" not in outcome.log, outcome.log
    assert outcome.cached[0]


def test_an_unreachable_cache_is_passed_over_with_one_warning(build: Build, tmp_path: Path) -> None:
    main = tmp_path / "main"
    build(f"--cache-repo=oci:{main}")
    outcome = build("--cache-from=127.0.0.1:1/cache", f"--cache-from=oci:{main}", "--image-download-retry=0")
    assert outcome.cached == [True, True]
    assert outcome.log.count("cannot read the cache 127.0.0.1:1/cache, going on without it") == 1

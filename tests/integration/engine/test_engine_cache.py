"""The layer cache in whole builds: hits, misses and their reasons; a damaged cache never makes a wrong image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers.registry import RegistryServer

pytestmark = [pytest.mark.root, pytest.mark.registry]

THREE_STEPS = """\
FROM busybox AS tools
RUN mkdir /tools && echo tool >/tools/tool && date +%s%N >/tools/when
FROM busybox
WORKDIR /app
COPY src/ /app/src/
RUN cat /app/src/* >/app/all
COPY --from=tools /tools/tool /usr/bin/tool
LABEL version=1
"""
FILES = {"src/a": "a", "src/b": "b"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a build. ``steps`` are the visible ones, with whether each was cached."""

    code: int
    digest: str
    log: str
    steps: tuple[tuple[str, bool], ...]
    misses: Mapping[str, str]
    requests: tuple[str, ...]

    @property
    def executed(self) -> list[str]:
        return [name for name, cached in self.steps if not cached and not name.startswith("FROM")]


class Builds:
    """Builds in temporary folders against one registry, whose log has the requests."""

    def __init__(self, registry: RegistryServer, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.name = f"{registry.host}/{folder.name.lower()}/app"
        self.repository = f"{registry.host}/{folder.name.lower()}/cache"

    def context(self, dockerfile: str, files: Mapping[str, str] = FILES) -> Path:
        path = self.folder / "context"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(content)
        return path

    def build(self, context: Path, *flags: str, cache: str | None = None, env: Mapping[str, str] = {}) -> Outcome:
        """Build with a cache and push."""
        asked = len(self.registry.log.read_text().splitlines())
        command = [
            sys.executable, "-m", "imagewright", "build", f"--context={context}", f"--destination={self.name}:1",
            f"--registry-endpoint=docker.io={self.registry.host}", f"--work-dir={self.folder / 'work'}",
            "--cache", f"--cache-repo={cache or self.repository}", "--explain-cache", "--log-format=json", *flags,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **env})
        assert "Traceback" not in done.stderr, done.stderr
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        steps = tuple(
            (event["msg"].partition("] ")[2], event.get("cached", False))
            for event in events
            if event["event"] == "stepEnded"
        )
        misses = dict(
            re.fullmatch(r"  \[.*?\] (.*?): (.*)", event["msg"]).groups()  # type: ignore[union-attr]
            for event in events
            if event["event"] == "message" and event["msg"].startswith("  [")
        )
        lines = self.registry.log.read_text().splitlines()[asked:]
        requests = tuple(
            f"{m[1]} {m[2]}" for line in lines if (m := re.search(r'"(GET|HEAD|PUT|POST|PATCH) (\S+)', line))
        )
        return Outcome(done.returncode, done.stdout.strip().rpartition("@")[2], done.stderr, steps, misses, requests)

    def good(self, context: Path, *flags: str, cache: str | None = None, env: Mapping[str, str] = {}) -> Outcome:
        outcome = self.build(context, *flags, cache=cache, env=env)
        assert outcome.code == 0, outcome.log
        return outcome


@pytest.fixture
def builds(bases: RegistryServer, tmp_path: Path) -> Builds:
    return Builds(bases, tmp_path)


def test_a_cached_build_pulls_and_unpacks_nothing(builds: Builds) -> None:
    context = builds.context(THREE_STEPS)
    first = builds.good(context, "--reproducible")
    assert len(first.executed) == 5
    again = builds.good(context, "--reproducible")
    assert again.executed == []
    assert again.digest == first.digest
    blobs = [request for request in again.requests if request.startswith("GET") and "/blobs/" in request]
    # The base image's configuration, and no layer of anything.
    assert len(blobs) == 1, again.requests


@pytest.mark.parametrize("change", ["WORKDIR /app|WORKDIR /app", "RUN cat|RUN set -e; cat"])
def test_steps_start_in_the_order_of_their_numbers(builds: Builds, change: str) -> None:
    """Also where a cache is asked before the base is pulled: whether for the first step or a later one."""
    builds.good(builds.context(THREE_STEPS))
    old, _, new = change.partition("|")
    for context, flags in (
        (builds.context(THREE_STEPS), (f"--cache-repo={builds.repository}-empty",)),
        (builds.context(THREE_STEPS.replace(old, new)), ()),
    ):
        outcome = builds.good(context, *flags)
        events = [json.loads(line) for line in outcome.log.splitlines() if line.startswith("{")]
        labels = [e["msg"].partition("]")[0].strip("[ ") for e in events if e["event"] == "stepStarted"]
        started: dict[str, list[int]] = {}
        for label in labels:
            stage, _, number = label.rpartition(" ")
            started.setdefault(stage, []).append(int(number.partition("/")[0]))
        assert len(started) == 2
        for numbers in started.values():
            assert numbers == list(range(1, len(numbers) + 1)), labels


def test_a_cached_build_needs_two_requests_per_layer(builds: Builds) -> None:
    counts = []
    for steps in (2, 8):
        runs = "".join(f"RUN echo {number} >/file-{number}\n" for number in range(steps))
        context = builds.context(f"FROM busybox\n{runs}")
        builds.good(context)
        again = builds.good(context)
        assert again.executed == []
        counts.append(len(again.requests))
    # An entry's manifest, and whether the destination has the layer.
    assert counts[1] - counts[0] == 2 * 6, counts
    assert counts[0] <= 2 * 2 + 12, counts


@pytest.mark.parametrize(
    ("change", "executed", "why"),
    [
        ("LABEL version=1|LABEL version=2", [], ""),
        ("LABEL version=1|ENV A=b", [], ""),
        ("RUN cat /app/src/* >/app/all|RUN cat /app/src/* >/app/every", ["RUN cat", "COPY --from"], "no such step"),
        ("WORKDIR /app|ENV A=b\nWORKDIR /app", ["RUN cat", "COPY --from"], "the variable A"),
        ("WORKDIR /app|USER 0\nWORKDIR /app", ["WORKDIR", "COPY src", "RUN cat", "COPY --from"], "the instruction"),
        ("echo tool|echo other", ["RUN mkdir", "COPY --from"], "no such step"),
    ],
)
def test_which_steps_a_change_rebuilds(builds: Builds, change: str, executed: list[str], why: str) -> None:
    builds.good(builds.context(THREE_STEPS))
    old, _, new = change.partition("|")
    assert old in THREE_STEPS
    outcome = builds.good(builds.context(THREE_STEPS.replace(old, new)))
    found = [
        next(name for name in executed if step.startswith(name))
        for step in outcome.executed
        if any(step.startswith(name) for name in executed)
    ]
    assert sorted(found) == sorted(executed), outcome.steps
    assert len(outcome.executed) == len(executed), outcome.steps
    assert why in "".join(outcome.misses.values())


def test_only_copied_files_count(builds: Builds) -> None:
    builds.good(builds.context(THREE_STEPS))
    assert builds.good(builds.context(THREE_STEPS, {**FILES, "README": "not copied"})).executed == []
    changed = builds.good(builds.context(THREE_STEPS, {**FILES, "src/a": "other"}))
    assert [step.partition(" ")[0] for step in changed.executed] == ["COPY", "RUN", "COPY"]
    assert changed.misses["COPY src/ /app/src/"] == "changed: files that are copied"
    assert "an earlier step or the base image changed" in changed.misses["RUN cat /app/src/* >/app/all"]
    named = builds.context(THREE_STEPS, {"src/a": "a", "src/c": "b"})
    assert len(builds.good(named).executed) == 3
    mode = builds.context(THREE_STEPS)
    (mode / "src" / "a").chmod(0o755)
    assert len(builds.good(mode).executed) == 3
    times = builds.context(THREE_STEPS)
    os.utime(times / "src" / "a", (1, 1))
    assert builds.good(times).executed == []


def test_later_steps_hit_if_the_result_is_unchanged(builds: Builds) -> None:
    """Unlike in kaniko, steps after a miss are looked up again."""
    dockerfile = "FROM busybox\nARG A\nRUN echo {} >/dev/null; echo fixed >/file\nRUN date +%s%N >/when\n"
    first = builds.good(builds.context(dockerfile.format(1)), "--reproducible")
    second = builds.good(builds.context(dockerfile.format(2)), "--reproducible")
    assert [name.partition(";")[0] for name in second.executed] == ["RUN echo 2 >/dev/null"]
    assert second.digest != first.digest  # the history has another command


def test_copy_from_a_rebuilt_stage_with_equal_files_hits(builds: Builds) -> None:
    builds.good(builds.context(THREE_STEPS))
    # /tools/when is another, and /tools/tool is the same.
    again = builds.good(builds.context(THREE_STEPS.replace("echo tool", "printf 'tool\\n'")))
    assert [step.partition(" ")[2][:5] for step in again.executed] == ["mkdir"]
    # And the next build needs no files of the stage to see that.
    assert builds.good(builds.context(THREE_STEPS.replace("echo tool", "printf 'tool\\n'"))).executed == []


def test_visible_arguments_count_and_proxies_do_not(builds: Builds) -> None:
    dockerfile = "FROM busybox\nRUN echo before >/a\nARG A\nRUN echo after >/b\n"
    context = builds.context(dockerfile)
    builds.good(context, "--build-arg=A=1")
    outcome = builds.good(context, "--build-arg=A=2", "--build-arg=http_proxy=http://proxy.example.com:3128")
    assert outcome.executed == ["RUN echo after >/b"]
    assert "the variable A" in outcome.misses["RUN echo after >/b"]


def test_bind_mounts_count_and_secrets_do_not(builds: Builds, tmp_path: Path) -> None:
    dockerfile = (
        "FROM busybox\nRUN --mount=type=bind,source=src,target=/src cat /src/a >/a\n"
        "RUN --mount=type=secret,id=s,target=/s test -e /s\n"
    )
    secret = tmp_path / "secret"
    secret.write_text("one")
    flag = f"--secret=id=s,src={secret}"
    builds.good(builds.context(dockerfile), flag)
    secret.write_text("two")
    assert builds.good(builds.context(dockerfile, {**FILES, "src/b": "b"}), flag).executed == []
    outcome = builds.good(builds.context(dockerfile, {**FILES, "src/b": "changed"}), flag)
    assert outcome.misses[outcome.executed[0]] == "changed: files that are mounted"


def test_caching_of_copies_can_be_turned_off(builds: Builds) -> None:
    context = builds.context(THREE_STEPS)
    builds.good(context)
    outcome = builds.good(context, "--cache-copy-layers=false")
    assert [name.partition(" ")[0] for name in outcome.executed] == ["COPY", "COPY"]


def test_caching_of_runs_can_be_turned_off(builds: Builds) -> None:
    context = builds.context("FROM busybox\nCOPY src /src\nRUN echo always\n")
    builds.good(context)
    assert builds.good(context, "--cache-run-layers=false").executed == ["RUN echo always"]


def test_storing_can_be_turned_off(builds: Builds) -> None:
    context = builds.context(THREE_STEPS)
    outcome = builds.good(context, "--no-push-cache")
    assert not [request for request in outcome.requests if "PUT" in request and "/cache/" in request]
    assert len(builds.good(context).executed) == 5


def test_an_old_entry_is_a_miss(builds: Builds) -> None:
    context = builds.context("FROM busybox\nRUN echo a >/a\n")
    builds.good(context)
    assert builds.good(context).executed == []
    time.sleep(1.1)
    outcome = builds.good(context, "--cache-ttl=1s")
    assert outcome.executed == ["RUN echo a >/a"]
    assert "has expired" in outcome.misses["RUN echo a >/a"]


def test_a_layout_as_a_cache(builds: Builds, tmp_path: Path) -> None:
    cache = f"oci:{tmp_path / 'layers'}"
    context = builds.context(THREE_STEPS)
    first = builds.good(context, "--reproducible", cache=cache)
    again = builds.good(context, "--reproducible", cache=cache)
    assert again.executed == []
    assert again.digest == first.digest


def layers_of(registry: RegistryServer, name: str) -> list[Path]:
    """The files of a repository's blobs in a registry, largest first."""
    root = registry.options.state / "content" / "docker" / "registry" / "v2"
    links = (root / "repositories" / name / "_layers" / "sha256").iterdir()
    files = [root / "blobs" / "sha256" / link.name[:2] / link.name / "data" for link in links]
    return sorted((file for file in files if file.exists()), key=lambda file: -file.stat().st_size)


def layers(registry: RegistryServer, outcome: Outcome) -> list[str]:
    path = registry.options.state / "content/docker/registry/v2/blobs/sha256"
    hex_digits = outcome.digest.partition(":")[2]
    manifest = json.loads((path / hex_digits[:2] / hex_digits / "data").read_text())
    return [layer["digest"] for layer in manifest["layers"]]


@pytest.mark.parametrize("damage", ["truncated", "changed", "removed"])
def test_a_damaged_layer_is_a_miss_with_a_warning(bases: RegistryServer, builds: Builds, damage: str) -> None:
    dockerfile = f"FROM busybox\nRUN head -c 300000 /dev/urandom >/{damage}\nRUN echo last >/last\n"
    builds.good(builds.context(dockerfile))
    cache = builds.repository.partition("/")[2]
    victim = layers_of(bases, cache)[0]
    content = victim.read_bytes()
    if damage == "truncated":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        victim.write_bytes(bytes(reversed(content)))
    else:
        victim.unlink()
    # Something has to be executed, or nobody would read the layer.
    changed = builds.context(dockerfile.replace("echo last", "wc -c /*d"))
    outcome = builds.good(changed)
    assert "ignoring an entry" in outcome.log
    # The one that found out, then both again.
    assert [name.split()[1] for name in outcome.executed] == ["wc", "head", "wc"]
    again = builds.good(changed)
    assert again.executed == []
    assert layers(bases, again) == layers(bases, outcome)


def test_a_damaged_layer_under_two_keys_restarts_the_build_once(bases: RegistryServer, builds: Builds) -> None:
    """A COPY --from is found by its files' content under the stage's new layers, too; then its layer is damaged."""
    dockerfile = (
        "FROM busybox AS made\nRUN head -c 200000 /bin/busybox >/app; date +%s%N >/{}\n"
        "FROM busybox\nCOPY --from=made /app /app\nRUN echo {} && wc -c /app\n"
    )
    builds.good(builds.context(dockerfile.format("one", "one")))
    for victim in layers_of(bases, builds.repository.partition("/")[2]):
        if victim.stat().st_size > 50_000:
            victim.write_bytes(b"x" * victim.stat().st_size)
    changed = builds.context(dockerfile.format("two", "two"))
    outcome = builds.good(changed)
    assert "ignoring an entry" in outcome.log
    assert builds.good(changed).executed == []


def test_a_build_with_ignored_paths_is_not_cached(builds: Builds) -> None:
    """Ignored files are in no layer and so in no key, but later steps see them."""
    dockerfile = "FROM busybox\nRUN echo {} >/tmp/f\nRUN cp /tmp/f /out && cat /out\n"
    builds.good(builds.context(dockerfile.format(1)), "--ignore-path=/tmp")
    outcome = builds.good(builds.context(dockerfile.format(2)), "--ignore-path=/tmp")
    assert "layer cache is off: with --ignore-path" in outcome.log
    assert len(outcome.executed) == 2


def test_entries_contain_no_build_arguments(bases: RegistryServer, builds: Builds) -> None:
    dockerfile = (
        "FROM busybox AS made\nARG TOKEN\nRUN test -n $TOKEN && echo app >/app\nFROM scratch\nCOPY --from=made /app /\n"
    )
    builds.good(builds.context(dockerfile), "--build-arg=TOKEN=hunter2hunter2")
    blobs = bases.options.state / "content/docker/registry/v2/blobs"
    assert not [file for file in blobs.rglob("data") if b"hunter2hunter2" in file.read_bytes()]


def test_a_foreign_image_instead_of_an_entry_is_a_miss(bases: RegistryServer, builds: Builds) -> None:
    context = builds.context("FROM busybox\nRUN echo a >/a\n")
    first = builds.good(context, "--reproducible")
    root = bases.options.state / "content" / "docker" / "registry" / "v2" / "repositories"
    tags = root / builds.repository.partition("/")[2] / "_manifests" / "tags"
    links = [tag / "current" / "link" for tag in tags.iterdir()]
    assert len(links) == 4  # the entry, what explains misses, and the indexes of two layers
    content = [link.read_text() for link in links]
    for link, other in zip(links, reversed(content), strict=True):
        link.write_text(other)
    outcome = builds.good(context, "--reproducible")
    assert outcome.executed == ["RUN echo a >/a"]
    assert "not an entry of this cache" in outcome.log
    assert outcome.digest == first.digest


def test_an_unreachable_cache_is_a_warning(builds: Builds) -> None:
    outcome = builds.good(builds.context(THREE_STEPS), cache="127.0.0.1:1/cache")
    assert "executing all steps" in outcome.log
    assert len(outcome.executed) == 5


def test_two_builds_can_fill_one_cache_at_once(builds: Builds) -> None:
    context = builds.context(THREE_STEPS)
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda: outcomes.append(builds.build(context))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], [outcome.log for outcome in outcomes]
    assert builds.good(context).executed == []

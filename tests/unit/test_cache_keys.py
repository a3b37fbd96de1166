"""Keys of the layer cache: equal for equal steps, different for any other input."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewright.cache.entry import Entry, read_entry
from imagewright.cache.keys import KeyContext, StepKey, copy_key, run_key, workdir_key
from imagewright.digest import Digest, FramedHash
from imagewright.dockerfile.model import CopyOptions
from imagewright.errors import ImagewrightError, Location
from imagewright.fs.copy.contents import copied_contents
from imagewright.fs.copy.copier import CopyRequest
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.platform import Platform
from imagewright.plan.origins import ContextOrigin
from imagewright.plan.remote import UrlSource
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CopyStep,
    InlineFile,
    Mount,
    Network,
    RunStep,
    Script,
    SecretMount,
    SshMount,
    StepText,
    TmpfsMount,
    WorkdirStep,
)

TEXT = StepText("title", "created by", Location("Dockerfile", 1))
WORDS = st.text(max_size=4)
MOUNTS = st.one_of(
    st.builds(BindMount, WORDS, st.just(ContextOrigin()), WORDS, st.booleans()),
    st.builds(CacheMount, WORDS, WORDS),
    st.builds(TmpfsMount, WORDS, st.integers(0, 9)),
    st.builds(SecretMount, WORDS, WORDS, WORDS, st.booleans()),
    st.builds(SshMount, WORDS, WORDS),
)
RUNS = st.builds(
    RunStep,
    st.just(TEXT),
    st.lists(WORDS, max_size=3).map(tuple),
    st.dictionaries(WORDS, WORDS, max_size=3).map(lambda env: tuple(env.items())),
    WORDS,
    WORDS,
    st.lists(MOUNTS, max_size=2).map(tuple),
    st.sampled_from(Network),
    st.none() | st.builds(Script, WORDS, WORDS),
)
COPIES = st.builds(
    CopyStep,
    st.just(TEXT),
    st.lists(WORDS, max_size=3).map(tuple),
    WORDS,
    st.just(ContextOrigin()),
    st.builds(CopyOptions, st.booleans(), WORDS, WORDS, st.lists(WORDS, max_size=2).map(tuple), st.booleans()),
    st.booleans(),
    st.lists(st.builds(InlineFile, WORDS, WORDS), max_size=2).map(tuple),
)
GROUNDS = st.builds(
    KeyContext,
    st.lists(WORDS, max_size=3).map(tuple),
    WORDS,
    st.none() | st.integers(0, 3),
    st.sampled_from(["gzip", "zstd"]),
    st.none() | st.integers(0, 3),
)
KEY_CONTEXT = KeyContext(("a", "b"), "linux/amd64", None, "gzip", None)
RUN = RunStep(TEXT, ("sh", "-c", "make"), (("A", "1"), ("B", "2")), "user", "/work", (CacheMount("/c", "id"),))
COPY = CopyStep(TEXT, ("a", "b"), "/to/", ContextOrigin())


@given(RUNS, RUNS, GROUNDS, GROUNDS, st.lists(WORDS, max_size=2), st.lists(WORDS, max_size=2))
def test_two_runs_have_the_same_key_only_if_they_are_equal(
    one: RunStep, other: RunStep, context: KeyContext, another: KeyContext, sources: list[str], others: list[str]
) -> None:
    same = (one, context, sources) == (other, another, others)
    assert (run_key(context, one, sources).text == run_key(another, other, others).text) == same
    assert run_key(context, one, sources).text == run_key(context, copy.deepcopy(one), list(sources)).text


@given(COPIES, COPIES, st.lists(WORDS, max_size=2), st.lists(WORDS, max_size=2))
def test_two_copies_have_the_same_key_only_if_they_are_equal(
    one: CopyStep, other: CopyStep, sources: list[str], others: list[str]
) -> None:
    same = (one, sources) == (other, others)
    assert (copy_key(KEY_CONTEXT, one, sources).text == copy_key(KEY_CONTEXT, other, others).text) == same


@given(
    st.lists(st.lists(st.binary(max_size=3), max_size=3), max_size=3),
    st.lists(st.lists(st.binary(max_size=3), max_size=3), max_size=3),
)
def test_fields_are_framed(one: list[list[bytes]], other: list[list[bytes]]) -> None:
    def hashed(lists: list[list[bytes]]) -> str:
        hasher = FramedHash()
        for each in lists:
            hasher.add_list(each)
        return hasher.hexdigest()

    assert (hashed(one) == hashed(other)) == (one == other)


def test_text_bytes_numbers_and_none_are_distinguished() -> None:
    fields = ["1", b"1", 1, None, "", b"", 0]
    assert len({FramedHash(field).hexdigest() for field in fields}) == len(fields)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"argv": ("sh", "-c", "make all")}, "the command"),
        ({"script": Script("/dev/pipes/EOF", "#!/bin/sh")}, "the command"),
        ({"env": (("A", "1"), ("B", "3"))}, "the variable B"),
        ({"env": (("B", "2"), ("A", "1"))}, "the names of variables"),
        ({"user": ""}, "USER"),
        ({"workdir": "/"}, "WORKDIR"),
        ({"network": Network.NONE}, "--network"),
        ({"mounts": ()}, "--mount"),
    ],
)
def test_the_changed_part_is_named(change: Mapping[str, Any], part: str) -> None:
    before, after = run_key(KEY_CONTEXT, RUN, ()), run_key(KEY_CONTEXT, replace(RUN, **change), ())
    assert changed(before, after) == {part}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"layers": ("a", "c")}, "what it starts from"),
        ({"layers": ("ab",)}, "what it starts from"),
        ({"platform": "linux/arm64"}, "settings of the build"),
        ({"epoch": 0}, "settings of the build"),
        ({"compression": "zstd"}, "settings of the build"),
        ({"level": 9}, "settings of the build"),
    ],
)
def test_the_context_is_part_of_every_key(change: Mapping[str, Any], part: str) -> None:
    context = replace(KEY_CONTEXT, **change)
    workdir = WorkdirStep(TEXT, "/work", "")
    assert changed(run_key(KEY_CONTEXT, RUN, ()), run_key(context, RUN, ())) == {part}
    assert changed(copy_key(KEY_CONTEXT, COPY, ()), copy_key(context, COPY, ())) == {part}
    assert changed(workdir_key(KEY_CONTEXT, workdir), workdir_key(context, workdir)) == {part}


def test_texts_and_proxies_are_not_part_of_the_key() -> None:
    other = StepText("other title", "RUN |1 X=1 make", Location("Other", 99))
    assert run_key(KEY_CONTEXT, replace(RUN, text=other), ()) == run_key(KEY_CONTEXT, RUN, ())
    proxied = replace(RUN, env=(*RUN.env, ("HTTP_PROXY", "http://proxy")), proxies=frozenset({"HTTP_PROXY"}))
    assert run_key(KEY_CONTEXT, proxied, ()) == run_key(KEY_CONTEXT, RUN, ())
    # Declared by ENV, the same variable counts.
    assert run_key(KEY_CONTEXT, replace(proxied, proxies=frozenset()), ()) != run_key(KEY_CONTEXT, RUN, ())


def changed(before: StepKey, after: StepKey) -> set[str]:
    assert before.text != after.text
    one, other = dict(before.parts), dict(after.parts)
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


# --- what is copied

Tree = dict[str, tuple[int, bytes]]  # path -> (mode, content)
NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "x y"])
TREES = st.dictionaries(NAMES, st.tuples(st.sampled_from([0o644, 0o755, 0o600]), st.binary(max_size=3)), max_size=4)


def written(folder: Path, tree: Tree, *, time: int) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, (mode, content) in sorted(tree.items(), reverse=time % 2 == 1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, (time, time))
    return folder


def contents(folder: Path) -> str:
    return copied_contents(CopyRequest(Rootfs(str(folder)), (".",), "/"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TREES, TREES)
def test_contents_are_equal_only_for_equal_trees(tmp_path: Path, one: Tree, other: Tree) -> None:
    found = contents(written(tmp_path / "one", one, time=1)), contents(written(tmp_path / "other", other, time=2))
    assert (found[0] == found[1]) == (one == other)


def test_kinds_of_entries_count(tmp_path: Path) -> None:
    def made(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return folder

    (made("file") / "a").write_text("b")
    (made("link") / "a").symlink_to("b")
    (made("other-link") / "a").symlink_to("c")
    (made("folder") / "a").mkdir()
    os.mkfifo(made("fifo") / "a")
    (made("two") / "a").write_text("b")
    (tmp_path / "two" / "b").write_text("b")
    (made("hard") / "a").write_text("b")
    os.link(tmp_path / "hard" / "a", tmp_path / "hard" / "b")
    made("empty")
    names = ["file", "link", "other-link", "folder", "fifo", "two", "hard", "empty"]
    assert len({contents(tmp_path / name) for name in names}) == len(names)


def test_mounts_of_different_types_have_different_keys() -> None:
    kinds: list[Mount] = [
        BindMount("/t", ContextOrigin()),
        CacheMount("/t", "/"),
        TmpfsMount("/t"),
        SecretMount("/t"),
        SshMount("/t", "/"),
    ]
    keys = {run_key(KEY_CONTEXT, replace(RUN, mounts=(kind,)), ()).text for kind in kinds}
    assert len(keys) == len(kinds)


def test_unpack_of_a_remote_file_changes_the_key() -> None:
    keys = {
        copy_key(
            KEY_CONTEXT, replace(COPY, sources=(UrlSource("https://a.example.com/a.tar", "a.tar", "", unpack),)), ["x"]
        ).text
        for unpack in (True, False)
    }
    assert len(keys) == 2


PREFIX = "dev.imagewright.cache"


@pytest.mark.parametrize(
    "change",
    [
        {f"{PREFIX}.made-of": "\ud800"},
        {f"{PREFIX}.made-of": "sha256:" + "0" * 64},
        {f"{PREFIX}.key": "0" * 64},
        {f"{PREFIX}.version": "2"},
        {f"{PREFIX}.diff-id": "sha256:x"},
        {"org.opencontainers.image.created": "yesterday"},
        {"org.opencontainers.image.created": "2026-01-01T00:00:00"},
    ],
)
def test_a_modified_entry_is_refused(change: Mapping[str, str]) -> None:
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"layer"), 5)
    entry = Entry("a" * 64, 1_000_000.0, "RUN true", layer, Digest.of(b"tar"), "b" * 64)
    manifest, config = entry.image(Platform.parse("linux/amd64"))
    assert read_entry(Manifest.parse(manifest.raw), "a" * 64) == entry
    assert Digest.of(config) == manifest.config.digest
    with pytest.raises(ImagewrightError):
        read_entry(replace(manifest, annotations={**manifest.annotations, **change}), "a" * 64)

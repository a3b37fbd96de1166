"""Changing any single field of a step or mount changes the cache key, unless the field is marked as not in the key.

Released keys: 50 steps of ``tests/cases`` keep their keys, or the caches in registries are lost.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
from peers.case import CASES, Case

from imagewright.cache.keys import KeyContext, StepKey, copy_key, run_key, workdir_key
from imagewright.dockerfile.flags import flags_in, flags_of_instruction, read_flags, switch, values
from imagewright.dockerfile.model import CopyOptions, From
from imagewright.dockerfile.source import SourceText
from imagewright.dockerfile.substitutions import Substitutions
from imagewright.errors import Location
from imagewright.fs.copy.contents import copied_contents, tree_contents
from imagewright.fs.copy.copier import CopyRequest
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.model import BuildPlan, StagePlan
from imagewright.plan.origins import ContextOrigin, ScratchBase, StageOrigin
from imagewright.plan.remote import UrlSource
from imagewright.plan.render import render
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CacheSharing,
    CopyStep,
    InlineFile,
    MetadataStep,
    Mount,
    Network,
    RunStep,
    Script,
    SecretMount,
    SshMount,
    Step,
    StepText,
    TmpfsMount,
    WorkdirStep,
    why_not_in_key,
)
from imagewright.records import dataclass

RELEASED = Path(__file__).parents[1] / "released" / "cache" / "keys.json"
KEY_CONTEXT = KeyContext(("a", "b"), "linux/amd64", None, "gzip", None)
TEXT = StepText("title", "created by", Location("Dockerfile", 1))
OTHER_TEXT = StepText("title 2", "created by 2", Location("Dockerfile", 2), True, Substitutions((("$N", "value"),)))
CONTEXT, STAGE = ContextOrigin(), StageOrigin(1)

# A value of each field, and another one. A field that is not listed has the default, and another one by its type.
STEPS: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    RunStep: {
        "text": (TEXT, OTHER_TEXT),
        "argv": (("sh", "-c", "make"), ("sh", "-c make")),
        "env": ((("A", "1"), ("B", "2")), (("A", "1"), ("B", "3"))),
        "user": ("1:2", "1"),
        "workdir": ("/work", "/"),
        "mounts": ((TmpfsMount("/a"), TmpfsMount("/b")), (TmpfsMount("/b"), TmpfsMount("/a"))),
        "network": (Network.DEFAULT, Network.HOST),
        "script": (Script("/dev/pipes/EOF", "#!/bin/sh"), Script("/dev/pipes/EOF", "#!/bin/sh\n")),
        "proxies": (frozenset[str](), frozenset({"A"})),
    },
    CopyStep: {
        "text": (TEXT, OTHER_TEXT),
        "sources": (("a", "b"), ("a", "c")),
        "destination": ("/to/", "/to"),
        "origin": (CONTEXT, STAGE),
        "options": (CopyOptions(), CopyOptions(link=True)),
        "extract": (False, True),
        "files": ((InlineFile("a", "b"),), (InlineFile("a", "c"),)),
    },
    WorkdirStep: {"text": (TEXT, OTHER_TEXT), "path": ("/a", "/a/b"), "user": ("", "1")},
}
MOUNTS: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    BindMount: {
        "target": ("/a", "/b"),
        "origin": (CONTEXT, STAGE),
        "source": ("/", "/a"),
        "writable": (False, True),
    },
    CacheMount: {
        "target": ("/a", "/b"),
        "id": ("a", "b"),
        "sharing": (CacheSharing.SHARED, CacheSharing.LOCKED),
        "origin": (CONTEXT, STAGE),
        "source": ("/", "/a"),
        "writable": (True, False),
        "mode": (0o755, 0o700),
        "uid": (0, 1),
        "gid": (0, 1),
    },
    TmpfsMount: {"target": ("/a", "/b"), "size_bytes": (0, 1)},
    SecretMount: {
        "id": ("a", "b"),
        "target": ("/a", ""),
        "env": ("A", "B"),
        "required": (False, True),
        "mode": (0o400, 0o440),
        "uid": (0, 1),
        "gid": (0, 1),
    },
    SshMount: {
        "id": ("a", "b"),
        "target": ("/a", "/b"),
        "required": (False, True),
        "mode": (0o600, 0o660),
        "uid": (0, 1),
        "gid": (0, 1),
    },
}
GROUNDS: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    KeyContext: {
        "layers": (("a", "b"), ("ab",)),
        "platform": ("linux/amd64", "linux/arm64"),
        "epoch": (None, 0),
        "compression": ("gzip", "zstd"),
        "level": (None, 0),
    }
}
OPTIONS: dict[type[Any], dict[str, tuple[Any, ...]]] = {
    CopyOptions: {
        "parents": (False, True),
        "chown": ("1:2", "1"),
        "chmod": ("755", "u+x"),
        "excludes": (("a", "b"), ("b", "a")),
        "link": (False, True),
    }
}
TABLES = STEPS | MOUNTS | OPTIONS | GROUNDS


def key_of(value: Any) -> StepKey:
    """The key of a step, of a RUN with a mount, of a COPY with options, or of a step in this context."""
    match value:
        case RunStep():
            return run_key(KEY_CONTEXT, value, ("x",))
        case CopyStep():
            return copy_key(KEY_CONTEXT, value, ("x",))
        case CopyOptions():
            return key_of(replace(made(CopyStep), options=value))
        case WorkdirStep():
            return workdir_key(KEY_CONTEXT, value)
        case KeyContext():
            return workdir_key(value, WorkdirStep(TEXT, "/a", ""))
    return key_of(replace(made(RunStep), mounts=(value,)))


def shown(value: Any) -> str:
    """What ``imagewright plan --values`` has of it."""
    match value:
        case RunStep() | CopyStep() | WorkdirStep():
            step: Any = value
        case CopyOptions():
            step = replace(made(CopyStep), options=value)
        case _:
            step = replace(made(RunStep), mounts=(value,))
    config = ImageConfig.scratch(Platform("linux", "amd64"))
    from_ = From(Location("Dockerfile", 1), "FROM scratch", "FROM scratch", "scratch")
    stages = [StagePlan(i, from_, ScratchBase(), config.platform, (step,) * i, config) for i in range(2)]
    return render(BuildPlan(tuple(stages)), values=True)


def two_values(cls: type[Any], field: dataclasses.Field[Any]) -> tuple[Any, Any]:
    if field.name in TABLES[cls]:
        value, other = TABLES[cls][field.name]
        return value, other
    match field.default:
        case bool():
            return field.default, not field.default
        case str() | int():
            return field.default, field.default * 2 or type(field.default)(1)
        case tuple():
            return field.default, ("x",)
    pytest.fail(f"give {cls.__name__}.{field.name} two values in TABLES")


def made(cls: type[Any]) -> Any:
    return cls(**{field.name: two_values(cls, field)[0] for field in dataclasses.fields(cls)})


def of_each_field() -> Iterator[Any]:
    for cls in TABLES:
        for field in dataclasses.fields(cls):
            yield pytest.param(cls, field, id=f"{cls.__name__}-{field.name}")


@pytest.mark.parametrize(("cls", "field"), list(of_each_field()))
def test_each_field_changes_the_key(cls: type[Any], field: dataclasses.Field[Any]) -> None:
    value, other = two_values(cls, field)
    assert value != other
    one, two = made(cls), replace(made(cls), **{field.name: other})
    assert (key_of(one).text == key_of(two).text) == bool(why_not_in_key(field))


@pytest.mark.parametrize("cls", [*get_args(Step), *get_args(Mount), CopyOptions])
def test_every_step_and_mount_is_in_the_table(cls: type[Any]) -> None:
    assert cls in TABLES or cls is MetadataStep  # which makes no layer


# --- a field that is added


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Pair:
    name: str
    numbers: tuple[int, ...]


# A default, and other values, of which no two may have the same key.
ADDED: list[tuple[Any, ...]] = [
    (False, True),
    ("", "x", "y"),
    (0, 1, 2),
    (None, 0, ""),
    ((), ("a", "b"), ("b", "a"), ("ab",), (("a",), "b"), ("a", ("b",))),
    (Level.LOW, Level.HIGH),
    (None, Pair("a", (1, 2)), Pair("b", (1, 2)), Pair("a", (1,))),
]


@pytest.mark.parametrize(("default", "values"), [(default, values) for default, *values in ADDED])
@pytest.mark.parametrize("cls", [*STEPS, *MOUNTS, *OPTIONS])
def test_an_added_field_is_in_the_key_and_the_plan_when_set(cls: type[Any], default: Any, values: list[Any]) -> None:
    """Where it has its default, the key is the released one."""
    body = {"__annotations__": {"added": "Any"}, "added": default}
    added: Any = dataclass(frozen=True, slots=True)(type("Added", (cls,), body))
    given = {field.name: getattr(made(cls), field.name) for field in dataclasses.fields(cls)}
    assert key_of(added(**given)).text == key_of(made(cls)).text
    changed = [added(**given, added=value) for value in values]
    assert len({key_of(each).text for each in (made(cls), *changed)}) == 1 + len(values)
    assert "added" not in shown(added(**given))
    assert cls is CopyOptions or f"added {values[0]}" in shown(changed[0])


def test_an_added_flag_of_copy_is_parsed_rendered_and_keyed() -> None:
    """Declared with a field of the options, and nowhere else."""

    @dataclass(frozen=True, slots=True)
    class Options(CopyOptions):
        follow: bool = switch("follow")
        owners: tuple[str, ...] = values("owner")

    @dataclass(frozen=True, slots=True)
    class Copying:
        options: Options = dataclasses.field(default_factory=Options, metadata=flags_in(Options))

    known = {"COPY": flags_of_instruction("COPY", Copying)}
    source = SourceText("Dockerfile", ("COPY --follow --owner=a --owner=b --link a b",))
    words = ("--follow", "--owner=a", "--owner=b", "--link")
    options = read_flags("COPY", known, words, source, Location("Dockerfile", 1))["options"]
    assert options == Options(link=True, follow=True, owners=("a", "b"))
    assert "      flags --link --follow --owner=a --owner=b\n" in shown(options)
    keys = {key_of(each).text for each in (options, replace(options, follow=False), replace(options, owners=("ab",)))}
    assert len(keys) == 3


def test_each_hash_of_files_changes_the_key() -> None:
    run, copy = made(RunStep), made(CopyStep)
    for key in (lambda files: run_key(KEY_CONTEXT, run, files), lambda files: copy_key(KEY_CONTEXT, copy, files)):
        keys = [key(files).text for files in (("a", "b"), ("a",), ("b", "a"), ("ab",), ("a", "c"))]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("unpack", "same"), [(True, False), (False, True)])
def test_a_remote_file_counts_by_content_and_by_unpack(unpack: bool, same: bool) -> None:
    one, other = (
        UrlSource("https://a.example/a.tar", "a.tar", "", False),
        UrlSource("https://b.example/b", "b", "", unpack),
    )
    keys = [copy_key(KEY_CONTEXT, replace(made(CopyStep), sources=(source,)), ("x",)).text for source in (one, other)]
    assert (keys[0] == keys[1]) == same


# --- what is copied


def a_tree(folder: Path) -> Path:
    """A file, a folder with a file, a link, a fifo."""
    (folder / "sub").mkdir(parents=True)
    for name in ("file", "sub/inner"):
        (folder / name).write_bytes(b"content")
        (folder / name).chmod(0o644)
    (folder / "sub").chmod(0o755)
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "fifo", 0o644)
    return folder


def relinked(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("sub")


def hard_linked(folder: Path) -> None:
    (folder / "sub/inner").unlink()
    os.link(folder / "file", folder / "sub/inner")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "file").write_bytes(b"contenT"),
    "content of a file in a folder": lambda folder: (folder / "sub/inner").write_bytes(b"contenT"),
    "mode of a file": lambda folder: (folder / "file").chmod(0o600),
    "mode of a folder": lambda folder: (folder / "sub").chmod(0o700),
    "mode of a fifo": lambda folder: (folder / "fifo").chmod(0o600),
    "name": lambda folder: (folder / "file").rename(folder / "file2"),
    "folder": lambda folder: (folder / "file").rename(folder / "sub/file"),
    "an empty folder more": lambda folder: (folder / "empty").mkdir(),
    "target of a link": relinked,
    "one file by two names": hard_linked,
    "xattr": lambda folder: os.setxattr(folder / "file", "user.a", b"b"),
    "xattr of a folder": lambda folder: os.setxattr(folder / "sub", "user.a", b"b"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_change_of_copied_files_changes_the_hash(tmp_path: Path, change: Callable[[Path], object]) -> None:
    one, other = a_tree(tmp_path / "one"), a_tree(tmp_path / "other")
    assert contents(one) == contents(other)
    change(other)
    assert contents(one)[0] != contents(other)[0]
    assert contents(one)[1] != contents(other)[1]


@pytest.mark.parametrize(("name", "value", "another"), [("user.a", b"b", b"c"), ("user.a", b"b", b"")])
def test_the_value_of_an_xattr_changes_the_hash(tmp_path: Path, name: str, value: bytes, another: bytes) -> None:
    one, other = a_tree(tmp_path / "one"), a_tree(tmp_path / "other")
    os.setxattr(one / "file", name, value)
    os.setxattr(other / "file", name, another)
    assert contents(one)[0] != contents(other)[0]


def test_times_do_not_change_the_hash(tmp_path: Path) -> None:
    one, other = a_tree(tmp_path / "one"), a_tree(tmp_path / "other")
    for path in (other / "file", other / "sub"):
        os.utime(path, (1, 1))
    assert contents(one) == contents(other)


def contents(folder: Path) -> tuple[str, str]:
    """Of what COPY takes, and of the whole tree."""
    return copied_contents(CopyRequest(Rootfs(str(folder)), (".",), "/")), tree_contents(Rootfs(str(folder)))


# --- released


def steps_of(case: Case) -> Iterator[tuple[str, StepKey]]:
    """Every step of a case that makes a layer, by the numbers of its stage and of itself."""
    for stage in case.plan()[0].stages:
        for number, step in enumerate(stage.steps):
            if isinstance(step, RunStep | CopyStep | WorkdirStep):
                yield f"{case.folder.name} {stage.index}.{number}", key_of(step)


def test_released_keys_do_not_change() -> None:
    """The steps are those of the cases; what changes one of these keys raises ``keys._VERSION`` and loses all
    caches.
    """
    released: dict[str, str] = json.loads(RELEASED.read_text())
    assert len(released) == 50
    cases = {name.split()[0] for name in released}
    now = {name: key.text for case in cases for name, key in steps_of(Case(CASES / case)) if name in released}
    assert now == released

"""--build-context as docker buildx takes it; what can't be meant is refused with what to write instead."""

from pathlib import Path

import pytest

from imagewright.cli.contexts import named_contexts
from imagewright.contract.sources import (
    ContextSource,
    DirectorySource,
    GitSource,
    HttpSource,
    ImageSource,
    LayoutSource,
    NamedContext,
)
from imagewright.errors import UsageError

DIGEST = "sha256:" + "a" * 64


def source(value: str) -> ContextSource:
    (context,) = named_contexts([f"base={value}"])
    return context.source


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("docker-image://alpine", ImageSource(reference="docker.io/library/alpine:latest")),
        ("docker-image://r.example/a:1", ImageSource(reference="r.example/a:1")),
        (f"docker-image://alpine@{DIGEST}", ImageSource(reference=f"docker.io/library/alpine@{DIGEST}")),
        ("docker-image://scratch", ImageSource(reference="scratch")),
        ("https://example.com/a.tar.gz", HttpSource(url="https://example.com/a.tar.gz")),
        ("https://example.com/a.git#v1:sub", GitSource(url="https://example.com/a.git", ref="v1", subdir="sub")),
        ("https://github.com/team/app", GitSource(url="https://github.com/team/app")),
        ("git@example.com:a.git", GitSource(url="git@example.com:a.git")),
    ],
)
def test_kinds_of_source(value: str, expected: ContextSource) -> None:
    assert source(value) == expected


def test_folders_and_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert source("sub") == DirectorySource(path=str(tmp_path / "sub"))
    assert source("oci-layout://sub") == LayoutSource(path=str(tmp_path / "sub"))
    assert source(f"oci-layout://{tmp_path}/sub:v1@{DIGEST}") == LayoutSource(
        path=str(tmp_path / "sub"), tag="v1", digest=DIGEST
    )


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("base", "base"),
        ("alpine:3.20", "alpine:3.20"),
        ("alpine:latest", "alpine"),
        ("docker.io/library/alpine", "alpine"),
        ("r.example/team/app:latest", "r.example/team/app"),
    ],
)
def test_names_have_one_form(written: str, name: str) -> None:
    assert named_contexts([f"{written}=docker-image://scratch"]) == (
        NamedContext(name=name, source=ImageSource(reference="scratch")),
    )


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["base"], "not NAME=SOURCE", "oci-layout://FOLDER"),
        (["=x"], "not NAME=SOURCE", "oci-layout://FOLDER"),
        (["base="], "not NAME=SOURCE", "oci-layout://FOLDER"),
        (
            ["Base=docker-image://a"],
            'invalid --build-context name "Base": the name must be lower case, as in "base"',
            "the name of a stage",
        ),
        (["a=docker-image://b", "a:latest=docker-image://c"], 'duplicate --build-context for "a"', "one source"),
        (["a=alpine:3.20"], "no such directory", "a=docker-image://alpine:3.20"),
        (["a=/etc/passwd"], "not a directory", "oci-layout://FOLDER"),
        (["a=oci-layout://"], "the directory's name is missing", "oci-layout://FOLDER"),
        (["a=oci-layout:///:x@sha256:1"], "sha256", ""),
        (["a=docker-image://With Space"], "invalid image reference", ""),
        (["a=target://b"], "unknown scheme target://", "docker-image://"),
        (["a=git@h:a.git#m#abc"], '"abc"', "40 digits"),
    ],
)
def test_invalid_values_are_refused(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        named_contexts(words)
    assert message in caught.value.message
    assert "--build-context" in caught.value.message
    assert hint in caught.value.hint


def test_login_in_an_address_is_not_in_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        named_contexts(["a=https://u:hunter2@example.com/a.git#main#abc"])
    assert "hunter2" not in caught.value.render()

"""Hints that name a flag name the ImageBuild's field too, in one form, and in an ImageBuild's Pod the field first."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagewright.remedies import for_imagebuild

SOURCE = Path(__file__).parents[2] / "builder" / "imagewright"
# What runs in an ImageBuild's Pod, and can fail there for what its owner has written.
AREAS = ("engine", "registry", "context", "fs", "sandbox", "plan")
# Flags of instructions, of other commands, and what no ImageBuild can be the cause of.
WITHOUT_FIELD = (
    "--chmod --chown --checksum --parents --from --interval --timeout --mount --retries --x "  # of the Dockerfile
    "--stdin --interactive --image --values --pretty "  # of kubectl, docker and other commands
    "--destination --no-push --tar-path --oci-layout-path --context --secret "  # the operator writes them itself
    "--push-ignore-immutable-tag-errors --work-dir --sandbox=root"
).split()


def texts() -> Iterator[tuple[str, str]]:
    """File, and each of its sentences that name a flag; x in the place of values."""
    for area in AREAS:
        for file in sorted((SOURCE / area).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value
                else:
                    continue
                if re.match(r"[A-Z][^\n]*(?<![\w-])--[a-z]", text) and text.endswith(".") and "``" not in text:
                    yield file.name, text


def test_a_flag_has_its_field() -> None:
    found = list(texts())
    assert len(found) > 20
    for file, text in found:
        rest = for_imagebuild(text)
        flags = re.findall(r"(?<![\w-])--[a-z][\w=-]*", re.sub(r"\(command line: [^()]*\)", "", rest))
        assert not [flag for flag in flags if not flag.startswith(tuple(WITHOUT_FIELD))], f"{file}: {rest}"


def test_no_field_is_left_in_the_second_place() -> None:
    for file, text in texts():
        assert "(ImageBuild:" not in for_imagebuild(text), f"{file}: {text}"


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (
            "For plain HTTP, use --insecure-registry HOST (ImageBuild: spec.registries[].insecure).",
            "For plain HTTP, use spec.registries[].insecure (command line: --insecure-registry HOST).",
        ),
        (
            "Give a token with --secret id=HTTP_AUTH_TOKEN_a.example:5000,src=FILE (ImageBuild: spec.secrets).",
            "Give a token with spec.secrets (command line: --secret id=HTTP_AUTH_TOKEN_a.example:5000,src=FILE).",
        ),
        (
            "Use --sandbox=namespace or --sandbox=chroot (ImageBuild: spec.sandbox) here.",
            "Use spec.sandbox (command line: --sandbox=namespace or --sandbox=chroot) here.",
        ),
        (
            "Name it with --dockerfile (ImageBuild: spec.dockerfile). Use --label (ImageBuild: spec.output.labels).",
            "Name it with spec.dockerfile (command line: --dockerfile). Use spec.output.labels (command line: --label).",
        ),
        (
            "Provide it with --ssh work or --ssh work=KEYFILE (ImageBuild: spec.ssh).",
            "Provide it with spec.ssh (command line: --ssh work or --ssh work=KEYFILE).",
        ),
        (
            "Add a login with docker login (ImageBuild: spec.output.pushSecretRef).",
            "Add a login with spec.output.pushSecretRef (command line: docker login).",
        ),
        ("Remove --checksum, or use a remote source.", "Remove --checksum, or use a remote source."),
    ],
)
def test_the_field_comes_first_for_an_imagebuild(hint: str, shown: str) -> None:
    assert for_imagebuild(hint) == shown

"""A login that was pasted into a value, as in ``https://user:password@host/``: what refuses it does not print it."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagewright.cli import main as cli
from imagewright.cli.command import Command, Kind
from imagewright.errors import ImagewrightError, RegistryError
from imagewright.logins import without_logins
from imagewright.reference import Reference
from imagewright_operator.reconcile.validation import problems, read
from imagewright_operator.settings import Settings

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t"
PASTED = (
    f"https://user:{SECRET}@127.0.0.1:1/app",
    f"https://{SECRET}@127.0.0.1:1/app:1",
    f"user:{SECRET}@127.0.0.1:1/app",
)
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f'invalid "https://u:{SECRET}@h.test/a": no', 'invalid "https://h.test/a": no'),
        (f"http://a.test/b,https://u:{SECRET}@h/c", "http://a.test/b,https://h/c"),
        (f"id=a,src=https://u:{SECRET}@h/c", "id=a,src=https://h/c"),
        (f'"u:{SECRET}@h/app:1"', '"h/app:1"'),
        (f"--x=u:{SECRET}=@h", "--x=h"),
        (f"https://u:{SECRET}@localhost/app@{DIGEST}", f"https://localhost/app@{DIGEST}"),
        (f"https://localhost:5000/app@{DIGEST}", f"https://localhost:5000/app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"app:1@{DIGEST}"),
        ("app:1@sha256:abc", "app:1@sha256:abc"),
        ("localhost:5000/app:1@foo", "localhost:5000/app:1@foo"),
        ("oci-layout://FOLDER[:TAG][@DIGEST]", "oci-layout://FOLDER[:TAG][@DIGEST]"),
        ("/a//b@c", "/a//b@c"),
        ("git@h.test:a", "git@h.test:a"),
        ("at 12:30, a@b", "at 12:30, a@b"),
    ],
)
def test_what_messages_show(text: str, shown: str) -> None:
    assert without_logins(text) == shown
    error = RegistryError(text, why=text, hint=text)
    assert {error.message, error.why, error.hint, str(error)} == {shown}
    assert SECRET not in error.render()


@pytest.mark.parametrize("pasted", PASTED)
def test_a_reference(pasted: str) -> None:
    with pytest.raises(ImagewrightError, match="invalid") as caught:
        Reference.parse(pasted)
    assert SECRET not in caught.value.render()


def _commands() -> Iterator[tuple[str, Command]]:
    for module in ("build", "lint", "login", "pin", "push", "warm"):
        yield from importlib.import_module(f"imagewright.cli.commands.{module}").COMMANDS.items()


def _words() -> Iterator[tuple[list[str], dict[str, str]]]:
    """Every flag that takes a text, by itself and from its variable, but for those that may have a login."""
    for name, command in _commands():
        for flag in command.flags:
            if flag.kind in (Kind.TEXT, Kind.LIST) and flag.name not in ("context", "dockerfile", "bucket"):
                forms = ("{}", "a={}") if flag.kind is Kind.LIST else ("{}",)
                for form, pasted in itertools.product(forms, PASTED):
                    value = form.format(pasted)
                    yield [name, f"--{flag.name}={value}"], {}
                    if flag.environment:
                        yield [name], {flag.environment: value}


def test_every_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    tried = 0
    for words, environment in _words():
        cli.main(words, {"HOME": str(tmp_path), **environment})
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err, words
        tried += 1
    assert tried > 300


def _leaves(schema: Mapping[str, Any], value: str) -> Iterator[Any]:
    """A value of this schema for each of its texts and each name of its maps, which is ``value``."""
    if "properties" in schema:
        for name, below in schema["properties"].items():
            yield from ({name: one} for one in _leaves(below, value))
    elif "items" in schema:
        yield from ([one] for one in _leaves(schema["items"], value))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield {value: "a"}
        yield from ({"a": one} for one in _leaves(schema["additionalProperties"], value))
    elif schema.get("type") == "string" or "x-kubernetes-int-or-string" in schema:
        yield value


def _merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{name: _merged(under.get(name), value) for name, value in over.items()}}
    return over


def test_every_field_of_an_imagebuild() -> None:
    definition = yaml.safe_load((ROOT / "crds/imagewright.dev_imagebuilds.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    base = {"source": {"inline": {"dockerfile": "FROM scratch"}}, "output": {"tags": ["a.example.com/b:1"]}}
    tried = refused = 0
    for value in PASTED:
        for leaf in _leaves(schema, value):
            spec = _merged(base, leaf)
            if "source" in leaf:
                spec["source"] = leaf["source"]
            imagebuild, problem = read({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
            found = [problem] if problem else problems(imagebuild, Settings())
            assert not [one for one in found if SECRET in one], leaf
            tried, refused = tried + 1, refused + bool(found)
    assert tried > 300
    assert refused > 100


def _settings() -> Iterator[dict[str, str]]:
    names = set(re.findall(r"\bIMAGEWRIGHT_[A-Z_]+\b", (ROOT / "docs/operator.md").read_text()))
    for name, value in itertools.product(sorted(names), PASTED):
        yield {name: value}
    for value, key in itertools.product(PASTED, ("host", "mirrors", "endpoint", "caFile")):
        yield {"IMAGEWRIGHT_REGISTRIES": json.dumps([{"host": "a", key: [value] if key == "mirrors" else value}])}


def test_every_setting_of_the_operator() -> None:
    refused = 0
    for environment in _settings():
        said = ""
        try:
            Settings.from_environment(environment)
        except ImagewrightError as error:
            said = error.render()
        assert SECRET not in said, environment
        refused += bool(said)
    assert refused > 50

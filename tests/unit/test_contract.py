"""The contract between operator and executor survives the trip and keeps its bounds."""

import base64
import json
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.contract import MAX_CORE_BYTES, MAX_TERMINATION_BYTES
from imagewright.contract.coding import InvalidValue, camel_case, kind_name, read, write
from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    CacheSettings,
    ContextSettings,
    ImageSettings,
    OutputSettings,
    PlanSettings,
    RegistryAccess,
    RegistrySettings,
    RunSettings,
    SandboxKind,
    SecretSource,
    SshSource,
    Timestamps,
)
from imagewright.contract.result import BuildResult, Failure, StepResult
from imagewright.contract.sources import KINDS, GitSource, InlineSource, LayoutSource, NamedContext, SourceKind
from imagewright.errors import UsageError

RELEASED = Path(__file__).parents[1] / "released" / "contract" / "request.json"


def test_inline_dockerfile_survives_byte_for_byte() -> None:
    text = "RUN echo $$ $(HOME) \"'`\\\n" + "漢" * 5000
    request = BuildRequest(context=ContextSettings(source=InlineSource(dockerfile=text)))
    assert BuildRequest.decode(request.encode()).context.source == InlineSource(dockerfile=text)


def test_too_large_a_request_is_refused() -> None:
    request = BuildRequest(context=ContextSettings(source=InlineSource(dockerfile="x" * 100_000)))
    with pytest.raises(UsageError) as caught:
        request.encode()
    assert caught.value.reason == "InvalidSpec"
    assert "ConfigMap" in caught.value.hint


@given(st.text(max_size=9000), st.text(max_size=9000), st.integers(0, 120), st.text(max_size=300))
def test_termination_message_fits_and_parses(message: str, hint: str, steps: int, name: str) -> None:
    result = BuildResult(
        digest="sha256:" + "a" * 64,
        failure=Failure(reason="StepFailed", message=message, hint=hint, instruction=message),
        references=("r.example/" + "a" * 200,) * 16,
        steps=tuple(
            StepResult(name=f"{i} {name}", start_time="2026-01-01T00:00:00.000Z", completion_time="")
            for i in range(steps)
        ),
    )
    text = result.termination_message()
    assert len(text.encode()) <= MAX_TERMINATION_BYTES
    parsed = BuildResult.parse(text)
    assert parsed is not None
    assert parsed.digest == result.digest
    assert parsed.failure is not None
    assert len(replace(parsed, steps=()).to_json().encode()) <= MAX_CORE_BYTES + 30
    assert parsed.steps == result.steps[len(result.steps) - len(parsed.steps) :]
    assert parsed.steps_truncated == (len(parsed.steps) < steps)


@pytest.mark.parametrize("text", ["x" * 9000, "\0" * 9000, "漢" * 9000])
def test_a_long_hint_leaves_a_message_that_can_be_read(text: str) -> None:
    failure = Failure(reason="RegistryUnavailable", message="it is down", hint=text)
    message = BuildResult(failure=failure).termination_message()
    assert len(message.encode()) <= MAX_CORE_BYTES
    parsed = BuildResult.parse(message)
    assert parsed is not None
    assert parsed.failure is not None
    assert parsed.failure.message == "it is down"
    assert parsed.failure.hint[:100] == text[:100]


def test_other_messages_are_no_result() -> None:
    assert BuildResult.parse("Killed") is None
    assert BuildResult.parse("") is None


def test_secret_has_exactly_one_source() -> None:
    assert SecretSource(id="a", file="/run/a").file == "/run/a"
    for places in ({}, {"file": "/run/a", "env": "A"}):
        with pytest.raises(InvalidValue, match="exactly one of file and env"):
            read(SecretSource, {"id": "a", **places})


FULL = BuildRequest(
    context=ContextSettings(
        source=GitSource(url="https://git.example.com/a.git", ref_type="tag", depth=0, credentials_dir="/login"),
        named=(NamedContext(name="base", source=LayoutSource(path="/base", tag="1")),),
    ),
    plan=PlanSettings(build_args=(BuildArg(name="A"), BuildArg(name="B", value="")), labels={"a_b": "c"}),
    run=RunSettings(
        sandbox=SandboxKind.ROOT, secrets=(SecretSource(id="a", env="A"),), ssh=(SshSource(paths=("/k",)),)
    ),
    registry=RegistryAccess(hosts=(RegistrySettings(host="r", mirrors=("m/x",)),), credential_helpers=("env",)),
    image=ImageSettings(compression_level=3, timestamps=Timestamps.ZERO),
    output=OutputSettings(destinations=("a", "b"), push=False),
    cache=CacheSettings(sources=("c",), ttl_s=0),
)


def test_every_kind_of_field_survives() -> None:
    assert BuildRequest.decode(FULL.encode()) == FULL


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind_name(kind.model))
def test_every_source_survives(kind: SourceKind) -> None:
    given = {each.name: "x" for each in fields(kind.model) if each.default is MISSING}
    request = BuildRequest(context=ContextSettings(source=kind.model(**given)))
    assert BuildRequest.decode(request.encode()) == request


def test_json_is_as_it_was() -> None:
    """Operator and executor may be of two releases while the operator is updated."""
    encoded = base64.b64decode(FULL.encode())
    assert json.loads(encoded) == json.loads(RELEASED.read_text())
    assert b'"a_b":"c"' in encoded


def _with(path: str, value: object) -> object:
    """FULL as JSON with another value."""
    *parents, last = path.split(".")
    whole = write(FULL, defaults=True)
    place: Any = whole
    for name in parents:
        place = place[int(name) if name.isdecimal() else name]
    place[last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unknown", 1, "unknown: unknown field"),
        ("version", 2, "version: not 1"),
        ("version", True, "version: not 1"),
        ("context", [], "context: not an object"),
        ("context.source.kind", "ftp", 'context.source.kind: not "directory" or '),
        ("context.source.kind", ["git"], 'context.source.kind: not "directory" or '),
        ("context.source.depth", -1, "context.source: depth is negative"),
        ("context.source.depth", "1", "context.source.depth: not a whole number"),
        ("context.source.depth", True, "context.source.depth: not a whole number"),
        ("context.source.depth", 1.0, "context.source.depth: not a whole number"),
        ("context.source.refType", "commit", 'context.source.refType: not "any" or '),
        ("context.source.url", None, "context.source.url: not a text"),
        ("context.named", {}, "context.named: not a list"),
        ("context.named.0.source.kind", "tar", 'context.named.0.source.kind: not "directory" or '),
        ("plan.labels", {"a": 1}, "plan.labels.a: not a text"),
        ("plan.labels", [], "plan.labels: not an object"),
        ("run.sandbox", "none", 'run.sandbox: not "auto" or '),
        ("run.sandbox", {}, 'run.sandbox: not "auto" or '),
        ("run.secrets", [{"id": "a"}], "run.secrets.0: exactly one of file and env is required"),
        ("run.secrets", [{"env": "a"}], "run.secrets.0.id: field required"),
        ("run.ssh.0.paths", [], "run.ssh.0: at least one path is required"),
        ("run.requireIsolation", 1, "run.requireIsolation: not a boolean"),
        ("registry.pullRetries", -1, "registry: pullRetries or pushRetries is negative"),
        ("registry.pushRetries", -1, "registry: pullRetries or pushRetries is negative"),
        ("image.compressionLevel", "9", "image.compressionLevel: not a whole number"),
        ("cache.ttlS", -1, "cache: ttlS is negative"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(path: str, value: object, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(BuildRequest, _with(path, value))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"version":' * 200_000, "\udcff", '{"digest":"\\ud800"}', "1", "[]"])
def test_hostile_json_is_no_result(text: str) -> None:
    parsed = BuildResult.parse(text)
    assert parsed is None or parsed.digest == "\N{REPLACEMENT CHARACTER}"
    with pytest.raises(UsageError):
        BuildRequest.decode(base64.b64encode(text.encode("utf-8", "surrogateescape")).decode())


def test_bytes_that_are_no_characters_are_written_with_backslashes() -> None:
    result = BuildResult(steps=(StepResult(name="COPY \udcff", start_time="", completion_time=""),))
    parsed = BuildResult.parse(result.termination_message())
    assert parsed is not None
    assert parsed.steps[0].name == "COPY \\udcff"


def test_names_are_camel_case_or_the_fields_own() -> None:
    assert camel_case("image_name_tag_with_digest_file") == "imageNameTagWithDigestFile"
    assert read(RegistrySettings, {"host": "r", "skip_tls_verify": True, "caFile": "x"}) == RegistrySettings(
        host="r", skip_tls_verify=True, ca_file="x"
    )

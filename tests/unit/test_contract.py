"""The contract between operator and executor survives the trip and keeps its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imagewright.contract import MAX_CORE_BYTES, MAX_TERMINATION_BYTES
from imagewright.contract.request import BuildRequest, ContextSettings, SecretSource
from imagewright.contract.result import BuildResult, Failure, StepResult
from imagewright.contract.sources import InlineSource
from imagewright.errors import UsageError


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
    assert len(parsed.model_copy(update={"steps": ()}).to_json().encode()) <= MAX_CORE_BYTES + 30
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
        with pytest.raises(ValidationError, match="exactly one of file and env"):
            SecretSource.model_validate({"id": "a", **places})

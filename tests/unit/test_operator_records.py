"""The records of the status: patches, hashes of inputs, the end of the log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagewright.contract import RESULT_LOG_KEY
from imagewright.contract.result import BuildResult, StepResult
from imagewright_operator.api import ImageBuild, Status
from imagewright_operator.api.status import Build, Step
from imagewright_operator.pods import logtail
from imagewright_operator.pods.observation import Observation, PodState
from imagewright_operator.reconcile.inputs import Inputs, build_id
from imagewright_operator.status.records import clipped, duration_of, status_json, status_patch, with_observation


def imagebuild(**spec: Any) -> ImageBuild:
    spec = {"source": {"inline": {"dockerfile": "FROM scratch\n"}}, "output": {"tags": ["a/b"]}, **spec}
    return ImageBuild.parse({"metadata": {"name": "app", "uid": "u"}, "spec": spec})


def test_a_status_survives_being_stored() -> None:
    steps = [Step(name="RUN true", exit_code=0), Step(name="COPY", cached=True)]
    status = Status(observed_generation=3, build=Build(id="a", inputs_hash="v1-x", steps=steps))
    stored = status_json(status)
    assert stored["build"]["steps"][0] == {"name": "RUN true", "exitCode": 0}
    assert Status.model_validate(stored) == status
    assert status_patch(stored, status) == {}


def test_cache_hits_and_misses_reach_the_status() -> None:
    told = [
        StepResult(name="RUN a", start_time="x", completion_time="y", cached=True),
        StepResult(name="RUN b", start_time="x", completion_time="y", cache_miss="its text is new", exit_code=0),
    ]
    seen = Observation(state=PodState.SUCCEEDED, name="pod", uid="u")
    stored = status_json(
        Status(build=with_observation(Build(id="a", inputs_hash="x"), seen, BuildResult(steps=tuple(told))))
    )
    first, second = stored["build"]["steps"]
    assert (first["cached"], "cacheMiss" in first) == (True, False)
    assert ("cached" in second, second["cacheMiss"]) == (False, "its text is new")


def test_a_patch_removes_missing_fields_and_omits_equal_ones() -> None:
    stored = {
        "observedGeneration": 1,
        "duration": "3s",
        "build": {"id": "a", "inputsHash": "x", "number": 1, "attempt": 1, "nodeName": "n"},
    }
    patch = status_patch(stored, Status(observed_generation=2, build=Build(id="a", inputs_hash="x")))
    assert patch == {"observedGeneration": 2, "duration": None, "build": {"nodeName": None}}


def test_fields_of_a_newer_operator_are_kept() -> None:
    assert status_patch({"observedGeneration": 1, "index": {"a": 1}}, Status(observed_generation=1)) == {}


@pytest.mark.parametrize(
    ("end", "text"),
    [("12:00:00", "0s"), ("12:00:59.600", "1m0s"), ("12:01:23", "1m23s"), ("14:05:09", "2h5m"), ("11:59:59", "0s")],
)
def test_durations_in_hours_minutes_and_seconds(end: str, text: str) -> None:
    build = Build(id="a", inputs_hash="x", start_time="2026-11-25T12:00:00Z", completion_time=f"2026-11-25T{end}Z")
    assert duration_of(build) == text


def test_messages_fit_into_a_condition() -> None:
    assert len(clipped("x" * 5000)) == 1024
    assert clipped("x" * 5000).endswith("…")


def test_defaults_written_out_are_the_same_inputs() -> None:
    plain = Inputs.of(imagebuild())
    written = imagebuild(
        contextDir=".", dockerfile="Dockerfile", buildArgs=[], platforms=[], timeout="1h", retry={"limit": 2}
    )
    assert Inputs.of(written) == plain
    output = {"tags": ["a/b"], "compression": "Gzip", "timestamp": "Build", "annotations": {}}
    assert Inputs.of(imagebuild(output=output)) == plain


def test_the_inputs_hash_never_changes() -> None:
    """An operator that computes another one rebuilds the world when it is installed."""
    spec = {
        "source": {"git": {"url": "https://git.example.com/a.git", "ref": {"branch": "main"}}},
        "target": "runtime",
        "buildArgs": [{"name": "VERSION", "value": "1.2"}],
    }
    assert Inputs.of(imagebuild(**spec)).inputs_hash == "v1-753ef9458602c4925b1017115ecb98a88842897e"


@pytest.mark.parametrize(
    ("spec", "same_image"),
    [
        ({"target": "x"}, False),
        ({"buildArgs": [{"name": "A", "value": "1"}]}, False),
        ({"output": {"tags": ["a/b", "a/c"]}}, False),
        ({"output": {"tags": ["a/b"], "labels": {"insecure": "x"}}}, False),
        ({"output": {"tags": ["a/b"], "insecure": True, "pushSecretRef": {"name": "x"}}}, True),
        ({"output": {"tags": ["a/b"], "annotations": {"a": "b"}}}, False),
        ({"output": {"tags": ["a/b"], "compression": "Zstd"}}, False),
        ({"output": {"tags": ["a/b"], "compressionLevel": 9}}, False),
        ({"output": {"tags": ["a/b"], "format": "OCI"}}, False),
        ({"output": {"tags": ["a/b"], "timestamp": "Zero"}}, False),
        ({"cache": {"repository": "a/cache", "ttl": "1h"}}, True),
        ({"registries": [{"host": "docker.io", "mirrors": ["m.example.com"]}]}, True),
        ({"registries": [{"host": "docker.io", "clientCertificateSecretRef": {"name": "a"}}]}, True),
        ({"podTemplate": {"hostUsers": False}}, True),
        ({"sandbox": "Root"}, True),
        ({"requireIsolation": True}, True),
    ],
)
def test_the_fields_of_the_inputs_hash(spec: dict[str, Any], same_image: bool) -> None:
    before, after = Inputs.of(imagebuild()), Inputs.of(imagebuild(**spec))
    assert (before.inputs_hash == after.inputs_hash) is same_image
    assert before.environment_hash != after.environment_hash


@pytest.mark.parametrize(
    ("kind", "before", "after", "same_image"),
    [
        ("http", {"url": "https://a/b"}, {"url": "https://a/b", "secretRef": {"name": "x"}}, True),
        ("http", {"url": "https://a/b"}, {"url": "https://a/b", "sha256": "a" * 64}, False),
        ("s3", {"bucket": "a", "key": "b"}, {"bucket": "a", "key": "b", "pathStyle": True}, True),
        ("s3", {"bucket": "a", "key": "b"}, {"bucket": "a", "key": "c"}, False),
        ("volume", {"claimName": "a"}, {"claimName": "a", "subPath": "b"}, False),
    ],
)
def test_the_source_fields_of_the_inputs_hash(
    kind: str, before: dict[str, Any], after: dict[str, Any], *, same_image: bool
) -> None:
    first, second = (Inputs.of(imagebuild(source={kind: one})) for one in (before, after))
    assert (first.inputs_hash == second.inputs_hash) is same_image
    assert first.environment_hash != second.environment_hash


def test_a_resource_created_again_has_other_pod_names() -> None:
    inputs = Inputs.of(imagebuild())
    assert build_id("uid-1", inputs, 1) != build_id("uid-2", inputs, 1)
    assert build_id("uid-1", inputs, 1) != build_id("uid-1", inputs, 2)
    assert build_id("uid-1", inputs, 1) == build_id("uid-1", inputs, 1)


def test_the_tail_is_whole_lines_of_at_most_4_kib() -> None:
    text, truncated = logtail.tail(b"".join(b"line %d\n" % number for number in range(10000)))
    assert truncated
    assert len(text.encode()) <= 4096
    assert text.startswith("line ")
    assert text.endswith("line 9999\n")
    assert logtail.tail(b"one\ntwo") == ("one\ntwo\n", False)
    assert logtail.tail(b"") == ("", False)


def test_a_single_endless_line() -> None:
    text, truncated = logtail.tail("é".encode() * 100000)
    assert truncated
    assert len(text.encode()) <= 4096
    assert text.startswith("…é")


def test_binary_output_becomes_text() -> None:
    text, _ = logtail.tail(bytes(range(256)) + b"\n\x1b[31mred\x1b[0m\r\nend\n")
    assert text.encode().decode() == text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert text.endswith("red\nend\n")


def test_the_executors_result_is_not_in_the_tail() -> None:
    line = json.dumps({RESULT_LOG_KEY: {"digest": "sha256:" + "a" * 64}}).encode()
    assert logtail.tail(b"done\n" + line + b"\n") == ("done\n", False)
    found = logtail.result(b"done\n" + line + b"\n")
    assert found is not None
    assert found.digest == "sha256:" + "a" * 64
    assert logtail.result(line + b"\ndone\n") is None
    assert logtail.result(b'{"imagewrightResult": {"unknown": 1}}') is None
    assert logtail.result(b'{"imagewrightResult"') is None


def test_the_current_step_is_the_last_line_that_begins_with_a_counted_one() -> None:
    log = b"[stage-0 1/3] FROM a\n[stage-0 2/3] RUN b\n  [stage-0 3/3] printed by RUN\n[x] y\n[1/] z\n[/2] z\n"
    assert logtail.step(log) == "[stage-0 2/3] RUN b"
    assert logtail.step(b"[x] y\n") == ""

"""The planner: requested configurations, needed stages, and the values in a plan."""

from __future__ import annotations

import pytest

from imagewright.dockerfile.parser import parse
from imagewright.errors import DockerfileError, UsageError
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.gotext import quote, quote_list
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import ConfigRequest, PlanOptions
from imagewright.plan.origins import ImageOrigin, StageOrigin
from imagewright.plan.paths import destination, resolve, source
from imagewright.plan.ports import PortError, parse_ports
from imagewright.plan.resolve import make_plan
from imagewright.plan.steps import CopyStep, MetadataStep, RunStep, WorkdirStep

_AMD64 = Platform("linux", "amd64")
_ARM64 = Platform("linux", "arm64")


def plan(text: str, options: PlanOptions | None = None, **config: object) -> tuple[BuildPlan, list[ConfigRequest]]:
    asked: list[ConfigRequest] = []

    def config_of(request: ConfigRequest) -> ImageConfig:
        asked.append(request)
        return ImageConfig.scratch(request.platform).with_config(config)

    dockerfile = parse(text.encode(), "Dockerfile")
    return make_plan(dockerfile, options or PlanOptions("", {}, _AMD64, _AMD64), config_of), asked


def test_the_configuration_of_each_needed_image_is_requested_once_with_its_location() -> None:
    text = "FROM a AS one\nFROM b AS unused\nFROM a\nCOPY --from=one /x /y\nCOPY --from=c /x /z\n"
    _, asked = plan(text)
    assert [str(question.reference) for question in asked] == ["docker.io/library/a:latest"]
    assert asked[0].location is not None
    assert asked[0].location.line == 3


def test_an_image_for_two_platforms_is_requested_twice() -> None:
    options = PlanOptions("", {}, _ARM64, _AMD64)
    _, asked = plan("FROM --platform=$BUILDPLATFORM a AS one\nFROM a\nCOPY --from=one /x /y\n", options)
    assert {str(question.platform) for question in asked} == {"linux/amd64", "linux/arm64"}


def assumed(name: str) -> str:
    return f"No earlier stage is named {name}, so it was resolved as the image docker.io/library/{name}:latest."


def test_a_mistyped_stage_gets_a_hint() -> None:
    built, asked = plan("FROM a AS builder\nFROM biulder\nCOPY --from=bulder /x /y\n")
    assert asked[0].hint == f"Did you mean the stage builder? {assumed('biulder')}"
    (step,) = built.target.steps
    assert isinstance(step, CopyStep)
    assert isinstance(step.origin, ImageOrigin)
    assert step.origin.hint == f"Did you mean the stage builder? {assumed('bulder')}"


def hints(text: str) -> list[str]:
    """Of the images that are asked for: those of FROM, then those of COPY and RUN --mount."""
    built, asked = plan(text)
    named = [origin for stage in built.stages for _, origin in stage.origins if isinstance(origin, ImageOrigin)]
    return [question.hint for question in asked] + [origin.hint for origin in named]


def test_the_hint_for_a_missing_image_mentions_that_no_stage_has_the_name() -> None:
    hint = assumed("nosuchstage")
    assert hints("FROM scratch\nCOPY --from=nosuchstage /x /y\n") == [hint]
    assert hints("FROM a\nRUN --mount=from=nosuchstage,target=/x true\n") == ["", hint]
    assert hints("FROM a AS build\nFROM nosuchstage\n") == [hint]
    assert hints("FROM nosuchstage\n") == [""], "nobody could have meant a stage"
    for name in ("nosuchstage:1", "team/nosuchstage", "r.test/nosuchstage"):
        assert hints(f"FROM scratch\nCOPY --from={name} /x /y\n") == [""], "an image alone is written so"


def test_stages_come_after_those_that_they_need_and_the_target_is_last() -> None:
    text = "FROM a AS one\nFROM one AS two\nFROM a AS three\nCOPY --from=two /x /y\nFROM a\nCOPY --from=0 /x /y\n"
    built, _ = plan(text)
    assert [(stage.index, stage.label, stage.needs) for stage in built.stages] == [
        (0, "one", frozenset()),
        (3, "stage-3", frozenset({0})),
    ]
    built, _ = plan(text, PlanOptions("three", {}, _AMD64, _AMD64))
    assert [stage.index for stage in built.stages] == [0, 1, 2]
    assert built.target.label == "three"
    assert built.stage(1).needs == frozenset({0})


def test_a_target_number_without_a_stage_is_refused() -> None:
    with pytest.raises(UsageError, match='target stage "7" not found'):
        plan("FROM a\n", PlanOptions("7", {}, _AMD64, _AMD64))


@pytest.mark.parametrize("target", ["00000000007", "70000000000", "9" * 5000])
def test_a_long_number_is_not_truncated(target: str) -> None:
    with pytest.raises(UsageError, match="not found"):
        plan("FROM a\n", PlanOptions(target, {}, _AMD64, _AMD64))
    with pytest.raises(DockerfileError, match="no such stage"):
        plan(f"FROM a\nFROM b\nCOPY --from={target} /x /y\n")


def test_leading_zeros_of_stage_numbers_are_ignored() -> None:
    built, _ = plan("FROM a\nFROM a\nFROM b\nCOPY --from=0000000001 /x /y\n")
    (step,) = built.target.steps
    assert isinstance(step, CopyStep)
    assert step.origin == StageOrigin(1)


def test_the_class_of_each_step() -> None:
    built, _ = plan("FROM a\nRUN x\nCOPY a b\nWORKDIR /w\nWORKDIR /\nENV A=b\nONBUILD RUN x\nADD a b\n")
    classes = [type(step) for step in built.target.steps]
    assert classes == [RunStep, CopyStep, WorkdirStep, MetadataStep, MetadataStep, CopyStep]


def test_a_step_has_its_title_and_location() -> None:
    built, _ = plan("FROM a\nARG P=git\nRUN apk add \\\n  $P\n", OnBuild=["RUN first"])
    trigger, _, run = built.target.steps
    assert (trigger.title, trigger.onbuild, trigger.location.line) == ("ONBUILD RUN first", True, 1)
    assert (run.title, run.onbuild) == ("RUN apk add $P", False)
    assert (run.location.line, run.location.end_line) == (3, 4)
    assert run.created_by == "RUN |1 P=git /bin/sh -c apk add   $P # buildkit"


def test_rootfs_and_history_of_the_base_are_kept() -> None:
    base = ImageConfig.parse(
        b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:' + b"a" * 64 + b'"]},'
        b'"history":[{"created_by":"base"}],"config":{"Env":["PATH=/bin"]},"moby.future":1}'
    )
    options = PlanOptions("", {}, _AMD64, _AMD64)
    config = make_plan(parse(b"FROM a\nENV A=b\n", "Dockerfile"), options, lambda _: base).target.config
    assert config.diff_ids == base.diff_ids
    assert config.history == base.history
    assert config.to_json()["moby.future"] == 1
    assert config.env == {"PATH": "/bin", "A": "b"}


def test_copy_origins() -> None:
    built, _ = plan("FROM a AS one\nFROM a\nCOPY --from=ONE /x /y\nCOPY --from=reg.example.com/i:1 /x /y\n")
    first, second = built.target.steps
    assert isinstance(first, CopyStep)
    assert first.origin == StageOrigin(0)
    assert isinstance(second, CopyStep)
    assert isinstance(second.origin, ImageOrigin)
    assert second.origin.platform == _AMD64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ("80/tcp",)),
        ("80/", ("80/tcp",)),
        ("53/UDP", ("53/udp",)),
        ("1-3/sctp", ("1/sctp", "2/sctp", "3/sctp")),
        ("8080:80", ("80/tcp",)),
        ("127.0.0.1:8080:80/udp", ("80/udp",)),
        ("[::1]:8080:80", ("80/tcp",)),
        ("8000-8001:80-81", ("80/tcp", "81/tcp")),
        ("8000-8005:80", ("80/tcp",)),
        ("0", ("0/tcp",)),
    ],
)
def test_ports(text: str, expected: tuple[str, ...]) -> None:
    assert parse_ports(text) == expected


@pytest.mark.parametrize(
    "text", ["", "/tcp", "http", "80/http", "65536", "3-1", "1-", "-1", "x:80", "1-2:80-85", "host:1:2", "٣"]
)
def test_invalid_ports(text: str) -> None:
    with pytest.raises(PortError):
        parse_ports(text)


def test_paths() -> None:
    assert resolve("/w", "a/../b") == "/w/b"
    assert resolve("", "../../x") == "/x"
    assert resolve("/w", "//x//") == "/x"
    assert [destination("/w", path) for path in (".", "./", "a", "a/", "/", "/a/.", "")] == [
        "/w/",
        "/w/",
        "/w/a",
        "/w/a/",
        "/",
        "/a/",
        "/w/",
    ]
    assert [source(path) for path in (".", "/", "../../a", "./a/", "a/*.go")] == [".", ".", "a", "a", "a/*.go"]


def test_text_is_quoted_as_in_go() -> None:
    assert quote('a"\\\n\x1b\x7fé\u00a0\U000e0001') == '"a\\"\\\\\\n\\x1b\\x7fé\\u00a0\\U000e0001"'
    assert quote_list(["a", "b c"]) == '["a" "b c"]'
    assert quote_list([]) == "[]"

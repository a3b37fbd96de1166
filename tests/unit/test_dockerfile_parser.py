"""The parser: instructions as values, and only documented errors for any input."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagewright.dockerfile.duration import format_duration, parse_duration
from imagewright.dockerfile.model import (
    Add,
    Arg,
    ArgItem,
    Copy,
    CopyOptions,
    Dockerfile,
    Env,
    ExecForm,
    Healthcheck,
    Instruction,
    Onbuild,
    Pair,
    Run,
    ShellForm,
    Volume,
)
from imagewright.dockerfile.parser import parse
from imagewright.errors import DockerfileError, ImagewrightError, Reason
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.options import PlanOptions
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan

_AMD64 = Platform("linux", "amd64")
_NAMES = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "EXPOSE",
    "USER",
    "VOLUME",
    "WORKDIR",
    "CMD",
    "ENTRYPOINT",
]
_NAMES += ["SHELL", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "MAINTAINER", "#", "# escape=`"]
_WORDS = [
    "a",
    "b:1",
    "scratch",
    "AS",
    "x",
    "a=b",
    "=",
    "$a",
    "${a",
    "${a:-b}",
    "${a%%*}",
    "${a//\\?/b}",
    "'",
    '"',
    "\\",
    "`",
]
_WORDS += [
    '["a"]',
    '["a", 1]',
    "[]",
    "--from=x",
    "--from=0",
    "--platform=linux/arm64",
    "--chmod=755",
    "--mount=type=bind",
    "--",
]
_WORDS += [
    "--interval=1s",
    "CMD",
    "NONE",
    "80/udp",
    "1-3",
    "<<E",
    "/",
    "..",
    "\\\n",
    "é",
    "\0",
    "9" * 30,
    "--retries=²",
    "٣",
]
_LINES = st.builds(
    lambda name, words: " ".join([name, *words]),
    st.sampled_from(_NAMES),
    st.lists(st.one_of(st.sampled_from(_WORDS), st.text(max_size=4)), max_size=5),
)
_FILES = st.one_of(
    st.binary(max_size=60),
    st.lists(_LINES, max_size=6).map(lambda lines: "\n".join(["FROM a AS x", *lines]).encode("utf-8", "surrogatepass")),
)


def one(line: str) -> Instruction:
    return parse(f"FROM base\n{line}\n".encode(), "Dockerfile").stages[0].instructions[0]


@settings(max_examples=300, deadline=None)
@given(_FILES, st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=3)))
def test_only_documented_errors_come_out_of_any_bytes(data: bytes, build_args: dict[str, str]) -> None:
    error = _error_of(data, build_args)
    if error is None:
        return
    assert error.reason in _REASONS
    error.render().encode()  # what is shown can be shown
    assert all(line.isprintable() for line in error.render().split("\n"))


_REASONS = (Reason.DOCKERFILE_INVALID, Reason.NOT_SUPPORTED, Reason.REFERENCE_INVALID, Reason.DIGEST_INVALID)


def _error_of(data: bytes, build_args: dict[str, str]) -> ImagewrightError | None:
    try:
        _plan_whole(parse(data, "Dockerfile"), build_args)
    except ImagewrightError as error:
        return error
    return None


def _plan_whole(dockerfile: Dockerfile, build_args: dict[str, str]) -> None:
    config = ImageConfig.scratch(_AMD64).with_config({"OnBuild": ["RUN x"]})
    built = make_plan(dockerfile, PlanOptions("", build_args, _AMD64, _AMD64), lambda _: config)
    render(built, values=True).encode("utf-8", "surrogatepass")


def test_arg() -> None:
    instruction = one('ARG A B= C="d e" D=a=b')
    assert isinstance(instruction, Arg)
    expected = (ArgItem("A", None), ArgItem("B", ""), ArgItem("C", '"d e"'), ArgItem("D", "a=b"))
    assert instruction.items == expected


def test_env_keeps_words_raw() -> None:
    instruction = one("ENV A=$B \"C D\"='e f' G=h\\ i")
    assert isinstance(instruction, Env)
    assert instruction.pairs == (Pair("A", "$B"), Pair('"C D"', "'e f'"), Pair("G", "h\\ i"))


def test_run_with_every_flag() -> None:
    instruction = one(
        "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --network=none --security=sandbox make  it"
    )
    assert isinstance(instruction, Run)
    assert instruction.command == ShellForm("make  it")
    assert [mount.written for mount in instruction.mounts] == ["type=cache,target=/c", "type=tmpfs,target=/t"]
    assert (instruction.network, instruction.security) == ("none", "sandbox")


def test_copy_with_every_flag() -> None:
    instruction = one(
        'COPY --from=b --chown="a b":c --chmod=755 --link --parents=false --exclude=*.a --exclude=b x y /z'
    )
    assert isinstance(instruction, Copy)
    assert instruction.from_ == "b"
    assert instruction.options == CopyOptions(False, "a b:c", "755", ("*.a", "b"), True)
    assert (instruction.sources, instruction.destination) == (("x", "y"), "/z")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("ADD --parents a b", "unknown flag --parents for ADD", "Use --parents with COPY."),
        ("COPY --chown=1 --chown=2 a b", "flag --chown can be given only once", ""),
        (
            "COPY --link=yes a b",
            'invalid --link value "yes": must be true or false',
            "Use --link alone, or --link=false.",
        ),
        ("COPY --chown a b", "flag --chown needs a value", "Use --chown=value."),
        ("USER --zz a", "unknown flag --zz for USER", "Remove it: USER takes no flags."),
    ],
)
def test_an_invalid_flag_is_refused(line: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        one(line)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (2, line.index("--") + 1)


def test_two_dashes_end_the_flags() -> None:
    instruction = one("COPY -- --link /z")
    assert isinstance(instruction, Copy)
    assert (instruction.sources, instruction.options) == (("--link",), CopyOptions())


def test_add_distinguishes_absent_and_false_flags() -> None:
    instruction = one("ADD --unpack=false --checksum=sha256:a https://x /y")
    assert isinstance(instruction, Add)
    assert (instruction.unpack, instruction.keep_git_dir, instruction.checksum) == (False, None, "sha256:a")


def test_heredocs_are_separate_from_paths() -> None:
    instruction = one("COPY a <<b.txt c/\nhi\nb.txt")
    assert isinstance(instruction, Copy)
    assert instruction.sources == ("a",)
    assert [(h.name, h.body) for h in instruction.heredocs] == [("b.txt", "hi\n")]


def test_onbuild_keeps_the_whole_trigger() -> None:
    instruction = one("ONBUILD  RUN <<E \\\n  cat\nhi\nE")
    assert isinstance(instruction, Onbuild)
    assert instruction.trigger == "RUN <<E   cat\nhi\nE"


def test_healthcheck() -> None:
    instruction = one('HEALTHCHECK --retries=2 --interval=1.5s CMD ["a", "b"]')
    assert isinstance(instruction, Healthcheck)
    assert instruction.command == ExecForm(("a", "b"))
    assert (instruction.interval_ns, instruction.timeout_ns, instruction.retries) == (1_500_000_000, 0, 2)


def test_volume_forms() -> None:
    for line in ("VOLUME /a /b", 'VOLUME ["/a", "/b"]'):
        instruction = one(line)
        assert isinstance(instruction, Volume)
        assert instruction.paths == ("/a", "/b")


def test_stages_and_global_args() -> None:
    dockerfile = parse(b"ARG A=1\nFROM a AS Build\nRUN x\nFROM build\n", "Dockerfile")
    assert [stage.name for stage in dockerfile.stages] == ["build", ""]
    assert [item.name for arg in dockerfile.global_args for item in arg.items] == ["A"]
    assert dockerfile.stages[1].from_.image == "build"


def test_a_heredoc_body_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DockerfileError, match="UTF-8"):
        parse(b"FROM a\nRUN <<E\n\xff\nE\n", "Dockerfile")


def test_parsing_takes_linear_time() -> None:
    def seconds(lines: int) -> float:
        data = b"FROM a\n" + b"RUN apk add \\\n  # why\n  git && make $A\nENV A=${B:-c} D='e f'\n" * lines
        start = time.process_time()
        parse(data, "Dockerfile")
        return time.process_time() - start

    small = min(seconds(200) for _ in range(3))
    assert min(seconds(2000) for _ in range(3)) < 40 * small


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0", 0, "0s"),
        ("30s", 30_000_000_000, "30s"),
        ("1h30m", 5_400_000_000_000, "1h30m0s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("90s", 90_000_000_000, "1m30s"),
        (".5ms", 500_000, "500µs"),
        ("100ms", 100_000_000, "100ms"),
        ("1us", 1_000, "1µs"),
        ("1h1ns", 3_600_000_000_001, "1h0m0.000000001s"),
    ],
)
def test_durations_have_the_format_of_go(text: str, nanoseconds: int, shown: str) -> None:
    assert parse_duration(text) == nanoseconds
    assert format_duration(nanoseconds) == shown


@pytest.mark.parametrize("text", ["", "30", "s", "1x", "1s 2s", "1.s.", "٣s", "99999999999h", "--1s"])
def test_invalid_durations(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(0, 2**62))
def test_formatted_durations_parse_to_the_same_value(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    "line", ['RUN ["a", "\\u0000"]', 'COPY ["a\\u0000", "/b"]', 'VOLUME ["/\\u0000"]', 'SHELL ["\\u0000"]']
)
def test_null_bytes_in_json_are_refused(line: str) -> None:
    with pytest.raises(DockerfileError, match="must not contain null bytes"):
        parse(f"FROM scratch\n{line}\n".encode(), "Dockerfile")


def test_an_endless_duration_is_none() -> None:
    assert parse_duration("1" * 5000 + "s") is None

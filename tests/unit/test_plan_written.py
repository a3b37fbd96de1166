"""Messages show instructions as written: neither plans nor errors contain values of build arguments."""

from __future__ import annotations

import pytest
from leaks.needles import Needles

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.parser import parse
from imagewright.dockerfile.substitutions import Substitutions
from imagewright.errors import ImagewrightError
from imagewright.lint.report import human
from imagewright.lint.run import lint, lint_options
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.epoch import epoch_source
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import PlanOptions
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan

_AMD64 = Platform("linux", "amd64")
VALUE = "needle-4f1d0c77ab"
NEEDLES = Needles(VALUE)


def options(value: str = VALUE) -> PlanOptions:
    return PlanOptions("", {"N": value}, _AMD64, _AMD64)


def plan(text: str, value: str = VALUE) -> BuildPlan:
    dockerfile = parse(text.encode(), "Dockerfile")
    return make_plan(dockerfile, options(value), lambda need: ImageConfig.scratch(need.platform))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('RUN echo "$N"  >  /a', 'RUN echo "$N"  >  /a'),
        ("RUN one && \\\n    two  &&\\\n\n # three\n\tfour \\\n", "RUN one && two  && four"),
        ("run  \\\n  --mount=type=tmpfs,target=/$N \\\n  x", "run --mount=type=tmpfs,target=/$N x"),
        ("RUN <<EOF\necho $N\nmore\nEOF", "RUN <<EOF (echo $N...)"),
        ('COPY ["$N a", \\\n "/b"]', 'COPY ["$N a", "/b"]'),
        ("WORKDIR /${N:-x}", "WORKDIR /${N:-x}"),
        ("ENV A=$N \\\n    B=2", "ENV A=$N B=2"),
        ('LABEL a="$N"', 'LABEL a="$N"'),
    ],
)
def test_an_instruction_is_shown_as_written_on_one_line(written: str, shown: str) -> None:
    assert [step.title for step in plan(f"FROM scratch\nARG N\n{written}\n").target.steps][1] == shown


def test_from_is_shown_as_written() -> None:
    built = plan("ARG N\nFROM --platform=$BUILDPLATFORM \\\n  base:$N \\\n  AS last\n")
    assert built.target.title == "FROM --platform=$BUILDPLATFORM base:$N AS last"


# Everything that is expanded, as it is right.
RIGHT = """\
ARG N
FROM base:$N
ARG N
ARG M=$N-m
ENV E=$N F=${N}f
LABEL l=$N
WORKDIR /w/$N
USER $N
VOLUME /v/$N
EXPOSE ${N:+8080}
STOPSIGNAL ${N:+SIGTERM}
SHELL ["/bin/$N"]
COPY --chown=$N --exclude=$N $N $E /$F/
COPY <<EOF /here-$N
$N
EOF
ADD https://user:$N@example.com/$N?$N https://example.com/$N.git#$N /x/
RUN --mount=type=cache,id=$N,target=/$N --mount=type=secret,id=$N,target=/$N --mount=target=/b,source=$N echo $N $E $M
RUN <<EOF
echo $N
EOF
HEALTHCHECK CMD $N
ONBUILD RUN $N
ENTRYPOINT $N
CMD ["$N"]
"""


def test_a_plan_has_values_only_on_request() -> None:
    built = plan(RIGHT)
    assert NEEDLES.in_text("\n".join(step.title for step in built.target.steps)) == set()
    shown = render(built, values=False)
    assert NEEDLES.in_text(shown.replace(f"docker.io/library/base:{VALUE}", "the base's name")) == set()
    assert 'run ["/bin/$N", "echo $N $E $M"]' in shown
    assert NEEDLES.in_text(render(built, values=True))


def test_a_stage_inherits_the_substitutions_of_user() -> None:
    (step,) = plan("FROM scratch AS a\nARG N\nUSER $N\nFROM a\nRUN x\n").target.steps
    assert step.text.substitutions.as_written(f"there is no user '{VALUE}'") == "there is no user '$N'"


@pytest.mark.parametrize(
    "line",
    [
        "EXPOSE $N",
        "EXPOSE 1:$N",
        "EXPOSE 80/$N",
        "STOPSIGNAL $N",
        "COPY --chmod=$N a b",
        "COPY --parents /./${N##*} /x",
        "COPY https://example.com/$N /x",
        "COPY git@$N:a /x",
        "ADD --chmod=$N a b",
        "ADD ${N#needle-}:// /x",
        "ADD https:///$N /x",
        "ADD https://example.com:$N/ /x",
        "ADD https://[$N/ /x",
        "ADD --checksum=$N https://example.com/x /x",
        "ADD --checksum=$N https://example.com/x.git /x",
        "ADD --checksum=abc https://example.com/x.git?checksum=$N /x",
        "ADD https://example.com/x.git?ref=$N#main /x",
        "ADD https://example.com/x.git?$N=1 /x",
        "ADD https://example.com/x.git?mtime=$N /x",
        "ADD https://example.com/x.git?submodules=$N /x",
        "ADD https://example.com/x.git?commit=$N /x",
        "ADD https://example.com?$N /x/",
        "RUN --mount=type=$N,target=/x y",
        "RUN --mount=type=cache,target=/x,sharing=$N y",
        "RUN --mount=type=cache,target=/x,uid=$N y",
        "RUN --mount=type=cache,target=/x,mode=$N y",
        "RUN --mount=type=cache,target=/x,source=$N y",
        "RUN --mount=type=tmpfs,target=/x,size=$N y",
        "RUN --mount=type=bind,target=/x,readonly=$N y",
        "RUN --mount=type=secret,required=$N,id=x y",
        "RUN --mount=type=secret,id=x,env=$N= y",
        "RUN --mount=type=secret,id=$N,source=$N y",
        "LABEL a=${X:?$N is missing}",
        "ENV A=${N:?} B=${X?because of $N}",
        "LABEL a=${N#$N\\x}",
        "LABEL a=${N:$N}",
        "ARG M=${X:?$N}",
        "WORKDIR ${X:?$N}",
        "USER ${X:?$N}",
        "FROM --platform=$N scratch",
        "FROM ${X:?$N}",
    ],
)
def test_no_error_has_the_value(line: str) -> None:
    with pytest.raises(ImagewrightError) as caught:
        plan(f"ARG N\nFROM scratch\nARG N\n{line}\n")
    error = caught.value
    assert NEEDLES.in_text(error.render() + str(error)) == set()
    assert VALUE.removeprefix("needle-") not in error.render()
    assert error.excerpt[0] == f"4 | {line}"


def test_no_error_has_the_value_through_other_variables_or_heredocs() -> None:
    for lines in ("ENV M=$N\nEXPOSE $M", "COPY <<EOF /x\n${X:?$N}\nEOF"):
        with pytest.raises(ImagewrightError) as caught:
            plan(f"FROM scratch\nARG N\n{lines}\n")
        assert NEEDLES.in_text(caught.value.render()) == set()


def test_the_name_of_an_image_is_in_the_error() -> None:
    with pytest.raises(ImagewrightError, match=VALUE):
        plan("ARG N\nFROM base:$N:$N\n")


@pytest.mark.parametrize("line", ["ADD https://[$N/ /x", "ADD --checksum=$N https://example.com/x.git /x", "ADD $N /x"])
def test_no_error_of_the_source_date_epoch_stage_has_the_value(line: str) -> None:
    dockerfile = parse(f"FROM scratch AS when\nARG N\n{line}\nFROM scratch\n".encode(), "Dockerfile")
    with pytest.raises(ImagewrightError) as caught:
        epoch_source(dockerfile, options(), "when")
    assert NEEDLES.in_text(caught.value.render()) == set()


@pytest.mark.parametrize(
    ("line", "value", "rule"),
    [
        ("EXPOSE $N", "12345/TCP", "ExposeProtoCasing"),
        ("EXPOSE $N", "127.0.0.1:12345:80", "ExposeInvalidFormat"),
        ("COPY $N /", "dir/needle.txt", "CopyIgnoredFile"),
        ("RUN x\nENV A=$Nn", "123456", "UndefinedVar"),
    ],
)
def test_no_warning_has_the_value(line: str, value: str, rule: str) -> None:
    dockerfile = parse(f"FROM scratch\nARG N\n{line}\n".encode(), "Dockerfile")
    ignore = IgnorePatterns.parse("dir", ".dockerignore")
    built = plan(f"FROM scratch\nARG N\n{line}\n", value)
    found = lint(dockerfile, options(value), lint_options(dockerfile, options(value)), built, ignore)
    assert rule in {warning.rule for warning in found}
    assert value not in human(found) + render(built, values=False)


@pytest.mark.parametrize(
    ("pairs", "text", "written"),
    [
        ((("$N", "needle"),), "/x/needle/y, needles", "/x/$N/y, $Ns"),
        ((("$N", "./a//needle/"),), "cannot read /a/needle/file", "cannot read /$N/file"),
        ((("$N", "Needle.Example"),), "no answer from needle.example:80", "no answer from $N:80"),
        ((("$N", "a needle&b"),), "https://x/a%20needle%26b", "https://x/$N"),
        ((("$N", "needle\t1"),), "no user 'needle\\t1'", "no user '$N'"),
        ((("$A", "needle"), ("$B", "needle-needle")), "needle-needle needle", "$B $A"),
        ((("$A", "$B-needle"), ("$B", "nothing")), "$B-needle nothing", "$A $B"),
        ((("$N", "a/b//./c"),), "no a/b/c", "no a/b/c"),
        ((("$N", "12345"), ("$M", "")), "12345 is short", "12345 is short"),
        ((("$N", "123456"),), "123456 is not", "$N is not"),
        ((), "text", "text"),
    ],
)
def test_values_are_replaced_by_references(pairs: tuple[tuple[str, str], ...], text: str, written: str) -> None:
    assert Substitutions(pairs).as_written(text) == written

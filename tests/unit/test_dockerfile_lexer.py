"""The lexer: logical lines, directives, heredocs and spans."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagewright.dockerfile.lexer import Lexed, SpanKind, lex
from imagewright.errors import DockerfileError

_PIECES = st.sampled_from(
    ["FROM a", "RUN x", "COPY", "#", "# c", "# escape=`", "# syntax=d", "ONBUILD RUN ", "<<E", "<<-E", "E", "\r\n"]
)
_CHARS = st.sampled_from("\\`'\"$\n \t\ufeffé\u2028\x0b\x85\0\n\n")
FILES = st.one_of(st.binary(max_size=80), st.lists(_PIECES | _CHARS, max_size=25).map(lambda p: "".join(p).encode()))


def instructions(text: str) -> list[str]:
    return [span.text for span in lex(text.encode(), "Dockerfile").spans if span.kind is SpanKind.INSTRUCTION]


@given(FILES)
@example(b"RUN a \\\n")
@example(b"RUN <<E\nE")
@example(b"\xff\n# \xfe")
@example(b"a\r\n\r\n\\\r\n\r\nb")
def test_joined_spans_are_the_file(data: bytes) -> None:
    lexed = _lexed_or_error(data)
    if isinstance(lexed, DockerfileError):
        assert lexed.location is not None
        assert lexed.excerpt
        return
    assert "".join(span.source for span in lexed.spans).encode("utf-8", "surrogateescape") == data
    _assert_lines_follow_each_other(lexed)


def _lexed_or_error(data: bytes) -> Lexed | DockerfileError:
    try:
        return lex(data, "Dockerfile")
    except DockerfileError as error:
        return error


def _assert_lines_follow_each_other(lexed: Lexed) -> None:
    line = 1
    for span in lexed.spans:
        assert span.location.line == line
        line = span.location.end_line + 1
        assert span.source.count("\n") in (line - span.location.line, line - span.location.line - 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a\\\nb", ["RUN ab"]),
        ("RUN a \\  \n  b", ["RUN a   b"]),
        ("RUN a \\\n# c\n\\\nb", ["RUN a b"]),
        ("RUN a \\\n", ["RUN a "]),
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("  RUN a\n\n\tRUN b  ", ["RUN a", "RUN b  "]),
        ("RUN a \\\r\n  b\r\n", ["RUN a   b"]),
        ("RUN a\u2028b", ["RUN a\u2028b"]),
        ("\\\nRUN a", ["RUN a"]),
    ],
)
def test_logical_lines(text: str, expected: list[str]) -> None:
    assert instructions(text) == expected


def test_directives() -> None:
    lexed = lex(b"\xef\xbb\xbf# Syntax = docker/dockerfile:1\n#escape=`\n# check=skip=all\nFROM a\n", "Dockerfile")
    assert (lexed.directives.syntax, lexed.directives.escape) == ("docker/dockerfile:1", "`")
    assert lexed.directives.check == "skip=all"
    assert [span.kind for span in lexed.spans][:3] == [SpanKind.DIRECTIVE] * 3


@pytest.mark.parametrize("before", ["\n", "# unknown=x\n", "FROM a\n"])
def test_a_directive_after_anything_else_is_a_comment(before: str) -> None:
    assert lex(f"{before}# escape=`\n".encode(), "Dockerfile").directives.escape == "\\"


def test_the_location_of_an_instruction_spans_its_lines() -> None:
    span = next(s for s in lex(b"\n\n  RUN a \\\n  b\nCMD c", "D").spans if s.kind is SpanKind.INSTRUCTION)
    place = span.location
    assert (place.line, place.end_line, place.column, place.end_column) == (3, 4, 3, 6)


@pytest.mark.parametrize(
    ("line", "name", "expand", "strip_tabs"),
    [
        ("RUN <<EOF", "EOF", True, False),
        ("RUN cat <<-EOF > /x", "EOF", True, True),
        ("RUN cat << EOF", "EOF", True, False),
        ("RUN <<'EOF'", "EOF", False, False),
        ('COPY <<"a b" /x', "a b", False, False),
        ("COPY 3<<E$X /x", "E$X", True, False),
        ("ADD <<E\\'F /x", "E'F", True, False),
        ("ONBUILD RUN <<EOF", "EOF", True, False),
    ],
)
def test_heredocs_take_the_following_lines(line: str, name: str, expand: bool, strip_tabs: bool) -> None:
    body = "# no comment\nFROM x \\\n"
    lexed = lex(f"{line}\n{body}{name}\nCMD x\n".encode(), "Dockerfile")
    (heredoc,) = lexed.spans[0].heredocs
    assert (heredoc.name, heredoc.body, heredoc.expand, heredoc.strip_tabs) == (name, body, expand, strip_tabs)
    assert lexed.spans[1].text == "CMD x"


def test_several_heredocs_are_read_in_order() -> None:
    (span,) = lex(b"COPY <<X <<-Y /d/\nY\nX\n\tX\n\tY\n", "Dockerfile").spans
    assert [(h.name, h.body) for h in span.heredocs] == [("X", "Y\n"), ("Y", "\tX\n")]


@pytest.mark.parametrize(
    "line", ['RUN ["<<EOF"]', "RUN '<<EOF'", "ENV A=<<EOF", "RUN a < EOF", "RUN echo it's <<EOF", "RUN cat <<<EOF"]
)
def test_words_that_start_no_heredoc(line: str) -> None:
    assert instructions(f"{line}\nCMD x") == [line, "CMD x"]

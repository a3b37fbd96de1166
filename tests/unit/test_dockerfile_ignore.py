""".dockerignore: the examples of the reference, and comparison with a slow, literal implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.errors import DockerfileError


def ignored(text: str, *paths: str) -> list[str]:
    patterns = IgnorePatterns.parse(text)
    return [path for path in paths if patterns.ignores(path)]


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("", [], ["a", "a/b"]),
        ("# a\n\n  \n", [], ["a", "# a"]),
        (" #a ", ["#a"], ["a"]),
        ("\ufeffa\r\nb\r\n", ["a", "b", "b/c"], ["c"]),
        ("a", ["a", "a/b", "a/b/c"], ["b/a", "ab"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("./a//b/../c", ["a/c", "a/c/d"], ["a/b", "a"]),
        ("../a", [], ["a"]),
        (".", [], ["a", "."]),
        ("/", [], ["a"]),
        ("*/temp*", ["x/temporary.txt", "x/temp", "x/temp/y"], ["temp", "x/y/temp"]),
        ("*/*/temp*", ["a/b/temporary"], ["a/temp", "a/b/c/temp"]),
        ("temp?", ["tempa", "tempb/c"], ["temp", "tempab", "temp/"]),
        ("*", ["a", "a/b"], []),
        ("**", ["a", "a/b"], []),
        ("**/*.go", ["a.go", "x/a.go", "x/y/a.go"], ["a.goo", "a.go.txt"]),
        ("**/node_modules", ["node_modules", "a/b/node_modules/c"], ["node_modules2"]),
        ("**foo", ["foo", "barfoo", "a/barfoo"], ["foobar"]),
        ("foo**", ["foo", "foobar", "foo/a/b"], ["a/foo"]),
        ("foo/**", ["foo/a", "foo/a/b"], ["foo", "foobar"]),
        ("foo/**/bar", ["foo/bar", "foo/a/b/bar"], ["foo", "foobar"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a+(b){c}|$*", ["a+(b){c}|$x"], ["aab"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "[a-c]x"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        ("\\*x", ["*x"], ["ax", "\\*x"]),
        ("[\\]]", ["]"], ["\\"]),
        ("é?", ["éa", "éé"], ["ea"]),
        ("a b ", ["a b"], ["a"]),
    ],
)
def test_one_pattern(text: str, yes: list[str], no: list[str]) -> None:
    assert ignored(text, *yes, *no) == yes


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("*.md\n!README.md", ["a.md"], ["README.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["a.md", "README-secret.md"], ["README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README-secret.md"]),
        ("*\n!src\n!go.mod", ["a", "a/b"], ["src", "src/a/b", "go.mod"]),
        ("a\n!a/b", ["a", "a/c"], ["a/b", "a/b/c"]),
        ("a\n! /a/b/\na/b/c", ["a", "a/b/c", "a/b/c/d"], ["a/b", "a/b/d"]),
        ("**\n!**/*.go", ["a", "a/b"], ["x.go", "a/b/x.go"]),
        ("!a\na", ["a", "a/b"], []),
        ("a/b\n!a", ["a/b", "a/b/c"], ["a"]),  # BuildKit: the exception was not asked at a, so a/b doesn't inherit it
    ],
)
def test_the_last_match_wins(text: str, yes: list[str], no: list[str]) -> None:
    assert ignored(text, *yes, *no) == yes


@pytest.mark.parametrize("line", ["[", "a[", "[]", "[]a]", "[a-]", "[-a]", "[z-a]", "a\\", "[a\\", "!", "! "])
def test_an_invalid_pattern_is_an_error_with_its_line(line: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        IgnorePatterns.parse(f"ok\n{line}\n", "build/.dockerignore")
    assert caught.value.location is not None
    assert str(caught.value.location) == "build/.dockerignore:2:1"


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("*", [], ["a", "a/b"]),
        ("*\n!a/b", ["a"], ["b", "a/b", "a/c"]),
        ("*\n!a/*/c", ["a", "a/x"], ["b", "a/x/c"]),
        ("*\n!**/c", ["a", "b/d"], []),
        ("a\n!b", [], ["a"]),
    ],
)
def test_excluded_directories_without_exceptions_are_not_walked(text: str, yes: list[str], no: list[str]) -> None:
    patterns = IgnorePatterns.parse(text)
    assert [path for path in [*yes, *no] if patterns.may_include_below(path)] == yes


def test_deep_paths_are_supported() -> None:
    assert ignored("a", "/".join(["a"] * 2000)) == ["/".join(["a"] * 2000)]


_PART = st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]"])
_LINES = st.lists(
    st.builds(
        lambda bang, parts: bang + "/".join(parts), st.sampled_from(["", "!"]), st.lists(_PART, min_size=1, max_size=3)
    ),
    max_size=5,
)
_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=4)


@given(_LINES, _PATHS)
def test_agrees_with_a_literal_implementation(lines: list[str], parts: list[str]) -> None:
    patterns = IgnorePatterns.parse("\n".join(lines))
    path = "/".join(parts)
    assert patterns.ignores(path) == _slowly_ignored(lines, parts)[0]
    for end in range(1, len(parts)):
        folder = "/".join(parts[:end])
        if not patterns.ignores(path) and patterns.ignores(folder):
            assert patterns.may_include_below(folder)


def _slowly_ignored(lines: list[str], parts: list[str]) -> tuple[bool, list[bool]]:
    inherited = _slowly_ignored(lines, parts[:-1])[1] if len(parts) > 1 else [False] * len(lines)
    result = False
    matches: list[bool] = []
    for line, from_parent in zip(lines, inherited, strict=True):
        exception = line.startswith("!")
        match = from_parent or (exception == result and _matches(line.lstrip("!"), "/".join(parts)))
        matches.append(match)
        result = (not exception) if match else result
    return result, matches


def _matches(pattern: str, path: str) -> bool:
    """Character by character, trying everything."""
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        starts = [0, *(i + 1 for i, c in enumerate(path) if c == "/")]
        return rest == "" or any(_matches(rest, path[start:]) for start in starts)
    if pattern.startswith("*"):
        ends = range(len(path.partition("/")[0]) + 1)
        return any(_matches(pattern[1:], path[end:]) for end in ends)
    if not pattern or not path:
        return pattern == path
    if pattern.startswith("[ab]"):
        return path[0] in "ab" and _matches(pattern[4:], path[1:])
    fits = path[0] != "/" if pattern[0] == "?" else path[0] == pattern[0]
    return fits and _matches(pattern[1:], path[1:])

"""The wildcards of COPY: Go's filepath.Match rules, found in a tree without leaving it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.copy.glob import compiled, expand, has_wildcard
from imagewright.fs.rootfs.root import Rootfs

# From the table of Go's own test of filepath.Match (path/filepath/match_test.go); None: ErrBadPattern.
GO = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*b*c*d*e*", "axbxcxdxe", True),
    ("a*b*c*d*e*", "axbxcxdxexxx", True),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a\u263ab", True),
    ("a[^a]b", "a\u263ab", True),
    ("a???b", "a\u263ab", False),
    ("a[^a][^a][^a]b", "a\u263ab", False),
    ("[a-\u03b6]*", "\u03b1", True),
    ("*[a-\u03b6]", "A", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "-", True),
    ("[\\-x]", "a", False),
    ("[]a]", "]", None),
    ("[-]", "-", None),
    ("[x-]", "x", None),
    ("[x-]", "z", None),
    ("[-x]", "x", None),
    ("[-x]", "a", None),
    ("\\", "a", None),
    ("[a-b-c]", "a", None),
    ("[", "a", None),
    ("[\x01", "a", None),
    ("[^", "a", None),
    ("[^bc", "a", None),
    ("a[", "a", None),
    ("a[", "ab", None),
    ("a[", "x", None),
    ("*x", "xxx", True),
    # and what a translation to regular expressions could get wrong
    ("[c-a]", "b", False),
    ("[^c-a]", "b", True),
    ("[!a]", "!", True),
    ("[!a]", "b", False),
    ("[a^]", "^", True),
    ("[&&x]", "&", True),
    ("[[]0", "[0", True),
    ("a.b+", "axbb", False),
    ("a.b+", "a.b+", True),
    ("*", "a\nb", True),
    ("[|~]", "~", True),
]


@pytest.mark.parametrize(("pattern", "name", "expected"), GO)
def test_matches_as_go_does(pattern: str, name: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(FileSystemError) as caught:
            compiled(pattern)
        assert caught.value.reason is Reason.USAGE_INVALID
        assert caught.value.hint
        assert caught.value.message.isprintable()
    else:
        assert compiled(pattern).fullmatch(name) is expected


@given(st.text("ab[]^-\\*?|&~.", max_size=8), st.text("ab[]^-", max_size=4))
def test_any_pattern_is_parsed_or_refused(pattern: str, name: str) -> None:
    with contextlib.suppress(FileSystemError):
        compiled(pattern).fullmatch(name)


@pytest.mark.parametrize("pattern", ["a*", "?", "a/[b]", "\\\\*", "x\\a*"])
def test_has_wildcard(pattern: str) -> None:
    assert has_wildcard(pattern)


@pytest.mark.parametrize("pattern", ["", "a", "a\\*b", "a/b\\[", "\\", "]", "a\\\n"])
def test_has_no_wildcard(pattern: str) -> None:
    assert not has_wildcard(pattern)


@pytest.fixture
def tree(tmp_path: Path) -> Rootfs:
    root = tmp_path / "root"
    for name in ("a/x.txt", "a/y.txt", "b/x.txt", "b/deep/x.txt", "c.txt", "[0].txt", "outside/z.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "link").symlink_to("/a")
    (root / "up").symlink_to("../..")
    (root / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "secret.txt").touch()
    with open(os.fsencode(root) + b"/b/\xff.bin", "wb"):
        pass
    return Rootfs(str(root))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", [b"[0].txt", b"c.txt", b"dangling.txt"]),
        ("a/*.txt", [b"a/x.txt", b"a/y.txt"]),
        ("*/x.txt", [b"a/x.txt", b"b/x.txt"]),
        ("*/*/x.txt", [b"b/deep/x.txt"]),
        ("[ab]/?.txt", [b"a/x.txt", b"a/y.txt", b"b/x.txt"]),
        ("./a//x*", [b"a/x.txt"]),
        ("[[]0].txt", [b"[0].txt"]),
        ("link/*", [b"link/x.txt", b"link/y.txt"]),
        ("lin?/*", []),
        ("*/secret.txt", []),
        ("b/*.bin", [b"b/\xff.bin"]),
        ("c.txt/*", []),
        ("none/*", []),
    ],
)
def test_expand(tree: Rootfs, pattern: str, expected: list[bytes]) -> None:
    assert expand(tree, pattern) == expected


def test_nothing_outside_the_root_is_found(tree: Rootfs) -> None:
    assert b"up/secret.txt" not in expand(tree, "up/*")
    assert expand(tree, "up/c.*") == [b"up/c.txt"], "a link out of the root leads to the root itself"

"""Which files of an image are taken while its layers pass by: those that a COPY asks for, also through links."""

from __future__ import annotations

import pytest

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.fs.copy.filters import ParentsPattern
from imagewright.fs.copy.guess import Guess
from imagewright.fs.copy.selection import Selection
from imagewright.fs.tar.entries import REGULAR, SYMLINK, Entry

ENTRIES = [
    ("bin", "usr/bin"),
    ("etc/os-release", "../usr/lib/os-release"),
    ("etc/passwd", ""),
    ("etc/x.conf", ""),
    ("./opt/go", "/usr/lib/go-1.24"),
    ("usr/bin/tool", ""),
    ("usr/bin/tool2", ""),
    ("usr/lib/go-1.24/bin/go", ""),
    ("usr/lib/go-1.24/src/a.go", ""),
    ("usr/lib/os-release", ""),
]
TAKEN = {
    "a file": (Selection(("/etc/passwd",)), ["etc/passwd"]),
    "a folder, but what is excluded": (
        Selection(("etc",), IgnorePatterns.parse("*.conf", "--exclude", comments=False)),
        ["etc/passwd"],
    ),
    "a folder of the same beginning": (Selection(("usr/bin/too",)), []),
    "behind a link in its path": (Selection(("/bin/tool",)), ["usr/bin/tool"]),
    "behind a link at its end": (Selection(("etc/./os-release",)), ["usr/lib/os-release"]),
    "below a link": (Selection(("/opt/go",)), ["usr/lib/go-1.24/bin/go", "usr/lib/go-1.24/src/a.go"]),
    "a wildcard": (Selection(("/usr/*/tool?",)), ["usr/bin/tool2"]),
    "a wildcard behind a link": (Selection(("/bin/*2",)), ["usr/bin/tool2"]),
    "a wildcard that matches a link": (Selection(("/etc/*-release",)), ["usr/lib/os-release"]),
    "below a match": (Selection(("/usr/lib/go-*",)), ["usr/lib/go-1.24/bin/go", "usr/lib/go-1.24/src/a.go"]),
    "an invalid pattern": (Selection(("/usr/bin/[",)), []),
    "with parents": (
        Selection(("usr/lib/./**/a.go",), only=(ParentsPattern("usr/lib", "**/go", IgnorePatterns(())),)),
        ["usr/lib/go-1.24/bin/go", "usr/lib/go-1.24/src/a.go", "usr/lib/os-release"],
    ),
    "a mount": (Selection(path="/opt/go/bin/"), ["usr/lib/go-1.24/bin/go"]),
    "a mount, which has no wildcards": (Selection(path="/usr/bin/*"), []),
}


@pytest.mark.parametrize(("selection", "taken"), TAKEN.values(), ids=TAKEN)
def test_guess(selection: Selection, taken: list[str]) -> None:
    guess = Guess([selection])
    assert [name for name, link in ENTRIES if guess.may_be_read(_entry(name, link))] == taken


def test_links_of_a_hostile_image_are_bounded() -> None:
    guess = Guess([Selection(("/a/b",))])
    for number in range(1000):
        guess.may_be_read(_entry("a", f"t/{number}"))
    assert sum(guess.may_be_read(_entry(f"t/{number}/b", "")) for number in range(1000)) == 50
    guess = Guess([Selection(("/a/b",))])
    guess.may_be_read(_entry("a", "c" * 5000))
    assert not guess.may_be_read(_entry("c" * 5000 + "/b", ""))


def _entry(name: str, link: str) -> Entry:
    return Entry(name.encode(), SYMLINK if link else REGULAR, 0o644, 0, 0, 1, 0, link.encode())

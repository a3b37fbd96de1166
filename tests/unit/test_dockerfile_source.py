"""Excerpts with carets, and suggestions for typos."""

from __future__ import annotations

from imagewright.dockerfile.source import SourceText, did_you_mean, excerpt, nearest
from imagewright.errors import Location

_LINES = ("FROM a", "COPY aa a \\", "\tb a", "CMD x")


def test_the_caret_stands_under_the_word() -> None:
    location = Location("D", 2, 3, 1, 5)
    source = SourceText("D", _LINES)
    place = source.narrow(location, "a")
    assert (place.line, place.column, place.end_column) == (2, 9, 10)
    assert excerpt(_LINES, place) == ("2 | COPY aa a \\", "  |         ^")
    assert source.narrow(location, "b").line == 3
    assert source.narrow(location, "nowhere") == location


def test_lines_around() -> None:
    shown = excerpt(_LINES, Location("D", 3, 3, 2, 3), around=2)
    assert shown == ("1 | FROM a", "2 | COPY aa a \\", "3 |  b a", "  |  ^", "4 | CMD x")


def test_a_location_outside_the_file_has_no_excerpt() -> None:
    assert excerpt(_LINES, Location("D", 9)) == ()
    assert excerpt((), Location("D", 1)) == ()


def test_a_long_line_is_cut_around_the_word() -> None:
    line = "x" * 500 + "WORD" + "y" * 500
    text, marks = excerpt((line,), Location("D", 1, 1, 501, 505))
    assert len(text) <= 170
    assert text[marks.index("^") : marks.rindex("^") + 1] == "WORD"


def test_control_characters_do_not_reach_the_terminal() -> None:
    error = SourceText("D", ("RUN \x1b[2J",)).error("bad \x1b[2J", Location("D", 1), word="\x1b", hint="\x07")
    assert "\x1b" not in error.render()
    assert "\x07" not in error.render()


def test_nearest() -> None:
    assert nearest("RUNN", ["RUN", "CMD"]) == "RUN"
    assert nearest("biuld", ["Build", "test"]) == "Build"
    assert nearest("zzz", ["RUN"]) == ""
    assert did_you_mean("zzz", ["RUN"], "Else.") == "Else."

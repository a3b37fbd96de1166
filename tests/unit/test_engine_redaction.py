"""No secret gets through, however output is cut into pieces; everything else does, and at once if possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewright.engine.steps.redaction import MASK, Redaction


def shown(secrets: list[bytes], *pieces: bytes) -> bytes:
    stream = Redaction(secrets).stream()
    return b"".join([stream.feed(piece) for piece in pieces] + [stream.end()])


@pytest.mark.parametrize(
    ("secrets", "output", "expected"),
    [
        ([b"hunter2"], b"the password is hunter2.\n", b"the password is ***.\n"),
        ([b"hunter2\n"], b"hunter2hunter2 hunter2", b"****** ***"),
        ([b"first line\r\nsecond line\n"], b"> second line\n> first line\r\n", b"> ***\n> ***\r\n"),
        ([b"    indented\n"], b"  indented", b"  ***"),
        ([b"abc123", b"123xyz"], b"<abc123xyz>", b"<***>"),
        ([b"abcd", b"abcdefgh"], b"abcdefgh abcdefg", b"*** ***efg"),
        ([b"a", b"ab\ncd", b""], b"a ab cd\n", b"a ab cd\n"),
        ([b"\xff\xfe\x00\x01"], b"x\xff\xfe\x00\x01x", b"x***x"),
        ([b"aaaa"], b"aaaaaaaaab", b"***b"),
        ([], b"anything", b"anything"),
    ],
)
def test_secrets_are_masked(secrets: list[bytes], output: bytes, expected: bytes) -> None:
    assert shown(secrets, output) == expected
    assert shown(secrets, *(bytes([byte]) for byte in output)) == expected


def test_other_output_is_passed_on_at_once() -> None:
    stream = Redaction([b"hunter2"]).stream()
    assert stream.feed(b"Do you want to continue? ") == b"Do you want to continue? "
    assert stream.feed(b"hun") == b""
    assert stream.feed(b"gry\nhunter") == b"hungry\n"
    assert stream.feed(b"\n") == b"hunter\n"
    assert stream.feed(b"hunter") == b""
    assert stream.end() == b"hunter"


_WORDS = st.text("ab", min_size=4, max_size=8).map(str.encode)


@given(st.lists(_WORDS, max_size=4), st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=12))
def test_masking_does_not_depend_on_how_output_is_cut(secrets: list[bytes], pieces: list[bytes]) -> None:
    whole = shown(secrets, b"".join(pieces))
    assert shown(secrets, *pieces) == whole
    assert not any(secret in whole for secret in secrets)
    assert len(secrets) > 0 or whole == b"".join(pieces)
    many = [*secrets, *(b"line %d" % number for number in range(100))]
    assert shown(many, *pieces) == whole, "many are looked for in another way than few"


def test_held_back_bytes_are_bounded() -> None:
    """Even for a secret that overlaps with itself, so that occurrences follow each other endlessly."""
    stream = Redaction([b"0000"]).stream()
    said = [stream.feed(b"0" * 1000) for _ in range(100)]
    assert said[0] == b"***"
    assert b"".join([*said, stream.feed(b"1\n"), stream.end()]) == b"***1\n"


def test_a_bundle_of_certificates_is_searched_fast() -> None:
    """Thousands of lines with a common prefix of four bytes, and thousands of small pieces of output without a line
    end.
    """
    lines = [b"MIIF%d" % (7919**20 * (number + 1)) for number in range(4000)]
    stream = Redaction([b"\n".join(lines)]).stream()
    shown = b"".join([stream.feed(b"MIIF0000 progress %d%% " % number) for number in range(5000)] + [stream.end()])
    assert shown.count(b"progress") == 5000
    assert MASK not in shown
    assert stream.feed(b"> " + lines[7] + b"\n") == b"> ***\n"


def test_a_large_secret_of_one_line_is_searched_fast() -> None:
    secret = bytes(33 + number * 7919 % 90 for number in range(500 * 1024))
    out = shown([secret], b"begin " + secret + b" end")
    assert out.replace(b"***", b"") == b"begin  end"

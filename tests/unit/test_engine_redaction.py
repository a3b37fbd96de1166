"""No secret gets through, however output is cut into pieces; everything else does, and at once if possible."""

from __future__ import annotations

import base64
from random import Random
from urllib.parse import quote, quote_plus

import pytest
from hostile.work import lines
from hypothesis import given, settings
from hypothesis import strategies as st

from imagewright.engine.steps.encodings import MIN_BYTES, forms
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
    assert stream.feed(b"\n") == b"", "it may be broken into lines"
    assert stream.feed(b"s\n") == b"hunter\ns\n"
    assert stream.feed(b"hun\n") == b"hun\n", "so short a beginning is not waited for"
    assert stream.feed(b"hunter") == b""
    assert stream.end() == b"hunter"


@pytest.mark.parametrize("line_end", [b"", b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"x", b"some words before it\n"])
def test_a_secret_that_is_cut_anywhere_is_held_back_whole(line_end: bytes, before: bytes) -> None:
    """The longest of its forms, also if it is broken after each byte, as far as that counts."""
    secret = b"ThreeTimesAsLong"
    longest = max(forms(secret), key=len)
    printed = longest[:MIN_BYTES] + b"".join(line_end + bytes([byte]) for byte in longest[MIN_BYTES:])
    for cut in range(MIN_BYTES, len(printed)):
        stream = Redaction([secret]).stream()
        assert stream.feed(before + printed[:cut]) == before
        assert stream.feed(printed[cut:]) + stream.end() == MASK


PASSWORD = b"correct horse/battery+staple~~~???>>>"
KEY = b"-----BEGIN KEY-----\n" + b"".join(b"line %02d of a private key\n" % number for number in range(60))


LINES = [b"MIIF%d" % (7919**20 * (number + 1)) for number in range(4000)]


def wrapped(text: bytes, width: int, end: bytes = b"\n") -> bytes:
    return b"".join(text[start : start + width] + end for start in range(0, len(text), width))


def od(text: bytes) -> bytes:
    """As ``od -An -tx1`` prints it."""
    return b"".join(b" " + text[at : at + 16].hex(" ").encode() + b"\n" for at in range(0, len(text), 16))


PRINTED: dict[str, bytes] = {
    "base64": base64.b64encode(PASSWORD),
    "base64 of a file": base64.b64encode(PASSWORD + b"\n"),
    "base64 for URLs": base64.urlsafe_b64encode(PASSWORD).rstrip(b"="),
    "base64 with a user": base64.b64encode(b"builder:" + PASSWORD + b"@"),
    "base64 with another user": base64.b64encode(b"robot:" + PASSWORD + b"@"),
    "base64 with a third user": base64.b64encode(b"admin1:" + PASSWORD),
    "base64 in short lines": wrapped(base64.b64encode(PASSWORD), 20),
    "hex": PASSWORD.hex().encode(),
    "upper-case hex": PASSWORD.hex().upper().encode(),
    "xxd -p": wrapped(PASSWORD.hex().encode(), 30),
    "od": od(PASSWORD),
    "hex with colons": PASSWORD.hex(":").upper().encode(),
    "URL": quote(PASSWORD, safe="").encode(),
    "URL with lower-case escapes": quote(PASSWORD, safe="").lower().encode(),
    "URL's path": quote(PASSWORD).encode(),
    "form": quote_plus(PASSWORD).encode(),
    "folded": wrapped(PASSWORD, 10),
    "folded by a terminal": wrapped(PASSWORD, 7, b"\r\n"),
    "folded after other text": wrapped(b"the password: " + PASSWORD, 16),  # its first two bytes remain
}


@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
def test_encoded_and_broken_secrets_are_masked(printed: bytes) -> None:
    out = shown([PASSWORD + b"\n"], b"<" + printed + b">")
    assert MASK in out
    left = out.replace(MASK, b"").replace(b"\n", b"").replace(b"the password: ", b"")
    assert len(left.replace(b"YnVpbGRlcj", b"").replace(b"cm9ib3Q", b"").replace(b"YWRtaW4x", b"")) <= 8, left
    assert shown([PASSWORD + b"\n"], *(bytes([byte]) for byte in b"<" + printed + b">")) == out


@pytest.mark.parametrize("width", [57, 60, 64, 70, 72, 76, 80, 100])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 61, 62, 63, 73, 74, 75])
def test_long_secrets_are_masked_wherever_their_lines_are_broken(width: int, before: int) -> None:
    for encoded in (base64.b64encode(KEY), KEY.hex().encode()):
        out = shown([KEY], wrapped(b"<" * before + encoded, width))
        left = out.replace(MASK, b"").replace(b"\n", b"").strip(b"<")
        assert len(left) <= 6, left


def test_other_output_next_to_encoded_secrets_stays() -> None:
    text = b"hello world\nZm9vYmFy deadbeef %20 a+b\nsha256:0123456789abcdef\n"
    assert shown([PASSWORD, b"hunter2"], text) == text


@pytest.mark.parametrize("secret", [b"hunter2", b"four", b"x" * 500, KEY, b"\n".join(LINES[:300])], ids=len)
@pytest.mark.parametrize(
    ("text", "at_most"),
    [
        (b"some words of a line\n", 4000),
        (b".\n", 4000),
        (b"\n", 4000),
        (b"hunter", 1 << 19),
        (b"x" * 400 + b" ", 1 << 19),
        (b"MIIF7919", 1 << 19),
    ],
    ids=["words", "dots", "empty", "beginnings", "a long beginning", "beginnings of many"],
)
def test_output_without_secrets_is_not_looked_at_byte_by_byte(secret: bytes, text: bytes, at_most: int) -> None:
    """For a piece of 64 KiB few lines of Python are executed, and some for a byte if it is full of beginnings."""
    output = (text * (1 << 16))[: 1 << 16]
    stream = Redaction([secret]).stream()
    assert lines(lambda: stream.feed(output), at_most) > 0
    assert MASK not in stream.end()


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=4, max_size=40), max_size=5), st.integers(0, 20), st.binary(max_size=20))
def test_secrets_of_any_bytes_are_found_at_any_place(secrets: list[bytes], before: int, after: bytes) -> None:
    for secret in secrets:
        lines_of = [
            line for part in secret.replace(b"\r", b"\n").split(b"\n") if len(line := part.strip()) >= MIN_BYTES
        ]
        for line in lines_of:
            assert line not in shown(secrets, b"." * before + line + after).replace(MASK, b"\n\n")


_WORDS = st.text("ab", min_size=4, max_size=8).map(str.encode)


@given(st.lists(_WORDS, max_size=4), st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=12))
def test_masking_does_not_depend_on_how_output_is_cut(secrets: list[bytes], pieces: list[bytes]) -> None:
    whole = shown(secrets, b"".join(pieces))
    assert shown(secrets, *pieces) == whole
    assert not any(secret in whole for secret in secrets)
    assert len(secrets) > 0 or whole == b"".join(pieces)
    many = [*secrets, *(b"line %d" % number for number in range(40))]
    assert shown(many, *pieces) == whole, "many are looked for in another way than few"


def test_held_back_bytes_are_bounded() -> None:
    """Even for a secret that overlaps with itself, so that occurrences follow each other endlessly; and empty lines
    after its beginning are no lines that it is broken into.
    """
    stream = Redaction([b"hunter2"]).stream()
    assert stream.feed(b"hunter") == b""
    assert b"".join(stream.feed(b"\n") for _ in range(1000)) == b"hunter" + b"\n" * 1000
    stream = Redaction([b"0000"]).stream()
    said = [stream.feed(b"0" * 1000) for _ in range(100)]
    assert said[0] == b"***"
    assert b"".join([*said, stream.feed(b"1\n"), stream.end()]) == b"***1\n"


def test_a_bundle_of_certificates_is_searched_fast() -> None:
    """Thousands of lines with a common prefix of four bytes, and thousands of small pieces of output without a line
    end.
    """
    stream = Redaction([b"\n".join(LINES)]).stream()
    shown = b"".join([stream.feed(b"MIIF0000 progress %d%% " % number) for number in range(5000)] + [stream.end()])
    assert shown.count(b"progress") == 5000
    assert MASK not in shown
    assert stream.feed(b"> " + LINES[7] + b"\n") + stream.end() == b"> ***\n"


def test_a_large_secret_of_one_line_is_searched_fast() -> None:
    secret = bytes(33 + byte % 90 for byte in Random(1).randbytes(500 * 1024))
    out = shown([secret], b"begin " + secret + b" end")
    assert out.replace(b"***", b"") == b"begin  end"

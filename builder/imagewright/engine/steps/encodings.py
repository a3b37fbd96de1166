"""The forms in which a secret is likely to be printed: as it is, in base64, in hexadecimal, in a URL.

No I/O. A secret of several lines is likely to be printed line by line, so each line has its forms, and the whole has
those in which it is one line.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

MIN_BYTES = 4  # shorter values occur in ordinary words, and are not secret
_MIN_ENCODED = 8  # of an encoded form: shorter ones occur in ordinary words, too
_MAX_ENCODED_BYTES = 64 * 1024  # larger secrets are searched for as they are
_MANY_LINES = 64  # a bundle of certificates, whose lines are base64 already
_PIECE_BYTES = 512  # longer forms are searched for in pieces
_STRIDE_BYTES = 251  # of pieces; no multiple of a usual length of lines, so that breaks never hit two in a row
_LATE_BYTES = MIN_BYTES - 1  # at the end of a line, a shorter beginning is not looked at


def forms(value: bytes) -> Iterator[bytes]:
    """What to search for, without line breaks, each MIN_BYTES to ``_PIECE_BYTES`` long; some more than once."""
    lines = [line for line in (part.strip() for part in value.replace(b"\r", b"\n").split(b"\n")) if line]
    for line in lines:
        yield from _pieces(line, MIN_BYTES)
    whole = {value, value.strip()} if len(value) <= _MAX_ENCODED_BYTES else set()
    encoded = whole | (set(lines) if len(lines) <= _MANY_LINES and whole else set())
    for text in encoded:
        if len(text.strip()) >= MIN_BYTES:
            for form in (*_base64(text), *_hexadecimal(text), *_url(text)):
                yield from _pieces(form, _MIN_ENCODED)


def _base64(text: bytes) -> Iterator[bytes]:
    """RFC 4648, both alphabets. Inside of something that is encoded whole, a text looks different at each of three
    offsets; the digits that its neighbours affect are left out.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(text)
        for offset in range(3):
            first = -(-offset * 8 // 6)
            yield encode(b"\0" * offset + text)[first : (offset + len(text)) * 8 // 6]


def _hexadecimal(text: bytes) -> Iterator[bytes]:
    """As xxd, od and openssl print it."""
    for separator in ("", " ", ":"):
        form = text.hex(separator) if separator else text.hex()
        yield form.encode()
        yield form.upper().encode()


def _url(text: bytes) -> Iterator[bytes]:
    """RFC 3986, section 2.1, and as in forms; what needs no encoding is left out."""
    for safe in ("", "/"):
        for form in (quote_from_bytes(text, safe), quote_from_bytes(text, f"{safe} ").replace(" ", "+")):
            if form.encode() != text:
                yield form.encode()
                yield _lower_escapes(form).encode()


def _lower_escapes(form: str) -> str:
    first, *rest = form.split("%")
    return "%".join([first, *(one[:2].lower() + one[2:] for one in rest)])


def _pieces(form: bytes, least: int) -> Iterator[bytes]:
    """The form, and what remains of it if its beginning is at the end of a line; a long one in overlapping pieces."""
    if len(form) < least:
        return
    if len(form) <= _PIECE_BYTES:
        yield form
    else:
        for start in range(0, len(form) - _PIECE_BYTES, _STRIDE_BYTES):
            yield form[start : start + _PIECE_BYTES]
        yield form[-_PIECE_BYTES:]
    if len(form) >= _LATE_BYTES + _MIN_ENCODED:
        yield form[_LATE_BYTES : _LATE_BYTES + _PIECE_BYTES]

"""Go's text formats: BuildKit's history entries contain ``%q`` and ``%v``, and its booleans are Go's.

No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_SHORT = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def parse_bool(text: str) -> bool | None:
    """``strconv.ParseBool``; None for invalid text."""
    return True if text in _TRUE else False if text in _FALSE else None


def quote(text: str) -> str:
    """``%q`` of a string."""
    return '"' + "".join(_quote_char(char) for char in text) + '"'


def quote_list(texts: Sequence[str]) -> str:
    """``%q`` of a slice of strings: quoted, separated by spaces, in brackets."""
    return f"[{' '.join(map(quote, texts))}]"


def plain_list(texts: Sequence[str]) -> str:
    """``%v`` of a slice of strings."""
    return f"[{' '.join(texts)}]"


def _quote_char(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""Parses the WWW-Authenticate header: which authentication a registry accepts (RFC 9110, section 11.6.1).

No I/O. Reads the header once from left to right: it comes from a server that may be hostile.
"""

from __future__ import annotations

import re

# Each is tried at one place only, and none has two ways to match the same text.
_BLANK = re.compile(r"[\s,]*")
_WORD = re.compile(r"[^\s,=\"]+")
_EQUALS = re.compile(r"\s*=\s*")
_PLAIN = re.compile(r"[^\s,\"]+")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_NAME = re.compile(r"[a-zA-Z0-9_]+")
_SCHEMES = frozenset({"bearer", "basic"})


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """The schemes ``bearer`` and ``basic`` that the header offers, with the parameters of the first of each.

    What can't be parsed is skipped, as are the parameters of other schemes. Names are in lower case; of repeated
    parameters the last counts.
    """
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    at = 0
    while (at := _end(_BLANK, header, at)) < len(header):
        word = _WORD.match(header, at)
        if word is None:  # a lone quote or equals sign
            at += 1
            continue
        equals = _EQUALS.match(header, word.end())
        if equals is None:
            at = word.end()
            parameters = {}
            if word[0].lower() in _SCHEMES:
                found.setdefault(word[0].lower(), parameters)
            continue
        value, at = _value(header, equals.end())
        if _NAME.fullmatch(word[0]) and value is not None:
            parameters[word[0].lower()] = value
    return found


def _end(pattern: re.Pattern[str], header: str, at: int) -> int:
    match = pattern.match(header, at)
    return at if match is None else match.end()


def _value(header: str, at: int) -> tuple[str | None, int]:
    """A parameter's value and its end; after a quote that is not closed nothing can be trusted."""
    if header.startswith('"', at):
        quoted = _QUOTED.match(header, at)
        return (None, len(header)) if quoted is None else (quoted[1], quoted.end())
    plain = _PLAIN.match(header, at)
    return (None, at) if plain is None else (plain[0], plain.end())

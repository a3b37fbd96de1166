"""Splits the arguments of an instruction: flags, words that respect quotes, JSON arrays.

No I/O. Words keep their quotes and escapes; ``expand`` removes them.
"""

from __future__ import annotations

import re

from imagewright import jsontext

_WHITE = re.compile(r"[\t\v\f\r ]+")
_PLAIN = re.compile(r"[^\\'\"\s]+")  # characters without a meaning, most of any flag


class WordsError(Exception):
    """The text can't be split; the message says why."""


def split_name(line: str) -> tuple[str, str]:
    """The instruction's name as written, and the rest."""
    parts = _WHITE.split(line.strip(), maxsplit=1)
    return parts[0], parts[1].strip() if len(parts) > 1 else ""


def split_flags(rest: str) -> tuple[tuple[str, ...], str]:
    """The leading ``--name[=value]`` words, quotes removed, and what follows them. ``--`` alone ends the flags."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(rest) and rest[at].isspace():
            at += 1
        if not rest.startswith("--", at):
            return tuple(flags), rest[at:].strip()
        word, at = _flag_word(rest, at)
        if word == "--":
            return tuple(flags), rest[at:].strip()
        flags.append(word)


def _flag_word(rest: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(rest):
        if not quote and (plain := _PLAIN.match(rest, at)):
            out.append(plain[0])
            at = plain.end()
            continue
        char = rest[at]
        if char == "\\":  # in flags, BuildKit takes a backslash as the escape whatever the directive says
            out.append(rest[at + 1 : at + 2])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "'\"":
            quote = char
        elif char.isspace():
            break
        else:
            out.append(char)
        at += 1
    return "".join(out), min(at, len(rest))


def split_white(rest: str) -> tuple[str, ...]:
    """Words separated by white space; quotes mean nothing here (FROM, COPY, ADD, EXPOSE, VOLUME)."""
    return tuple(_WHITE.split(rest)) if rest else ()


def split_quoted(rest: str, escape: str) -> tuple[str, ...]:
    """Words separated by white space outside of quotes (ARG, ENV, LABEL); quotes and escapes are kept."""
    if escape not in rest and "'" not in rest and '"' not in rest:
        return tuple(rest.split())
    words: list[str] = []
    current: list[str] = []
    quote = ""
    at = 0
    while at < len(rest):
        char = rest[at]
        if not quote and char.isspace():
            if current:
                words.append("".join(current))
                current.clear()
            at += 1
            continue
        if char == escape and quote != "'":
            if at + 1 == len(rest):
                break  # an escape at the very end escapes nothing
            current.append(rest[at : at + 2])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        current.append(char)
        at += 1
    if current:
        words.append("".join(current))
    return tuple(words)


def parse_json(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, or None if ``rest`` is not one (then it is the shell form).

    Raises:
        WordsError: the JSON array contains something other than strings, or null bytes.
    """
    if not rest.lstrip().startswith("["):
        return None
    try:
        value = jsontext.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise WordsError("a JSON array must contain only strings")
    if any("\0" in item for item in value):
        raise WordsError("a JSON array must not contain null bytes")
    return tuple(value)

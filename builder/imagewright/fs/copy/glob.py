"""The wildcards of COPY and ADD: Go's filepath.Match, one path component at a time.

Reads directories of the source.
"""

from __future__ import annotations

import functools
import os
import re
import stat

from imagewright.errors import FileSystemError, Reason, quoted
from imagewright.fs.rootfs.root import Rootfs
from imagewright.wildcards import (
    MAX_LENGTH,
    NOT_SLASH,
    Item,
    Kind,
    Ranges,
    TooManyCharacters,
    Wildcards,
    complement,
    literal,
    union,
)

_WILDCARD = re.compile(r"(?:[^\\*?\[]|\\.)*[*?\[]", re.DOTALL)


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern can match several names. Others are taken literally, including backslashes (BuildKit)."""
    return _WILDCARD.match(pattern) is not None


def escape(name: str) -> str:
    """A pattern that matches only this name."""
    return re.sub(r"[\\*?\[]", lambda special: f"[\\{special[0]}]", name) if has_wildcard(name) else name


def expand(source: Rootfs, pattern: str) -> list[bytes]:
    """The entries that match a pattern with wildcards, sorted; links are followed only before the first wildcard."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    first = next(index for index, part in enumerate(parts) if has_wildcard(part))
    found = _children(source, os.fsencode("/".join(parts[:first])), parts[first])
    for part in parts[first + 1 :]:
        directories = [path for path in found if _is_directory(source, path)]
        found = [path for directory in directories for path in _children(source, directory, part)]
    return sorted(found)


def _children(source: Rootfs, directory: bytes, part: str) -> list[bytes]:
    expression = compiled(part)
    try:
        with source.directory(directory) as fd:
            names = os.listdir(fd)
    except OSError:
        return []  # not a directory
    prefix = directory + b"/" if directory else b""
    return [prefix + os.fsencode(name) for name in names if expression.fullmatch(name)]


def _is_directory(source: Rootfs, path: bytes) -> bool:
    try:
        return stat.S_ISDIR(source.lstat(path).st_mode)
    except OSError:
        return False


@functools.lru_cache(256)
def compiled(part: str) -> Wildcards:
    """One component of a pattern.

    Raises:
        FileSystemError: for an unclosed bracket or a trailing escape (Go's ErrBadPattern), or a pattern that is longer
            than any name.
    """
    if len(part) > MAX_LENGTH:
        raise FileSystemError(
            f"invalid pattern {quoted(part, 100)}: {len(part)} characters, the limit is {MAX_LENGTH}",
            reason=Reason.LIMIT_EXCEEDED,
            hint="Use a shorter pattern.",
        )
    items: list[Item] = []
    position = 0
    while position < len(part):
        letter = part[position]
        position += 1
        if letter == "*":
            items.append(Item(Kind.MANY, NOT_SLASH))
        elif letter == "?":
            items.append(Item(Kind.ONE, NOT_SLASH))
        elif letter == "\\":
            if position == len(part):
                raise _bad(part)
            items.append(literal(part[position]))
            position += 1
        elif letter == "[":
            ranges, position = _bracket(part, position)
            items.append(Item(Kind.ONE, ranges))
        else:
            items.append(literal(letter))
    try:
        return Wildcards(items)
    except TooManyCharacters as error:
        raise FileSystemError(
            f"invalid pattern {quoted(part, 100)}: {error}",
            reason=Reason.LIMIT_EXCEEDED,
            hint="Use a shorter pattern.",
        ) from None


def _bracket(part: str, position: int) -> tuple[Ranges, int]:
    negated = part.startswith("^", position)
    position += negated
    pairs: list[tuple[str, str]] = []
    while True:
        if position >= len(part):
            raise _bad(part)
        if part[position] == "]" and pairs:
            break
        low, position = _letter(part, position)
        high = low
        if part.startswith("-", position):
            high, position = _letter(part, position + 1)
        pairs.append((low, high))  # in reverse order, it matches nothing, as in Go
    return complement(union([*pairs, ("/", "/")])) if negated else union(pairs), position + 1


def _letter(part: str, position: int) -> tuple[str, int]:
    if position < len(part) and part[position] == "\\":
        position += 1
    elif position < len(part) and part[position] in "-]":
        raise _bad(part)
    if position >= len(part):
        raise _bad(part)
    return part[position], position + 1


def _bad(part: str) -> FileSystemError:
    return FileSystemError(
        f"invalid pattern {quoted(part, 100)}: unclosed bracket or trailing escape",
        reason=Reason.USAGE_INVALID,
        hint="Use [a-z] for a set of characters, and \\[ for a literal bracket.",
    )

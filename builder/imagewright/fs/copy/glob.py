"""The wildcards of COPY and ADD: Go's filepath.Match, one path component at a time.

Reads directories of the source.
"""

from __future__ import annotations

import functools
import os
import re
import stat

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.rootfs.root import Rootfs

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
    expression = translate(part)
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
def translate(part: str) -> re.Pattern[str]:
    """One component of a pattern as a regular expression.

    Raises:
        FileSystemError: for an unclosed bracket or a trailing escape (Go's ErrBadPattern).
    """
    out: list[str] = []
    position = 0
    while position < len(part):
        letter = part[position]
        position += 1
        if letter == "*":
            out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "\\":
            if position == len(part):
                raise _bad(part)
            out.append(re.escape(part[position]))
            position += 1
        elif letter == "[":
            expression, position = _bracket(part, position)
            out.append(expression)
        else:
            out.append(re.escape(letter))
    return re.compile("".join(out), re.DOTALL)


def _bracket(part: str, position: int) -> tuple[str, int]:
    negated = part.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while True:
        if position >= len(part):
            raise _bad(part)
        if part[position] == "]" and ranges:
            break
        low, position = _letter(part, position)
        high = low
        if part.startswith("-", position):
            high, position = _letter(part, position + 1)
        if low > high:
            ranges.append("")  # an empty range matches nothing, as in Go
        else:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"[{'^/' if negated else ''}{body}]", position + 1


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
        f'invalid pattern "{part}": unclosed bracket or trailing escape',
        reason=Reason.USAGE_INVALID,
        hint="Use [a-z] for a set of characters, and \\[ for a literal bracket.",
    )

"""Replaces words of a Dockerfile, and not a byte more: comments, line ends, a BOM, flags and heredocs stay as they are.

No I/O but on bytes in memory. Called by ``pin.pinning``. The dockerfile-parse library edits the lines; where an instruction
is, it says by ``structure``, which is taken only where this project's own parser agrees: the library takes the body of a heredoc
for instructions, and loses the first one of a file with a BOM. It wants UTF-8, which comments need not be: it is given a character
for each byte (ISO 8859-1), and references are ASCII.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from dockerfile_parse import DockerfileParser

from imagewright.pin.references import Named

_COMMENT = re.compile(r"\s*#")
_KEYWORD = re.compile(r"(?:\xef\xbb\xbf)?\s*\S+")  # after a BOM, byte by byte


def replaced(content: bytes, edits: Iterable[tuple[Named, str]]) -> tuple[bytes, list[Named]]:
    """The file with each image replaced by a text, and those that are not found as one word."""
    file = io.BytesIO(content.decode("iso-8859-1").encode())
    parser = DockerfileParser(fileobj=file)
    lines: list[str] = parser.lines
    starts = {(entry["instruction"], entry["startline"]): entry["endline"] for entry in parser.structure}
    missing = []
    changed = False
    for named, text in edits:
        first = named.location.line - 1
        last = max(named.location.end_line, named.location.line) - 1
        # A heredoc's body follows its instruction, so the library's end is the nearer one.
        last = min(last, starts.get((named.instruction, first), last))
        if not _replace(lines, range(first, last + 1), named, text):
            missing.append(named)
        else:
            changed = True
    if changed:
        parser.lines = lines
    return file.getvalue().decode().encode("iso-8859-1"), missing


def _replace(lines: list[str], numbers: range, named: Named, text: str) -> bool:
    """Replace the first such word on these lines; comments between continued lines are not looked at."""
    pattern = _pattern(named)
    for number in numbers:
        line = lines[number]
        begin = 0
        if number == numbers.start:
            keyword = _KEYWORD.match(line)
            begin = keyword.end() if keyword else 0
        elif _COMMENT.match(line):
            continue
        found = pattern.search(line, begin)
        if found:
            lines[number] = line[: found.start()] + named.prefix + text + line[found.end() :]
            return True
    return False


def _pattern(named: Named) -> re.Pattern[str]:
    word = re.escape(named.prefix + named.written)
    if named.prefix == "from=":  # an option of --mount, among others
        return re.compile(rf"(?:(?<=[=,])|^){word}(?=[,\s]|$)")
    return re.compile(rf"(?<!\S){word}(?!\S)")

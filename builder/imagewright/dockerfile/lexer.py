"""Splits the text of a Dockerfile into spans: directives, comments, blank lines, instructions with their heredocs.

No I/O. Spans follow each other without a gap: joined, they are the file.
"""

from __future__ import annotations

import re
from dataclasses import replace
from enum import Enum

from imagewright.dockerfile.expand import ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Directives, DockerfileWarning, Heredoc
from imagewright.dockerfile.source import SourceText
from imagewright.dockerfile.words import WordsError, parse_json, split_flags, split_name
from imagewright.errors import Location
from imagewright.records import dataclass

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=(.+)", re.DOTALL)
_DIRECTIVE_NAMES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.ASCII)
_BOM = "\ufeff"


class SpanKind(Enum):
    DIRECTIVE = "directive"
    COMMENT = "comment"
    BLANK = "blank"
    INSTRUCTION = "instruction"


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive whole lines. ``source`` is the text of the file, line ends included.

    ``parts`` are the lines of an instruction without continuation characters, comments, blank lines and heredoc bodies.
    """

    kind: SpanKind
    location: Location
    source: str
    parts: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def text(self) -> str:
        """The logical line of an instruction, which is parsed."""
        return "".join(self.parts)

    @property
    def shown(self) -> str:
        """The logical line for messages: a single space where a line was continued."""
        return " ".join(filter(None, (part.strip() for part in self.parts)))


@dataclass(frozen=True, slots=True)
class Lexed:
    """A file in spans."""

    source: SourceText
    directives: Directives
    spans: tuple[Span, ...]
    warnings: tuple[DockerfileWarning, ...]


def lex(data: bytes, name: str) -> Lexed:
    """Split a file into spans.

    Bytes that are not UTF-8 are kept as lone surrogates: they do no harm in comments, and are refused in instructions.

    Raises:
        DockerfileError: an invalid or repeated directive, or an unterminated heredoc.
    """
    text = data.decode("utf-8", "surrogateescape")
    raw = text.split("\n")
    lines = [line + "\n" for line in raw[:-1]] + ([raw[-1]] if raw[-1] else [])
    shown = [line.rstrip("\r\n").removeprefix(_BOM if number == 0 else "") for number, line in enumerate(lines)]
    source = SourceText(name, tuple(_printable(line) for line in shown))
    return _Lexer(source, tuple(lines), tuple(shown)).run()


class _Lexer:
    """Walks over the lines once. ``_lines`` are the raw lines, ``_shown`` those without line ends and BOM."""

    def __init__(self, source: SourceText, lines: tuple[str, ...], shown: tuple[str, ...]) -> None:
        self._source = source
        self._lines = lines
        self._shown = shown
        self._at = 0
        self._directives: dict[str, str] = {}
        self._in_directives = True
        self._spans: list[Span] = []
        self._warnings: list[DockerfileWarning] = []
        self._set_escape("\\")

    def _set_escape(self, escape: str) -> None:
        self._escape = escape
        # An escape at the end of a line continues it, unless another one escapes it.
        self._continuation = re.compile(rf"(?:(?<=[^{re.escape(escape)}])|^){re.escape(escape)}[ \t]*$")

    def run(self) -> Lexed:
        while self._at < len(self._shown):
            start = self._at
            line = self._shown[start].lstrip()
            if self._in_directives and self._directive(line):
                self._emit(SpanKind.DIRECTIVE, start)
            elif not line:
                self._at += 1
                self._emit(SpanKind.BLANK, start)
            elif line.startswith("#"):
                self._at += 1
                self._emit(SpanKind.COMMENT, start)
            else:
                parts = self._logical_line()
                heredocs = self._heredocs("".join(parts), start, self._at)
                self._emit(SpanKind.INSTRUCTION, start, parts, heredocs)
        directives = replace(Directives(), **self._directives)
        return Lexed(self._source, directives, tuple(self._spans), tuple(self._warnings))

    def _emit(
        self, kind: SpanKind, start: int, parts: tuple[str, ...] = (), heredocs: tuple[Heredoc, ...] = ()
    ) -> None:
        source = "".join(self._lines[start : self._at])
        self._spans.append(Span(kind, self._location(start, self._at), source, parts, heredocs))

    def _location(self, start: int, end: int) -> Location:
        """The location of lines ``start`` to ``end``, exclusive, with the columns of the first word of the first."""
        line = self._shown[start]
        indent = len(line) - len(line.lstrip())
        first = re.match(r"\S*", line[indent:])
        length = len(first[0]) if first else 0
        return Location(self._source.name, start + 1, end, indent + 1, indent + 1 + length)

    def _directive(self, line: str) -> bool:
        """Parse the line as a directive. Any other line ends the directives: those after it are comments."""
        match = _DIRECTIVE.fullmatch(line)
        key = match[1].lower() if match else ""
        if match is None or key not in _DIRECTIVE_NAMES:
            self._in_directives = False
            return False
        value = match[2].strip() or match[2][-1]  # BuildKit's expression takes white space if there is nothing else
        location = self._location(self._at, self._at + 1)
        if key in self._directives:
            raise self._source.error(f'directive "{key}" can be given only once', location, word=match[1])
        if key == "escape":
            if value not in ("\\", "`"):
                hint = "Use # escape=\\ or # escape=`."
                raise self._source.error(f'invalid escape character "{value[:20]}"', location, word=value, hint=hint)
            self._set_escape(value)
        self._directives[key] = value
        self._at += 1
        return True

    def _logical_line(self) -> tuple[str, ...]:
        start = self._at
        part, more = self._cut_continuation(self._shown[start].lstrip())
        self._at += 1
        parts = [part]
        empty_at = -1
        while more and self._at < len(self._shown):
            line = self._shown[self._at]
            self._at += 1
            stripped = line.lstrip()
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty_at = self._at - 1
                continue
            part, more = self._cut_continuation(line)
            parts.append(part)
        if empty_at >= 0:
            message = "Empty continuation line"
            location = Location(self._source.name, empty_at + 1, empty_at + 1)
            self._warnings.append(DockerfileWarning("NoEmptyContinuation", message, location))
        return tuple(parts)

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        match = self._continuation.search(line)
        return (line[: match.start()], True) if match else (line, False)

    def _heredocs(self, text: str, start: int, end: int) -> tuple[Heredoc, ...]:
        found = find_heredocs(text)
        if not found:
            return ()
        return tuple(self._heredoc_body(heredoc, start, end) for heredoc in found)

    def _heredoc_body(self, heredoc: Heredoc, start: int, end: int) -> Heredoc:
        first = self._at
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip("\r\n")
            self._at += 1
            if (line.lstrip("\t") if heredoc.strip_tabs else line) == heredoc.name:
                return replace(heredoc, body="".join(self._lines[first : self._at - 1]))
        hint = f"End it with a line that contains only {heredoc.name}."
        for number, line in enumerate(self._shown[first:], first + 1):
            if line.strip() == heredoc.name:
                hint = f"Remove the whitespace around {heredoc.name} in line {number}; only <<- allows tabs before it."
                break
        message = f"unterminated heredoc <<{heredoc.name}"
        raise self._source.error(message, self._location(start, end), word="<<", hint=hint)


def find_heredocs(text: str) -> tuple[Heredoc, ...]:
    """The heredocs that an instruction starts, in order, without their bodies.

    Only RUN, COPY and ADD have them, also as ONBUILD triggers, and not in the exec form.
    """
    if "<<" not in text:
        return ()
    name, rest = split_name(text)
    if name.upper() == "ONBUILD":
        name, rest = split_name(split_flags(rest)[1])
    if name.upper() not in ("RUN", "COPY", "ADD") or _is_json(split_flags(rest)[1]):
        return ()
    try:
        words = expand(
            text, {}, ExpansionOptions(raw_quotes=True, raw_escapes=True, keep_unset=True, heredocs=True)
        ).words
        return tuple(h for h in map(parse_heredoc, words) if h is not None)
    except ExpansionError:
        return ()  # BuildKit finds none in a line with mismatched quotes: the shell will report those


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that a word starts, without its body, or None."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        words = expand(match[3], {}, ExpansionOptions(keep_unset=True)).words
    except ExpansionError:
        return None  # a quote that is not closed in this word
    if len(words) != 1:
        return None
    raw = expand(match[3], {}, ExpansionOptions(keep_unset=True, raw_quotes=True)).words
    # A quote that quotes is removed in one of the two and kept in the other; an escaped one is in both.
    quoted = sum(words[0].count(q) for q in "'\"") != sum(sum(w.count(q) for q in "'\"") for w in raw)
    return Heredoc(words[0], "", expand=not quoted, strip_tabs=match[2] == "-")


def _is_json(rest: str) -> bool:
    try:
        return parse_json(rest) is not None
    except WordsError:
        return True


def _printable(line: str) -> str:
    return line.encode("utf-8", "replace").decode("utf-8", "replace") if not line.isascii() else line

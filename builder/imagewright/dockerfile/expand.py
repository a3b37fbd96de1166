"""Expands variables, quotes and escapes in a word, as the Dockerfile reference defines ("Environment replacement").

No I/O. Follows BuildKit where the reference is silent: an invalid pattern is an error, a lone ``$`` is kept, names may
be POSIX special parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from imagewright.dockerfile.shellpatterns import PatternError, replacements, trim
from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import Reason
from imagewright.records import dataclass

_SPECIAL = frozenset("@*#?-$!0")
_PLAIN = re.compile(r"[^$'\"<\\`\s/}]+")  # characters without a meaning
_DIGITS, _WORD = re.compile(r"\d+"), re.compile(r"\w+")
_MAX_DEPTH = 50  # ${a:-${b:-…}}: no real file nests this deep, and a hostile one must not exhaust the stack
MAX_GROWTH = 1 << 20
MAX_TOTAL = 64 << 20
_TOO_LONG_HINT = "Put long values into a file: COPY it, and read it in RUN."


class ExpansionError(Exception):
    """The word is not a valid expansion, or one that is too long (``LimitExceeded``).

    The message has no values and no location.
    """

    def __init__(self, message: str, *, reason: Reason | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class Allowance:
    """What a build's variables may still amount to, in characters: a line can double the value of the one before."""

    def __init__(self, characters: int = MAX_TOTAL) -> None:
        self._left = characters

    def spend(self, characters: int) -> None:
        """Count characters of values that are read or written.

        Raises:
            ExpansionError: reason ``LimitExceeded``.
        """
        self._left -= characters
        if self._left < 0:
            raise ExpansionError(
                f"the Dockerfile's variables expand to more than {MAX_TOTAL} characters in total",
                reason=Reason.LIMIT_EXCEEDED,
                hint=_TOO_LONG_HINT,
            )


@dataclass(frozen=True, slots=True)
class ExpansionOptions:
    """``raw_quotes`` and ``raw_escapes`` keep those characters, ``keep_unset`` keeps references to unset variables.

    ``quotes`` False treats quotes as ordinary characters (heredoc bodies). ``heredocs`` joins ``<<`` with its word.
    All words that share an ``allowance`` are limited together.
    """

    escape: str = "\\"
    raw_quotes: bool = False
    raw_escapes: bool = False
    keep_unset: bool = False
    quotes: bool = True
    heredocs: bool = False
    allowance: Allowance = field(default_factory=Allowance, compare=False)


@dataclass(frozen=True, slots=True)
class Expansion:
    """The whole text, the same split into words, the names without a value, and the substitutions made."""

    text: str
    words: tuple[str, ...]
    unset: tuple[str, ...]
    substitutions: Substitutions = NO_SUBSTITUTIONS


def expand(word: str, values: Mapping[str, str], options: ExpansionOptions | None = None) -> Expansion:
    """Expand ``word``.

    Raises:
        ExpansionError: unmatched quotes or braces, an unknown modifier, an invalid pattern, ``${x:?message}`` without a
            value; a result that is more than ``MAX_GROWTH`` longer than the word.
    """
    scanner = _Scanner(word, values, options or ExpansionOptions())
    try:
        text, words = scanner.until("")
        _check_growth(len(text) - len(word))
    except (ExpansionError, PatternError) as error:
        hint = error.hint if isinstance(error, ExpansionError) else ""
        raise ExpansionError(scanner.substitutions.as_written(str(error)), reason=error.reason, hint=hint) from None
    return Expansion(text, words, tuple(scanner.unset), scanner.substitutions)


@dataclass(slots=True)
class _Words:
    """Splits text into words at unquoted whitespace."""

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text[:1].isspace():
            self.end()
        for number, word in enumerate(text.split()):
            if number:
                self.end()
            self.current.append(word)
        if text[-1:].isspace():
            self.end()

    def add_quoted(self, text: str) -> None:
        self.current.append(text)

    def end(self) -> None:
        if word := "".join(self.current):
            self.done.append(word)
        self.current.clear()


class _Scanner:
    __slots__ = ("_at", "_depth", "_escape", "_options", "_raw_escapes", "_substitutions", "_text", "_values", "unset")

    def __init__(self, text: str, values: Mapping[str, str], options: ExpansionOptions) -> None:
        self._text = text
        self._values = values
        self._options = options
        self._escape = options.escape
        self._raw_escapes = options.raw_escapes
        self._at = 0
        self._depth = 0
        self.unset: dict[str, None] = {}
        self._substitutions: list[tuple[str, str]] = []

    @property
    def substitutions(self) -> Substitutions:
        return Substitutions(tuple(self._substitutions))

    def until(self, stop: str) -> tuple[str, tuple[str, ...]]:
        """Everything up to the unquoted character ``stop`` (``""``: the end), which is consumed."""
        parts: list[str] = []
        words = _Words()
        while self._at < len(self._text):
            if plain := _PLAIN.match(self._text, self._at):
                parts.append(plain[0])
                words.add_quoted(plain[0])
                self._at = plain.end()
                continue
            char = self._text[self._at]
            if char == stop:
                self._at += 1
                words.end()
                return "".join(parts), tuple(words.done)
            if char == "$":
                parts.append(self._dollar())
                words.add(parts[-1])
            elif char in "'\"" and self._options.quotes:
                parts.append(self._single() if char == "'" else self._double())
                words.add_quoted(parts[-1])
            elif char == "<" and self._options.heredocs:
                parts.append(self._possible_heredoc())
                words.add_quoted(parts[-1])
            elif char == self._escape:
                parts.append(self._escaped())
                words.add_quoted(parts[-1])
            else:
                self._at += 1
                parts.append(char)
                words.add(char)
        if stop:
            raise ExpansionError(f'missing "{stop}"')
        words.end()
        return "".join(parts), tuple(words.done)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _escaped(self) -> str:
        self._at += 1
        kept = self._escape if self._raw_escapes else ""
        return kept + (self._next() if self._at < len(self._text) else "")

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ExpansionError("unterminated single quote")
        body = self._text[self._at + 1 : end]
        self._at = end + 1
        return f"'{body}'" if self._options.raw_quotes else body

    def _double(self) -> str:
        self._at += 1
        parts: list[str] = []
        while True:
            char = self._peek()
            if not char:
                raise ExpansionError("unterminated double quote")
            if char == '"':
                self._at += 1
                body = "".join(parts)
                return f'"{body}"' if self._options.raw_quotes else body
            if char == "$":
                parts.append(self._dollar())
                continue
            self._at += 1
            if char != self._escape:
                parts.append(char)
                continue
            following = self._peek()
            escapes = bool(following) and following in ('"', "$", self._escape)
            if self._raw_escapes or (following and not escapes):
                parts.append(char)
            if escapes:
                parts.append(self._next())

    def _possible_heredoc(self) -> str:
        self._at += 1
        if self._peek() != "<":
            return "<"
        self._at += 1
        start = self._at
        while self._peek() in (" ", "\t"):
            self._at += 1
        return "<<" + self._text[start : self._at]

    def _dollar(self) -> str:
        start = self._at
        value = self._reference()
        self._options.allowance.spend(len(value))
        self._substitutions.append((self._text[start : self._at], value))
        return value

    def _reference(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._values.get(name)
            if value is None:
                self.unset[name] = None
                return f"${name}" if self._options.keep_unset else ""
            return value
        self._at += 1
        if self._peek() == "":
            raise ExpansionError("unterminated ${")
        if self._peek() in "{}:":
            raise ExpansionError("missing variable name after ${")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpansionError(f"${{…}} is nested more than {_MAX_DEPTH} levels deep")
        try:
            return self._braced(self._name())
        finally:
            self._depth -= 1

    def _braced(self, name: str) -> str:
        """What follows ``${name``."""
        operator = self._next()
        value = self._values.get(name)
        kept = value is None and self._options.keep_unset
        if value is None and operator in ("}", "#", "%", "/"):  # other modifiers handle unset variables
            self.unset[name] = None
        if operator == "}":
            return f"${{{name}}}" if kept else value or ""
        if operator == "/":
            everywhere = self._peek() == "/"
            if everywhere:
                self._at += 1
            pattern = self._operand("/", raw_escapes=True)
            replacement = self._operand("}", raw_escapes=True)
            if kept:
                return f"${{{name}/{'/' * everywhere}{pattern}/{replacement}}}"
            return self._replaced(value or "", pattern, replacement, everywhere=everywhere)
        colon = operator == ":"
        if colon:
            operator = self._next()
        if operator not in ("+", "-", "?", "#", "%") or (colon and operator in "#%"):
            if operator == "":
                raise ExpansionError("unterminated ${")
            raise ExpansionError(f"unsupported modifier in ${{{name}{':' * colon}{operator}…}}")
        word = self._operand("}", raw_escapes=operator in "#%")
        if kept:
            return f"${{{name}{':' * colon}{operator}{word}}}"
        if operator in "#%":
            self._options.allowance.spend(len(value or ""))
            return trim(value or "", word, operator)
        return _choose(name, value, operator, word, empty_is_unset=colon)

    def _replaced(self, value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
        self._options.allowance.spend(len(value))
        pieces: list[str] = []
        length = 0
        for piece in replacements(value, pattern, replacement, everywhere=everywhere):
            pieces.append(piece)
            length += len(piece)
            _check_growth(length - len(value))
        return "".join(pieces)

    def _operand(self, stop: str, *, raw_escapes: bool) -> str:
        before = self._raw_escapes
        self._raw_escapes = raw_escapes
        try:
            return self.until(stop)[0]
        finally:
            self._raw_escapes = before

    def _name(self) -> str:
        first = self._peek()
        if first.isdigit():
            match = _DIGITS.match(self._text, self._at)
        elif first and first in _SPECIAL:
            self._at += 1
            return first
        else:
            match = _WORD.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]


def _choose(name: str, value: str | None, operator: str, word: str, *, empty_is_unset: bool) -> str:
    missing = value is None or (empty_is_unset and value == "")
    match operator:
        case "-":
            return word if missing else value or ""
        case "+":
            return "" if missing else word
        case _:
            if not missing:
                return value or ""
            reason = "is not set" if value is None else "is empty"
            raise ExpansionError(f"{name}: {word}" if word else f"{name} {reason}, but ${{{name}:?}} requires a value")


def _check_growth(characters: int) -> None:
    if characters > MAX_GROWTH:
        raise ExpansionError(
            f"the value is too long: variables may add {MAX_GROWTH} characters",
            reason=Reason.LIMIT_EXCEEDED,
            hint=_TOO_LONG_HINT,
        )

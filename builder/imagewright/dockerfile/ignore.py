"""``.dockerignore``: which paths of the build context are excluded, by the rules of moby/patternmatcher.

No I/O. A pattern matches a path if it matches the path itself or one of its parent directories. The last matching
pattern decides, and ``!`` makes an exception. As in BuildKit, the contents of a directory inherit which patterns
matched it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import field
from typing import Self

from imagewright.dockerfile.source import SourceText
from imagewright.errors import Location, Reason
from imagewright.records import dataclass
from imagewright.wildcards import (
    ANY,
    DIRECTORIES,
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

_GLOB = frozenset("*?[\\")
_MAX_PATTERNS = 10_000  # each is compared with each path
_MAX_WILDCARDS = 1 << 20  # characters of patterns with wildcards, each of which takes up to 64 bytes
_KEPT_FOLDERS = 1024


class _PatternError(Exception):
    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    exception: bool
    matches: Callable[[str], bool]
    parts: tuple[Callable[[str], bool], ...] = ()  # by component; empty where an exact answer would cost too much

    def may_match_below(self, directory: str) -> bool:
        """Whether a path below ``directory`` could match; True where that is not known."""
        if not self.parts:
            return True
        names = directory.split("/")
        if len(self.parts) <= len(names):
            return False
        return all(matches(name) for matches, name in zip(self.parts, names, strict=False))


@dataclass(frozen=True, slots=True)
class IgnorePatterns:
    """A parsed ``.dockerignore``. Results for directories are cached."""

    patterns: tuple[_Pattern, ...] = ()
    _folders: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore", *, comments: bool = True) -> Self:
        """Parse the text of the file. ``name`` is for errors. Without ``comments``, ``#`` is an ordinary character.

        Raises:
            DockerfileError: an invalid pattern, or too many of them (reason ``LimitExceeded``), with the line.
        """
        lines = text.removeprefix("\ufeff").split("\n")
        source = SourceText(name, tuple(line.rstrip("\r") for line in lines))
        patterns: list[_Pattern] = []
        wildcards = 0  # characters of patterns with any
        for number, line in enumerate(lines, 1):
            stripped = line.strip()
            if (comments and line.startswith("#")) or not stripped:
                continue
            try:
                if len(patterns) == _MAX_PATTERNS:
                    raise source.error(
                        f"too many patterns: the limit is {_MAX_PATTERNS}",
                        Location(name, number, number),
                        hint="Use fewer patterns, with wildcards.",
                        reason=Reason.LIMIT_EXCEEDED,
                    )
                wildcards += len(stripped) if _GLOB.intersection(stripped) else 0
                if wildcards > _MAX_WILDCARDS:
                    raise _PatternError(
                        f"the patterns with wildcards have more than {_MAX_WILDCARDS} characters", Reason.LIMIT_EXCEEDED
                    )
                patterns.append(_parse_pattern(stripped))
            except _PatternError as error:
                location = Location(name, number, number)
                hint = (
                    "Use fewer and shorter patterns."
                    if error.reason
                    else "Remove the line, or escape literal characters with a backslash."
                )
                raise source.error(
                    f'invalid pattern "{stripped[:100]}": {error}',
                    location,
                    word=stripped,
                    hint=hint,
                    reason=error.reason,
                ) from error
        return cls(tuple(patterns))

    def ignores(self, path: str) -> bool:
        """Whether ``path`` (relative to the context, joined by ``/``) is excluded. The root never is."""
        path = path.strip("/")
        if path in ("", "."):
            return False
        return self._evaluate(path, self._folder(posixpath.dirname(path)))[0]

    def may_include_below(self, directory: str) -> bool:
        """Whether an exception could match below an excluded directory, so that it has to be walked."""
        directory = directory.strip("/")
        return any(p.exception and p.may_match_below(directory) for p in self.patterns)

    def _evaluate(self, path: str, inherited: bytes) -> tuple[bool, bytes]:
        """Whether the path is excluded, and which patterns matched it, a byte each.

        ``inherited``: those that matched its directory.
        """
        ignored = False
        matched = bytearray(inherited or len(self.patterns))
        for index, pattern in enumerate(self.patterns):
            match = bool(matched[index])
            # A pattern that could not change the result is not evaluated, so its match is not inherited either.
            if not match and pattern.exception == ignored:
                match = pattern.matches(path)
                matched[index] = match
            if match:
                ignored = not pattern.exception
        return ignored, bytes(matched)

    def _folder(self, path: str) -> bytes:
        """Which patterns matched a directory, evaluated from the root downwards; empty for the root."""
        unknown: list[str] = []
        matched = b""
        while path:
            known = self._folders.get(path)
            if known is not None:
                matched = known
                break
            unknown.append(path)
            path = path.rpartition("/")[0]
        for folder in reversed(unknown):
            if len(self._folders) >= _KEPT_FOLDERS:  # directories are visited one after another
                self._folders.clear()
            matched = self._folders[folder] = self._evaluate(folder, matched)[1]
        return matched


def _parse_pattern(text: str) -> _Pattern:
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
        if not text:
            raise _PatternError("no pattern after !")
    text = posixpath.normpath("/" + text) if text.startswith("/") else posixpath.normpath(text)
    text = text.lstrip("/") or "/"
    if len(text) > MAX_LENGTH:
        raise _PatternError(f"longer than {MAX_LENGTH} characters", Reason.LIMIT_EXCEEDED)
    exact = "**" not in text and "[" not in text and "\\/" not in text
    parts = tuple(map(_matcher, text.split("/"))) if exception and exact else ()
    return _Pattern(text, exception, _matcher(text), parts)


def _matcher(pattern: str) -> Callable[[str], bool]:
    """patternmatcher has four kinds of patterns; those without a regular expression also differ in what they match."""
    if not _GLOB.intersection(pattern):
        return pattern.__eq__
    rest = pattern.removeprefix("**")
    if rest != pattern and not _GLOB.intersection(rest):
        plain = rest.removeprefix("/") if rest.startswith("/") else None
        return lambda path: path.endswith(rest) or path == plain
    rest = pattern.removesuffix("**")
    if rest != pattern and not _GLOB.intersection(rest):
        return lambda path: path.startswith(rest)
    try:
        return Wildcards(_items(pattern)).fullmatch
    except TooManyCharacters as error:
        raise _PatternError(str(error), Reason.LIMIT_EXCEEDED) from None


def _items(pattern: str) -> list[Item]:
    items: list[Item] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            items.append(Item(Kind.MANY, ANY) if at == len(pattern) else DIRECTORIES)
        elif char == "*":
            items.append(Item(Kind.MANY, NOT_SLASH))
        elif char == "?":
            items.append(Item(Kind.ONE, NOT_SLASH))
        elif char == "[":
            ranges, at = _class(pattern, at)
            items.append(Item(Kind.ONE, ranges))
        elif char == "\\":
            if at == len(pattern):
                raise _PatternError("trailing backslash")
            items.append(literal(pattern[at]))
            at += 1
        else:
            items.append(literal(char))
    return items


def _class(pattern: str, at: int) -> tuple[Ranges, int]:
    """The characters of ``[a-z]`` or ``[^a]``, from after its bracket, and the index after it."""
    negated = pattern.startswith("^", at)
    at += negated
    pairs: list[tuple[str, str]] = []
    while not pattern.startswith("]", at):
        first, at = _class_char(pattern, at)
        last = first
        if pattern.startswith("-", at):
            last, at = _class_char(pattern, at + 1)
        if first > last:
            raise _PatternError(f"range {first}-{last} is in reverse order")
        pairs.append((first, last))
    if not pairs:
        raise _PatternError("empty [ ]")
    ranges = union(pairs)
    return complement(ranges) if negated else ranges, at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern):
        raise _PatternError("unterminated [")
    char = pattern[at]
    if char in "-]":
        raise _PatternError(f'unexpected "{char}" in [ ]')
    if char == "\\":
        at += 1
        if at >= len(pattern):
            raise _PatternError("trailing backslash")
        char = pattern[at]
    return char, at + 1

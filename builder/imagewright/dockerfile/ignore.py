"""``.dockerignore``: which paths of the build context are excluded, by the rules of moby/patternmatcher.

No I/O. A pattern matches a path if it matches the path itself or one of its parent directories. The last matching
pattern decides, and ``!`` makes an exception. As in BuildKit, the contents of a directory inherit which patterns
matched it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from imagewright.dockerfile.source import SourceText
from imagewright.errors import Location

_GLOB = frozenset("*?[\\")


class _PatternError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    exception: bool
    matches: Callable[[str], bool]

    def may_match_below(self, directory: str) -> bool:
        """Whether a path below ``directory`` could match; True where an exact answer would cost too much."""
        if "**" in self.text or "[" in self.text:
            return True
        own, names = self.text.split("/"), directory.split("/")
        if len(own) <= len(names):
            return False
        return all(_matcher(part)(name) for part, name in zip(own, names, strict=False))


@dataclass(frozen=True, slots=True)
class IgnorePatterns:
    """A parsed ``.dockerignore``. Results for directories are cached."""

    patterns: tuple[_Pattern, ...] = ()
    _folders: dict[str, tuple[bool, ...]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore", *, comments: bool = True) -> Self:
        """Parse the text of the file. ``name`` is for errors. Without ``comments``, ``#`` is an ordinary character.

        Raises:
            DockerfileError: an invalid pattern, with its line.
        """
        lines = text.removeprefix("\ufeff").split("\n")
        source = SourceText(name, tuple(line.rstrip("\r") for line in lines))
        patterns: list[_Pattern] = []
        for number, line in enumerate(lines, 1):
            stripped = line.strip()
            if (comments and line.startswith("#")) or not stripped:
                continue
            try:
                patterns.append(_parse_pattern(stripped))
            except _PatternError as error:
                location = Location(name, number, number)
                hint = "Remove the line, or escape literal characters with a backslash."
                raise source.error(
                    f'invalid pattern "{stripped[:100]}": {error}', location, word=stripped, hint=hint
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

    def _evaluate(self, path: str, inherited: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        """Whether the path is excluded, and which patterns matched it.

        ``inherited``: those that matched its directory.
        """
        ignored = False
        matched: list[bool] = []
        for index, pattern in enumerate(self.patterns):
            match = bool(inherited) and inherited[index]
            # A pattern that could not change the result is not evaluated, so its match is not inherited either.
            if not match and pattern.exception == ignored:
                match = pattern.matches(path)
            matched.append(match)
            if match:
                ignored = not pattern.exception
        return ignored, tuple(matched)

    def _folder(self, path: str) -> tuple[bool, ...]:
        """Which patterns matched a directory, evaluated from the root downwards; empty for the root."""
        unknown: list[str] = []
        while path and path not in self._folders:
            unknown.append(path)
            path = path.rpartition("/")[0]
        matched = self._folders[path] if path else ()
        for folder in reversed(unknown):
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
    return _Pattern(text, exception, _matcher(text))


def _matcher(pattern: str) -> Callable[[str], bool]:
    """patternmatcher has four kinds of patterns; those without a regular expression also differ in what they match."""
    _check(pattern)
    if not _GLOB.intersection(pattern):
        return pattern.__eq__
    rest = pattern.removeprefix("**")
    if rest != pattern and not _GLOB.intersection(rest):
        plain = rest.removeprefix("/") if rest.startswith("/") else None
        return lambda path: path.endswith(rest) or path == plain
    rest = pattern.removesuffix("**")
    if rest != pattern and not _GLOB.intersection(rest):
        return lambda path: path.startswith(rest)
    compiled = re.compile(_translate(pattern), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def _translate(pattern: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            out.append(".*" if at == len(pattern) else "(?:.*/)?")
        elif char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _translate_class(pattern, at)
            out.append(text)
        elif char == "\\":
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _translate_class(pattern: str, at: int) -> tuple[str, int]:
    """``[a-z]`` or ``[^a]`` as a regular expression, from after its bracket, and the index after it."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not pattern.startswith("]", at):
        first, at = _class_char(pattern, at)
        last = first
        if pattern.startswith("-", at):
            last, at = _class_char(pattern, at + 1)
        if first > last:
            raise _PatternError(f"range {first}-{last} is in reverse order")
        ranges.append(f"{re.escape(first)}-{re.escape(last)}")
    if not ranges:
        raise _PatternError("empty [ ]")
    return f"[{'^' * negated}{''.join(ranges)}]", at + 1


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


def _check(pattern: str) -> None:
    """Refuse the patterns that Go's path.Match refuses."""
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            if at + 1 == len(pattern):
                raise _PatternError("trailing backslash")
            at += 2
        elif pattern[at] == "[":
            at = _translate_class(pattern, at + 1)[1]
        else:
            at += 1

"""Pins the images of one Dockerfile: our parser finds them, a callback resolves them, dockerfile-parse edits.

No I/O of its own. An edit replaces one word on the lines of its instruction, and every other byte stays: comments, line
ends, a BOM, flags and heredocs. dockerfile-parse decodes UTF-8, which comments need not be, so it gets a character for
each byte (ISO 8859-1); references are ASCII.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from dockerfile_parse import DockerfileParser

from imagewright.digest import Digest
from imagewright.dockerfile.parser import parse
from imagewright.dockerfile.source import SourceText, excerpt
from imagewright.errors import DockerfileError, ImagewrightError, Location
from imagewright.pin.references import ImageName, image_names
from imagewright.records import dataclass
from imagewright.reference import Reference

Resolver = Callable[[Reference], Digest]  # the current digest of a tag; may raise an ImagewrightError
_COMMENT = re.compile(r"\s*#")
_KEYWORD = re.compile(r"(?:\xef\xbb\xbf)?\s*\S+")  # after a BOM, byte by byte


@dataclass(frozen=True, slots=True)
class Change:
    """An image that gets a digest, or another one."""

    instruction: str
    location: Location
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unpinned:
    """An image that stays as it is, and why. ``fixable``: it could be pinned if it were written in another way."""

    instruction: str
    location: Location
    written: str
    why: str
    fixable: bool = False


@dataclass(frozen=True, slots=True)
class PinResult:
    """The new content of a Dockerfile, which is the old one where nothing changes."""

    content: bytes
    changes: tuple[Change, ...]
    unpinned: tuple[Unpinned, ...]


def pin(content: bytes, name: str, resolve: Resolver, *, update: bool = False) -> PinResult:
    """Add a digest to every image of a Dockerfile that has none; with ``update``, resolve the others again too.

    Args:
        name: the file's name in messages.

    Raises:
        DockerfileError: the file is invalid, or an image could not be edited safely.
        ImagewrightError: what ``resolve`` raises, with the line.
    """
    dockerfile = parse(content, name)
    source = SourceText(name, dockerfile.lines)
    names = list(image_names(dockerfile))
    unpinned: list[Unpinned] = []
    edits: list[tuple[ImageName, str]] = []
    for image in names:
        if image.reference is None:
            unpinned.append(_unpinned(image, image.why_not, fixable=image.fixable))
        elif image.reference.digest is None or update:
            if not image.reference.tag:
                unpinned.append(_unpinned(image, "it has no tag to resolve"))
                continue
            text = _with_digest(image, resolve, source)
            if text != image.written:
                edits.append((image, text))
    new, missing = _edit(content, edits)
    unpinned += [_unpinned(image, "it spans several lines or words", fixable=True) for image in missing]
    done = [(image, text) for image, text in edits if image not in missing]
    changed = {(image.lines.start, image.prefix, image.written): text for image, text in done}
    wanted = [changed.get((image.lines.start, image.prefix, image.written), image.written) for image in names]
    if wanted != [image.written for image in image_names(parse(new, name))]:
        raise DockerfileError(
            f"cannot pin the images of {name}: the edited file would name other images",
            location=done[0][0].location,
            hint="Pin them by hand, and please report the file.",
        )
    changes = tuple(Change(image.instruction, image.location, image.written, text) for image, text in done)
    return PinResult(new, changes, tuple(sorted(unpinned, key=lambda one: one.location.line)))


def _unpinned(image: ImageName, why: str, *, fixable: bool = False) -> Unpinned:
    return Unpinned(image.instruction, image.location, image.written, why, fixable)


def _with_digest(image: ImageName, resolve: Resolver, source: SourceText) -> str:
    """The image as written, with its tag (``latest`` where none is written) and the tag's digest."""
    assert image.reference is not None
    reference = replace(image.reference, digest=None)
    try:
        digest = resolve(reference)
    except ImagewrightError as error:
        if error.location is None:
            error.location = source.narrow(image.location, image.written)
            error.excerpt = excerpt(source.lines, error.location)
        raise
    written = image.written.partition("@")[0]
    has_tag = written.endswith(f":{reference.tag}")
    return f"{written}{'' if has_tag else ':' + reference.tag}@{digest}"


# --- editing


def _edit(content: bytes, edits: Iterable[tuple[ImageName, str]]) -> tuple[bytes, list[ImageName]]:
    """The file with each image replaced by a text, and the images that are not one word on one line."""
    file = io.BytesIO(content.decode("iso-8859-1").encode())
    parser = DockerfileParser(fileobj=file)
    lines: list[str] = parser.lines
    missing = [image for image, text in edits if not _replace(lines, image, text)]
    if lines != parser.lines:
        parser.lines = lines
    return file.getvalue().decode().encode("iso-8859-1"), missing


def _replace(lines: list[str], image: ImageName, text: str) -> bool:
    """Replace the image's first occurrence; comments between continued lines are skipped."""
    pattern = _pattern(image)
    for number in image.lines:
        line = lines[number]
        begin = 0
        if number == image.lines.start:
            keyword = _KEYWORD.match(line)
            begin = keyword.end() if keyword else 0
        elif _COMMENT.match(line):
            continue
        found = pattern.search(line, begin)
        if found:
            lines[number] = line[: found.start()] + image.prefix + text + line[found.end() :]
            return True
    return False


def _pattern(image: ImageName) -> re.Pattern[str]:
    word = re.escape(image.prefix + image.written)
    if image.prefix == "from=":  # an option of --mount, among others
        return re.compile(rf"(?:(?<=[=,])|^){word}(?=[,\s]|$)")
    return re.compile(rf"(?<!\S){word}(?!\S)")

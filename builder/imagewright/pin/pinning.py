"""Pins the images of one Dockerfile: found by our parser, looked up by whoever calls, edited, and checked.

No I/O of its own. Called by ``cli.pincommand``. After the edit our parser must see the same instructions but for the images:
a file in which it doesn't is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from imagewright.digest import Digest
from imagewright.dockerfile.model import Copy, Dockerfile, From, Run
from imagewright.dockerfile.mounts import MountOption
from imagewright.dockerfile.parser import parse
from imagewright.dockerfile.source import SourceText, excerpt
from imagewright.errors import DockerfileError, ImagewrightError, Location
from imagewright.pin.edit import replaced
from imagewright.pin.references import Named, named_images
from imagewright.reference import Reference

Resolver = Callable[[Reference], Digest]  # the digest that a name and tag have now; may raise an ImagewrightError


@dataclass(frozen=True, slots=True)
class Change:
    """An image that gets a digest, or another one."""

    instruction: str
    location: Location
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Left:
    """An image that stays as it is, and why. ``by_hand``: it could have a digest, if a person wrote it."""

    instruction: str
    location: Location
    written: str
    why: str
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Pinned:
    """A Dockerfile's new content, which is the old one where nothing changes."""

    content: bytes
    changes: tuple[Change, ...]
    left: tuple[Left, ...]


def pin(content: bytes, name: str, resolve: Resolver, *, update: bool = False) -> Pinned:
    """Give every image of a Dockerfile that has none a digest; with ``update``, look the others up again too.

    Args:
        name: of the file, for messages.

    Raises:
        DockerfileError: it can't be read, or after the edit would say something else.
        ImagewrightError: what ``resolve`` raises, with the line.
    """
    dockerfile = parse(content, name)
    source = SourceText(name, dockerfile.lines)
    left: list[Left] = []
    edits: list[tuple[Named, str]] = []
    for named in named_images(dockerfile):
        if named.reference is None:
            left.append(Left(named.instruction, named.location, named.written, named.why_not, named.by_hand))
        elif named.reference.digest is None or update:
            if not named.reference.tag:
                left.append(Left(named.instruction, named.location, named.written, "it has no tag to look up"))
                continue
            text = _with_digest(named, resolve, source)
            if text != named.written:
                edits.append((named, text))
    new, missing = replaced(content, edits)
    left += [Left(named.instruction, named.location, named.written, "it is not one word", True) for named in missing]
    done = [(named, text) for named, text in edits if named not in missing]
    if done:
        _check(dockerfile, parse(new, name), done)
    changes = tuple(Change(named.instruction, named.location, named.written, text) for named, text in done)
    return Pinned(new, changes, tuple(sorted(left, key=lambda one: one.location.line)))


def _with_digest(named: Named, resolve: Resolver, source: SourceText) -> str:
    """The image as it is written, with the tag that it means and the tag's digest."""
    assert named.reference is not None
    reference = replace(named.reference, digest=None)
    try:
        digest = resolve(reference)
    except ImagewrightError as error:
        if error.location is None:
            error.location = source.narrow(named.location, named.written)
            error.excerpt = excerpt(source.lines, error.location)
        raise
    written = named.written.partition("@")[0]
    has_tag = written.endswith(f":{reference.tag}")
    return f"{written}{'' if has_tag else ':' + reference.tag}@{digest}"


# --- what the edit must not change


def _check(before: Dockerfile, after: Dockerfile, edits: list[tuple[Named, str]]) -> None:
    """Compare everything but the images, and the images with what they should be.

    Raises:
        DockerfileError
    """
    texts = {(named.location.line, named.prefix, named.written): text for named, text in edits}
    wanted = [
        texts.get((named.location.line, named.prefix, named.written), named.written) for named in named_images(before)
    ]
    found = [named.written for named in named_images(after)]
    if wanted != found or _shape(before) != _shape(after):
        raise DockerfileError(
            f"{before.name}: with digests it would say something else; it is left as it was",
            location=edits[0][0].location,
            hint="Pin its images by hand; and please report the file.",
        )


def _shape(dockerfile: Dockerfile) -> list[Any]:
    """Everything that a Dockerfile says, without its images and what they are seen in."""
    return [
        dockerfile.directives,
        dockerfile.global_args,
        [[_bare(stage.from_), *(_bare(one) for one in stage.instructions)] for stage in dockerfile.stages],
    ]


def _bare(instruction: Any) -> Any:
    match instruction:
        case From():
            instruction = replace(instruction, image="", source="")
        case Copy(from_=image) if image:
            instruction = replace(instruction, from_="", source="")
        case Run(mounts=mounts) if mounts:
            bare = tuple(
                replace(mount, written="", options=tuple(_without_image(option) for option in mount.options))
                for mount in mounts
            )
            instruction = replace(instruction, mounts=bare, source="")
    line = instruction.location.line
    return [
        line,
        type(instruction),
        *(getattr(instruction, f.name) for f in fields(instruction) if f.name not in ("location", "shown")),
    ]


def _without_image(option: MountOption) -> MountOption:
    return replace(option, value="", written="") if option.name == "from" else option

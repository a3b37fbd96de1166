"""The images that a Dockerfile names, with their places, and why some of them can't be pinned.

No I/O. Stages, by name or number, and scratch are not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from imagewright.dockerfile.model import Copy, Dockerfile, Heredoc, Onbuild, Run
from imagewright.errors import ImagewrightError, Location
from imagewright.records import dataclass
from imagewright.reference import Reference

_SCRATCH = "scratch"
_IN_TRIGGER = re.compile(r"(?:--from=|\bfrom=)([^\s,]+)")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image as an instruction names it. ``prefix`` precedes it in the same word.

    ``location`` is that of the instruction, ``lines`` the numbers of its lines, from 0, without the bodies of heredocs.
    ``reference`` is None for an image that can't be pinned, which ``why_not`` explains; ``fixable``: it could be pinned
    if it were written in another way.
    """

    instruction: str
    prefix: str
    written: str
    location: Location
    lines: range = range(0)
    reference: Reference | None = None
    why_not: str = ""
    fixable: bool = False


def image_names(dockerfile: Dockerfile) -> Iterator[ImageName]:
    """In the order of the file."""
    stages: set[str] = set()
    for stage in dockerfile.stages:
        from_ = stage.from_
        if from_.image != _SCRATCH and from_.image.lower() not in stages:
            yield _image_name("FROM", "", from_.image, from_.location, ())
        stages.add(stage.name)
        for instruction in stage.instructions:
            match instruction:
                case Copy(from_=image, heredocs=heredocs) if _is_image(image, dockerfile):
                    yield _image_name("COPY", "--from=", image, instruction.location, heredocs)
                case Run(mounts=mounts, heredocs=heredocs):
                    for mount in mounts:
                        if _is_image(mount.from_, dockerfile):
                            yield _image_name("RUN", "from=", mount.from_, instruction.location, heredocs)
                case Onbuild(trigger=trigger):
                    for match in _IN_TRIGGER.finditer(trigger):
                        if _is_image(match[1], dockerfile):
                            why = "an ONBUILD trigger is resolved by a later build"
                            yield ImageName("ONBUILD", "", match[1], instruction.location, why_not=why)


def _is_image(name: str, dockerfile: Dockerfile) -> bool:
    """The name of a later stage is not an image either: reading from it is an error, which pinning must not hide."""
    stages = {stage.name for stage in dockerfile.stages}
    return bool(name) and not name.isdigit() and name.lower() not in stages and name != _SCRATCH


def _image_name(
    instruction: str, prefix: str, written: str, location: Location, heredocs: Sequence[Heredoc]
) -> ImageName:
    bodies = sum(heredoc.body.count("\n") + 1 for heredoc in heredocs)
    lines = range(location.line - 1, max(location.line, location.end_line - bodies))
    reference, why_not, fixable = None, "", True
    if "$" in written:
        why_not, fixable = "it contains variables", False
    elif any(character in written for character in "\"'\\`"):
        why_not = "it contains quotes or escapes"
    else:
        try:
            reference = Reference.parse(written)
        except ImagewrightError as error:
            why_not = error.message
    return ImageName(instruction, prefix, written, location, lines, reference, why_not, bool(why_not) and fixable)

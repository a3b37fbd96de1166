"""Every image that a Dockerfile names, where, and why it can't be pinned if it can't.

No I/O. Called by ``pin.pinning``. What is no image is not listed: stages, by name or number, and scratch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagewright.dockerfile.model import Copy, Dockerfile, Onbuild, Run
from imagewright.errors import ImagewrightError, Location
from imagewright.reference import Reference

_SCRATCH = "scratch"
_IN_A_TRIGGER = re.compile(r"(?:--from=|\bfrom=)([^\s,]+)")


@dataclass(frozen=True, slots=True)
class Named:
    """One image. ``prefix`` is what stands before it in the same word, ``reference`` what it is, None where that is unknown.

    ``location`` is its instruction's, all lines of it.
    """

    instruction: str
    prefix: str
    written: str
    location: Location
    reference: Reference | None = None
    why_not: str = ""
    by_hand: bool = False  # why_not is about how it is written: a person can write it otherwise


def named_images(dockerfile: Dockerfile) -> Iterator[Named]:
    """In the order of the file."""
    stages: set[str] = set()
    for stage in dockerfile.stages:
        from_ = stage.from_
        if from_.image != _SCRATCH and from_.image.lower() not in stages:
            yield _named("FROM", "", from_.image, from_.location)
        stages.add(stage.name)
        for instruction in stage.instructions:
            match instruction:
                case Copy(from_=image) if _is_image(image, dockerfile):
                    yield _named("COPY", "--from=", image, instruction.location)
                case Run(mounts=mounts):
                    for mount in mounts:
                        if _is_image(mount.from_, dockerfile):
                            yield _named("RUN", "from=", mount.from_, instruction.location)
                case Onbuild(trigger=trigger):
                    for match in _IN_A_TRIGGER.finditer(trigger):
                        if _is_image(match[1], dockerfile):
                            why = "it is in a trigger, which a later build executes"
                            yield Named("ONBUILD", "", match[1], instruction.location, why_not=why)


def _is_image(name: str, dockerfile: Dockerfile) -> bool:
    """A later stage's name is none either: to read from it is a mistake, which is not to be hidden."""
    stages = {stage.name for stage in dockerfile.stages}
    return bool(name) and not name.isdigit() and name.lower() not in stages and name != _SCRATCH


def _named(instruction: str, prefix: str, written: str, location: Location) -> Named:
    if "$" in written:
        return Named(instruction, prefix, written, location, why_not="it is made of arguments")
    if any(character in written for character in "\"'\\`"):
        return Named(instruction, prefix, written, location, why_not="it is quoted", by_hand=True)
    try:
        reference = Reference.parse(written)
    except ImagewrightError as error:
        return Named(instruction, prefix, written, location, why_not=error.message, by_hand=True)
    return Named(instruction, prefix, written, location, reference)

"""The bases of stages, and the origins of the files that COPY, ADD and RUN --mount read.

No I/O.
"""

from __future__ import annotations

from imagewright.oci.platform import Platform
from imagewright.records import dataclass
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class ImageBase:
    """A stage that starts from an image of a registry."""

    reference: Reference
    platform: Platform


@dataclass(frozen=True, slots=True)
class StageBase:
    """A stage that is based on another one. ``stage`` is the index of that stage in the Dockerfile."""

    stage: int


@dataclass(frozen=True, slots=True)
class ScratchBase:
    """A stage that starts from an empty file system."""


@dataclass(frozen=True, slots=True)
class ContextBase:
    """A stage that starts from the files of a named context."""

    context: str


Base = ImageBase | StageBase | ScratchBase | ContextBase


@dataclass(frozen=True, slots=True)
class ContextOrigin:
    """COPY and ADD from the build context, or from the named context ``context``."""

    context: str = ""


@dataclass(frozen=True, slots=True)
class StageOrigin:
    """``COPY --from`` a stage, by its index in the Dockerfile."""

    stage: int


@dataclass(frozen=True, slots=True)
class ImageOrigin:
    """``COPY --from`` an image of a registry. ``hint`` is for the error if there is no such image."""

    reference: Reference
    platform: Platform
    hint: str = ""


Origin = ContextOrigin | StageOrigin | ImageOrigin

"""What the command line adds to a Dockerfile, and what the planner asks for.

No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from imagewright.errors import Location
from imagewright.oci.platform import Platform, host_platform
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class ImageContext:
    """``--build-context name=docker-image://…``."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class FolderContext:
    """A ``--build-context`` that is a folder of files, wherever it comes from."""


NamedContext = ImageContext | FolderContext


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line adds to a Dockerfile.

    ``target`` is a stage's name or number, "" for the last stage. ``build_args`` are in the order they were given.
    ``platform`` is what the image is built for, ``build_platform`` what the build runs on; ``platform_asked`` says that
    the first was named, and not taken from the second. ``contexts`` take the place of
    the stages and images of their names.
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=host_platform)
    build_platform: Platform = field(default_factory=host_platform)
    labels: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    platform_asked: bool = False

    def without_build_args(self) -> PlanOptions:
        """As if none had been given."""
        return replace(self, build_args={})

    def with_build_arg(self, name: str, value: str | None) -> PlanOptions:
        """The same with another value of a build argument, None to take it away."""
        args = {key: given for key, given in self.build_args.items() if key != name}
        return replace(self, build_args=args if value is None else args | {name: value})


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """The planner needs the configuration of this image for this platform.

    ``location`` is the FROM that names it; ``hint`` is to be shown when there is no such image (a stage's name, mistyped).
    """

    reference: Reference
    platform: Platform
    location: Location | None = None
    hint: str = ""

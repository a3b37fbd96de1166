"""The inputs of planning besides the Dockerfile, and the planner's requests for base images.

No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from imagewright.errors import Location
from imagewright.oci.platform import Platform, host_platform
from imagewright.records import dataclass
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class ImageContext:
    """``--build-context name=docker-image://…``."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class DirectoryContext:
    """A ``--build-context`` that is a directory of files, whatever its source."""


NamedContext = ImageContext | DirectoryContext


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options of the command line that affect the plan.

    ``target`` is the name or number of a stage, "" for the last one. ``build_args`` keep the order of the command line.
    ``platform`` is that of the image, ``build_platform`` that of the build; ``platform_asked``: the first was requested
    and is not just the default. ``contexts`` replace the stages and images of their names.
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=host_platform)
    build_platform: Platform = field(default_factory=host_platform)
    labels: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    platform_asked: bool = False

    def without_build_args(self) -> PlanOptions:
        """The options without any build argument."""
        return replace(self, build_args={})

    def with_build_arg(self, name: str, value: str | None) -> PlanOptions:
        """The options with another value of a build argument, None to remove it."""
        args = {key: given for key, given in self.build_args.items() if key != name}
        return replace(self, build_args=args if value is None else args | {name: value})


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """A request for the configuration of a base image for a platform.

    ``location`` is that of FROM. ``hint`` is for the error if there is no such image (perhaps a mistyped stage name).
    """

    reference: Reference
    platform: Platform
    location: Location | None = None
    hint: str = ""

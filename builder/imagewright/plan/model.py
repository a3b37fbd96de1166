"""The plan of a build: stages in execution order, each with its base, steps and final configuration.

No I/O. The same plan is printed by ``imagewright plan`` and executed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from imagewright.dockerfile.model import DockerfileWarning, From
from imagewright.errors import Location
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.origins import (
    Base,
    ContextBase,
    ContextOrigin,
    ImageBase,
    ImageOrigin,
    Origin,
    ScratchBase,
    StageBase,
    StageOrigin,
)
from imagewright.plan.steps import CopyStep, RunStep, Step
from imagewright.records import dataclass
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. ``index`` is its number in the Dockerfile, ``from_`` its first instruction.

    ``config`` is the final configuration except for rootfs, history and creation time, which are still those of the
    base image (empty where the base is a stage: the engine adds them).
    """

    index: int
    from_: From
    base: Base
    platform: Platform
    steps: tuple[Step, ...]
    config: ImageConfig

    @property
    def location(self) -> Location:
        return self.from_.location

    @property
    def contexts(self) -> frozenset[str]:
        """The named contexts that the stage reads."""
        names = {origin.context for _, origin in self.origins if isinstance(origin, ContextOrigin)}
        names |= {self.base.context} if isinstance(self.base, ContextBase) else set()
        return frozenset(names - {""})

    @property
    def label(self) -> str:
        """The name of the stage in progress lines, as in BuildKit: its own, else ``stage-0``."""
        return self.from_.name or f"stage-{self.index}"

    @property
    def title(self) -> str:
        """FROM as written, and the context that replaces its image."""
        return self.from_.shown + (f" (the context {self.base.context})" if isinstance(self.base, ContextBase) else "")

    @property
    def needs(self) -> frozenset[int]:
        """Indices of the stages that must be built before this one."""
        needed = {self.base.stage} if isinstance(self.base, StageBase) else set[int]()
        needed |= {origin.stage for _, origin in self.origins if isinstance(origin, StageOrigin)}
        return frozenset(needed)

    @property
    def origins(self) -> tuple[tuple[Step, Origin], ...]:
        """The steps that read files from a context, stage or image, each with its origins."""
        return tuple((step, o) for step in self.steps if isinstance(step, RunStep | CopyStep) for o in step.origins)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The stages that the target needs, in the order of the Dockerfile; the target is last."""

    stages: tuple[StagePlan, ...]
    warnings: tuple[DockerfileWarning, ...] = ()

    @property
    def target(self) -> StagePlan:
        return self.stages[-1]

    @property
    def images(self) -> frozenset[Reference]:
        """The images of registries that stages start from or read."""
        bases = {stage.base.reference for stage in self.stages if isinstance(stage.base, ImageBase)}
        origins = (origin for stage in self.stages for _, origin in stage.origins)
        return frozenset(bases | {origin.reference for origin in origins if isinstance(origin, ImageOrigin)})

    @property
    def ancestry(self) -> frozenset[int]:
        """The target and the stages that it is based on: the image has their layers."""
        found = {self.target.index}
        base = self.target.base
        while isinstance(base, StageBase):
            found.add(base.stage)
            base = self.stage(base.stage).base
        return frozenset(found)

    def starts_from_scratch(self, index: int) -> bool:
        """Whether a stage has no base image."""
        base = self.stage(index).base
        while isinstance(base, StageBase):
            base = self.stage(base.stage).base
        return isinstance(base, ScratchBase)

    def stage_at(self, place: Location) -> int | None:
        """The index of the stage that a line belongs to, None before the first."""
        above = bisect_right(self.stages, place.line, key=lambda stage: stage.location.line)
        return self.stages[above - 1].index if above else None

    def stage(self, index: int) -> StagePlan:
        """The stage with this number in the Dockerfile.

        Raises:
            KeyError: the plan does not contain it.
        """
        position = bisect_left(self.stages, index, key=lambda stage: stage.index)
        if position == len(self.stages) or self.stages[position].index != index:
            raise KeyError(index)
        return self.stages[position]

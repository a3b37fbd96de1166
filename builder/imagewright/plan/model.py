"""What a build will do, as values: stages in execution order, each a base, steps and the finished configuration.

No I/O. Made by ``plan.resolve``, printed by ``plan.render`` and executed by the engine: the plan that is shown is the
plan that runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagewright.dockerfile.model import DockerfileWarning, From
from imagewright.errors import Location
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform
from imagewright.plan.origins import Base, ContextBase, ContextOrigin, Origin, ScratchBase, StageBase, StageOrigin
from imagewright.plan.steps import CopyStep, RunStep, Step


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. ``index`` is its number in the Dockerfile, ``from_`` its first instruction.

    ``config`` is the finished image's configuration, but for rootfs, history and creation time: those still are the
    base image's own (of a base that is a stage: empty, the engine chains them).
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
        """The named contexts that it takes files from."""
        names = {origin.context for _, origin in self.origins if isinstance(origin, ContextOrigin)}
        names |= {self.base.context} if isinstance(self.base, ContextBase) else set()
        return frozenset(names - {""})

    @property
    def label(self) -> str:
        """How progress lines call this stage, as BuildKit does: its name, else ``stage-0``."""
        return self.from_.name or f"stage-{self.index}"

    @property
    def title(self) -> str:
        """FROM as it is written, and the context that took the place of what it names."""
        return self.from_.shown + (f" (the context {self.base.context})" if isinstance(self.base, ContextBase) else "")

    @property
    def needs(self) -> frozenset[int]:
        """Indices of the stages that must be finished before this one."""
        needed = {self.base.stage} if isinstance(self.base, StageBase) else set[int]()
        needed |= {origin.stage for _, origin in self.origins if isinstance(origin, StageOrigin)}
        return frozenset(needed)

    @property
    def origins(self) -> tuple[tuple[Step, Origin], ...]:
        """Every step that reads from somewhere, with where."""
        return tuple((step, o) for step in self.steps if isinstance(step, RunStep | CopyStep) for o in step.origins)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Stages in the order in which they can be executed; those the target does not need are not there, the target is last."""

    stages: tuple[StagePlan, ...]
    warnings: tuple[DockerfileWarning, ...] = ()

    @property
    def target(self) -> StagePlan:
        return self.stages[-1]

    @property
    def ancestry(self) -> frozenset[int]:
        """The target and the stages that it starts from: those whose layers the image has."""
        found = {self.target.index}
        base = self.target.base
        while isinstance(base, StageBase):
            found.add(base.stage)
            base = self.stage(base.stage).base
        return frozenset(found)

    def starts_from_scratch(self, index: int) -> bool:
        """Whether everything in a stage was made by this Dockerfile."""
        base = self.stage(index).base
        return isinstance(base, ScratchBase) or (isinstance(base, StageBase) and self.starts_from_scratch(base.stage))

    def stage_at(self, place: Location) -> int | None:
        """The index of the stage that a line belongs to, None above all."""
        above = [stage.index for stage in self.stages if stage.location.line <= place.line]
        return max(above, default=None)

    def stage(self, index: int) -> StagePlan:
        """The stage with this number in the Dockerfile. Raises KeyError where the plan has none."""
        for stage in self.stages:
            if stage.index == index:
                return stage
        raise KeyError(index)

"""Plans one stage: its instructions, with the values of ARG and ENV at each, become steps and a configuration.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imagewright.dockerfile.model import Add, Copy, DockerfileWarning, Onbuild, Run, User, Workdir
from imagewright.dockerfile.substitutions import Substitutions
from imagewright.errors import DockerfileError, UnsupportedError
from imagewright.oci.config import ImageConfig
from imagewright.plan import paths
from imagewright.plan.copying import plan_copy
from imagewright.plan.imageconfig import ConfigBuilder
from imagewright.plan.metadata import plan_metadata
from imagewright.plan.run import plan_run
from imagewright.plan.scope import BuildScope, PlannedInstruction, StageScope
from imagewright.plan.steps import MetadataStep, Step, WorkdirStep
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """The steps and configuration of a stage, and the rest of its state that a stage based on it inherits."""

    steps: tuple[Step, ...]
    config: ImageConfig
    variables: Mapping[str, str]
    arguments: Mapping[str, str]
    lasting_substitutions: Substitutions
    warnings: tuple[DockerfileWarning, ...]


def plan_stage(
    build: BuildScope, base: ImageConfig, inherited: PlannedStage | None, instructions: Iterable[PlannedInstruction]
) -> PlannedStage:
    """Plan one stage. ``inherited`` is the stage that it is based on, None for an image or scratch.

    Raises:
        DockerfileError: an invalid instruction.
        UnsupportedError: an instruction or flag that this version does not support.
    """
    scope = _first_scope(build, base, inherited)
    steps: list[Step] = []
    for item in instructions:
        scope.substituted.clear()
        try:
            steps += _plan(scope, item)
        except (DockerfileError, UnsupportedError) as error:
            scope.substitutions.restore(error)
            if item.onbuild:  # the excerpt shows FROM, so the message has to quote the trigger
                error.message = f'ONBUILD trigger "{item.instruction.shown[:120]}" of the base image: {error.message}'
                error.args = (error.message,)
            raise
        if isinstance(item.instruction, User | Workdir):
            scope.lasting_substitutions |= scope.substitutions
    return PlannedStage(
        tuple(steps),
        scope.image.finish(),
        scope.variables,
        scope.arguments,
        scope.lasting_substitutions,
        tuple(scope.warnings),
    )


def _first_scope(build: BuildScope, base: ImageConfig, inherited: PlannedStage | None) -> StageScope:
    image = ConfigBuilder(base)
    if image.workdir:
        image.set("WorkingDir", paths.written("", image.workdir))
    if inherited is None:
        return StageScope(build, image, dict(image.env), {})
    variables = {**inherited.variables, **image.env}
    return StageScope(build, image, variables, dict(inherited.arguments), inherited.lasting_substitutions)


def _plan(scope: StageScope, item: PlannedInstruction) -> list[Step]:
    instruction = item.instruction
    match instruction:
        case Run():
            return [plan_run(scope, instruction, item)]
        case Copy() | Add():
            return [plan_copy(scope, instruction, item)]
        case Workdir():
            return [_workdir(scope, instruction, item)]
        case Onbuild():
            scope.image.add_trigger(instruction.trigger)
            return []  # BuildKit gives it no history entry
        case _:
            created_by = plan_metadata(scope, instruction)
            return [MetadataStep(scope.text(item, created_by))]


def _workdir(scope: StageScope, workdir: Workdir, item: PlannedInstruction) -> Step:
    path = scope.expand(workdir, workdir.path)
    if not path:
        raise scope.error(workdir, f'WORKDIR path is empty: "{workdir.path}" expands to nothing', workdir.path)
    written = paths.written(scope.image.workdir, path)
    scope.image.set("WorkingDir", written)
    text = scope.text(item, f"WORKDIR {written}")
    folder = paths.clean(written)
    return MetadataStep(text) if folder == "/" else WorkdirStep(text, folder, scope.image.user)

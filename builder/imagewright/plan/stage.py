"""One stage: its instructions, with the values of ARG and ENV as they are at each, become steps and a configuration.

No I/O. Called by ``plan.resolve``, for needed stages in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagewright.dockerfile.filled import NOTHING, Filled
from imagewright.dockerfile.model import Add, Copy, DockerfileWarning, Onbuild, Run, User, Workdir
from imagewright.errors import DockerfileError, UnsupportedError
from imagewright.oci.config import ImageConfig
from imagewright.plan import paths
from imagewright.plan.copying import plan_copy
from imagewright.plan.frame import Frame, PlannedInstruction, Scope
from imagewright.plan.imagedata import ImageData
from imagewright.plan.metadata import plan_metadata
from imagewright.plan.run import plan_run
from imagewright.plan.steps import MetadataStep, Step, WorkdirStep


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage's steps and configuration, and what a stage that is built on it inherits beside them."""

    steps: tuple[Step, ...]
    config: ImageConfig
    variables: Mapping[str, str]
    arguments: Mapping[str, str]
    lasting: Filled
    warnings: tuple[DockerfileWarning, ...]


def plan_stage(
    scope: Scope, base: ImageConfig, inherited: FinishedStage | None, instructions: Iterable[PlannedInstruction]
) -> FinishedStage:
    """Plan one stage. ``inherited`` is the stage it is built on, None for an image or scratch.

    Raises:
        DockerfileError: an expansion, port, signal or mode that can't be.
        UnsupportedError: what this version does not do.
    """
    frame = _first_frame(scope, base, inherited)
    steps: list[Step] = []
    for item in instructions:
        frame.filled = NOTHING
        try:
            steps += _plan(frame, item)
        except (DockerfileError, UnsupportedError) as error:
            frame.filled.restore(error)
            if item.onbuild:  # the line that is shown is the FROM, so the message must say what it is about
                error.message = f"the base's ONBUILD trigger {item.instruction.shown[:120]!r}: {error.message}"
                error.args = (error.message,)
            raise
        if isinstance(item.instruction, User | Workdir):
            frame.lasting |= frame.filled
    return FinishedStage(
        tuple(steps),
        frame.image.finish(),
        frame.variables,
        frame.arguments,
        frame.lasting,
        tuple(frame.warnings),
    )


def _first_frame(scope: Scope, base: ImageConfig, inherited: FinishedStage | None) -> Frame:
    image = ImageData(base)
    if image.workdir:
        image.set("WorkingDir", paths.written("", image.workdir))
    if inherited is None:
        return Frame(scope, image, dict(image.env), {})
    variables = {**inherited.variables, **image.env}
    return Frame(scope, image, variables, dict(inherited.arguments), inherited.lasting)


def _plan(frame: Frame, item: PlannedInstruction) -> list[Step]:
    instruction = item.instruction
    match instruction:
        case Run():
            return [plan_run(frame, instruction, item)]
        case Copy() | Add():
            return [plan_copy(frame, instruction, item)]
        case Workdir():
            return [_workdir(frame, instruction, item)]
        case Onbuild():
            frame.image.add_trigger(instruction.trigger)
            return []  # BuildKit gives it no history entry
        case _:
            created_by = plan_metadata(frame, instruction)
            return [MetadataStep(frame.text(item, created_by))]


def _workdir(frame: Frame, workdir: Workdir, item: PlannedInstruction) -> Step:
    path = frame.expand(workdir, workdir.path)
    if not path:
        raise frame.error(workdir, f"WORKDIR {workdir.path} is empty", workdir.path)
    written = paths.written(frame.image.workdir, path)
    frame.image.set("WorkingDir", written)
    text = frame.text(item, f"WORKDIR {written}")
    folder = paths.clean(written)
    return MetadataStep(text) if folder == "/" else WorkdirStep(text, folder, frame.image.user)

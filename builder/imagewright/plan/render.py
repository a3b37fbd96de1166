"""A plan as text a person reads: ``imagewright plan`` prints it, and the cases under tests/ compare it.

No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from imagewright.plan.model import (
    Base,
    BuildPlan,
    ContextBase,
    ContextOrigin,
    CopyStep,
    ImageBase,
    ImageOrigin,
    MetadataStep,
    Origin,
    RunStep,
    ScratchBase,
    StageBase,
    StageOrigin,
    StagePlan,
    Step,
    WorkdirStep,
)


def render(plan: BuildPlan) -> str:
    """The plan as lines, stages in execution order: what each starts from, its steps, the configuration it ends with."""
    blocks = ["\n".join(_stage(plan, stage)) + "\n" for stage in plan.stages]
    warnings = [f"warning: {w.location}: {w.message} [{w.rule}]\n" for w in plan.warnings]
    return "\n".join(blocks) + ("\n" + "".join(warnings) if warnings else "")


def _stage(plan: BuildPlan, stage: StagePlan) -> Iterator[str]:
    target = " (target)" if stage is plan.target else ""
    yield f"stage {stage.index} {stage.label}{target} from {_base(plan, stage.base)} for {stage.platform}"
    environment: tuple[tuple[str, str], ...] = ()
    for step in stage.steps:
        yield f"  {step.title}"
        yield from (f"      {line}" for line in _details(plan, step, environment))
        if isinstance(step, RunStep):
            environment = step.env
        yield f"      history: {step.created_by}"
    if stage.config.platform != stage.platform:
        yield f"  config platform: {stage.config.platform}"
    value = stage.config.to_json()
    author = {"author": value["author"]} if value.get("author") else {}
    for key, item in (author | stage.config.config).items():
        yield f"  config {key}: {json.dumps(item, ensure_ascii=False)}"


def _base(plan: BuildPlan, base: Base) -> str:
    match base:
        case ImageBase(reference):
            return str(reference)
        case StageBase(stage):
            return f"stage {stage} {plan.stage(stage).label}"
        case ScratchBase():
            return "scratch"
        case ContextBase(context):
            return f"the context {context}"


def _origin(plan: BuildPlan, origin: Origin) -> str:
    match origin:
        case ContextOrigin(context):
            return f"the context {context}" if context else "the build context"
        case StageOrigin(stage):
            return f"stage {stage} {plan.stage(stage).label}"
        case ImageOrigin(reference):
            return str(reference)


def _details(plan: BuildPlan, step: Step, shown: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """What is executed. Of the environment only what the RUN before it did not have: the rest says nothing new."""
    match step:
        case RunStep():
            yield f"run {json.dumps(list(step.argv), ensure_ascii=False)}"
            if step.script is not None:
                yield f"script {step.script.path} {json.dumps(step.script.content, ensure_ascii=False)}"
            yield f"in {step.workdir} as {step.user or 'root'}"
            for name, value in step.env:
                if (name, value) not in shown:
                    yield f"env {name}={value}"
        case CopyStep():
            yield f"from {_origin(plan, step.origin)}"
            yield f"copy {' '.join(step.sources)} to {step.destination}"
            options = [f"owner {step.chown}" * bool(step.chown), f"mode {step.chmod}" * bool(step.chmod)]
            options.append("unpack archives" * step.extract)
            if any(options):
                yield ", ".join(filter(None, options))
        case WorkdirStep():
            yield f"make {step.path} as {step.user or 'root'}"
        case MetadataStep():
            return

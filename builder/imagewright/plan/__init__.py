"""A Dockerfile and its base images' configurations make a BuildPlan: pure, no I/O.

``make_plan`` is a generator: it yields ``NeedConfig`` and is sent an ``ImageConfig``. Called by the engine; the CLI
prints plans.
"""

from imagewright.plan.model import (
    Base,
    BuildPlan,
    ContextOrigin,
    CopyStep,
    ImageBase,
    ImageOrigin,
    MetadataStep,
    NeedConfig,
    Origin,
    PlanOptions,
    RunStep,
    ScratchBase,
    StageBase,
    StageOrigin,
    StagePlan,
    Step,
    StepText,
    WorkdirStep,
)
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan

__all__ = [
    "Base",
    "BuildPlan",
    "ContextOrigin",
    "CopyStep",
    "ImageBase",
    "ImageOrigin",
    "MetadataStep",
    "NeedConfig",
    "Origin",
    "PlanOptions",
    "RunStep",
    "ScratchBase",
    "StageBase",
    "StageOrigin",
    "StagePlan",
    "Step",
    "StepText",
    "WorkdirStep",
    "make_plan",
    "render",
]

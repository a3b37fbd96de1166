"""A Dockerfile and its base images' configurations make a BuildPlan: pure, no I/O.

``make_plan`` is a generator: it yields ``NeedConfig`` and is sent an ``ImageConfig``. Called by the engine; the CLI
prints plans.
"""

from imagewright.plan.model import (
    BuildPlan,
    ContextOrigin,
    CopyStep,
    ImageBase,
    ImageOrigin,
    MetadataStep,
    NeedConfig,
    PlanOptions,
    RunStep,
    ScratchBase,
    StageBase,
    StageOrigin,
    StagePlan,
    Step,
    WorkdirStep,
)
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan

__all__ = [
    "BuildPlan",
    "ContextOrigin",
    "CopyStep",
    "ImageBase",
    "ImageOrigin",
    "MetadataStep",
    "NeedConfig",
    "PlanOptions",
    "RunStep",
    "ScratchBase",
    "StageBase",
    "StageOrigin",
    "StagePlan",
    "Step",
    "WorkdirStep",
    "make_plan",
    "render",
]

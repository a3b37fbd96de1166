"""A Dockerfile and its base images' configurations make a BuildPlan: pure, no I/O.

``make_plan`` is a generator: it yields ``NeedConfig`` and is sent an ``ImageConfig``. Called by the engine; the CLI
prints plans.
"""

from imagewright.plan.model import (
    BindMount,
    BuildPlan,
    CacheMount,
    CacheSharing,
    ContextOrigin,
    CopyStep,
    ImageBase,
    ImageOrigin,
    MetadataStep,
    Mount,
    NeedConfig,
    Network,
    Origin,
    PlanOptions,
    RunStep,
    ScratchBase,
    Script,
    SecretMount,
    SshMount,
    StageBase,
    StageOrigin,
    StagePlan,
    Step,
    TmpfsMount,
    WorkdirStep,
)
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan

__all__ = [
    "BindMount",
    "BuildPlan",
    "CacheMount",
    "CacheSharing",
    "ContextOrigin",
    "CopyStep",
    "ImageBase",
    "ImageOrigin",
    "MetadataStep",
    "Mount",
    "NeedConfig",
    "Network",
    "Origin",
    "PlanOptions",
    "RunStep",
    "ScratchBase",
    "Script",
    "SecretMount",
    "SshMount",
    "StageBase",
    "StageOrigin",
    "StagePlan",
    "Step",
    "TmpfsMount",
    "WorkdirStep",
    "make_plan",
    "render",
]

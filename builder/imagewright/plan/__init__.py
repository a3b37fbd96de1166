"""A Dockerfile and its base images' configurations make a BuildPlan: pure, no I/O.

``make_plan`` is a generator: it yields ``NeedConfig`` and is sent an ``ImageConfig``. Called by the engine; the CLI
prints plans.
"""

from imagewright.plan.model import BuildPlan, StagePlan
from imagewright.plan.options import FolderContext, ImageContext, NamedContext, NeedConfig, PlanOptions
from imagewright.plan.origins import (
    ContextBase,
    ContextOrigin,
    ImageBase,
    ImageOrigin,
    Origin,
    ScratchBase,
    StageBase,
    StageOrigin,
)
from imagewright.plan.remote import GitRemote, RemoteSource, UrlSource
from imagewright.plan.render import render
from imagewright.plan.resolve import make_plan
from imagewright.plan.steps import (
    BindMount,
    CacheMount,
    CacheSharing,
    CopyStep,
    InlineFile,
    MetadataStep,
    Mount,
    Network,
    RunStep,
    Script,
    SecretMount,
    SshMount,
    Step,
    TmpfsMount,
    WorkdirStep,
)

__all__ = [
    "BindMount",
    "BuildPlan",
    "CacheMount",
    "CacheSharing",
    "ContextBase",
    "ContextOrigin",
    "CopyStep",
    "FolderContext",
    "GitRemote",
    "ImageBase",
    "ImageContext",
    "ImageOrigin",
    "InlineFile",
    "MetadataStep",
    "Mount",
    "NamedContext",
    "NeedConfig",
    "Network",
    "Origin",
    "PlanOptions",
    "RemoteSource",
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
    "UrlSource",
    "WorkdirStep",
    "make_plan",
    "render",
]

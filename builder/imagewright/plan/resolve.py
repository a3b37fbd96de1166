"""Dockerfile x options x base configurations -> BuildPlan.

No I/O: what it needs of a registry it yields as ``NeedConfig``. Called by the engine and the CLI.
"""

from __future__ import annotations

from collections.abc import Generator

from imagewright.dockerfile.model import Dockerfile
from imagewright.errors import UnsupportedError
from imagewright.oci.config import ImageConfig
from imagewright.plan.model import BuildPlan, NeedConfig, PlanOptions


def make_plan(dockerfile: Dockerfile, options: PlanOptions) -> Generator[NeedConfig, ImageConfig, BuildPlan]:
    """Plan a build. Yields ``NeedConfig`` for base images and is sent their configuration; returns the plan.

    Raises:
        DockerfileError: with the place in the Dockerfile.
        UnsupportedError: for what this version does not do, named by instruction and flag.
    """
    raise UnsupportedError("planning is not built yet")
    yield

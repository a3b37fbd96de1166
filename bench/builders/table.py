"""The builders by name, ours first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.builders.buildah import Buildah
from bench.builders.buildkit import BuildKit
from bench.builders.engine import Engine
from bench.builders.kaniko import kaniko
from bench.builders.model import Builder
from bench.figures import OURS

BUILDERS: Mapping[str, Callable[[], Builder]] = {
    OURS: Engine,
    "buildkit": BuildKit,
    "buildkit-rootless": lambda: BuildKit(rootless=True),
    "kaniko": kaniko,
    "buildah": Buildah,
}

"""Plans a build: fetches its contexts, reads the Dockerfile, resolves base images, and lints.

Reads the source and talks to registries through the given parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from imagewright.context.fetch import fetch
from imagewright.context.job import FetchedContext, FetchJob
from imagewright.contract.request import BuildRequest
from imagewright.contract.sources import OciSource, Source
from imagewright.engine.events import Reporter, timed
from imagewright.engine.pull.images import Images
from imagewright.engine.registries import open_registries
from imagewright.engine.source.contexts import fetch_contexts, pull_artifact
from imagewright.engine.source.inputs import (
    EPOCH_OF,
    ignore_file_of,
    plan_options,
    read_ignore,
    read_inputs,
    resolve_epoch,
    unpack_archive,
)
from imagewright.engine.source.remotes import Remotes
from imagewright.engine.steps.origins import OriginFiles
from imagewright.engine.workspace import Workspace
from imagewright.fs.rootfs.root import Rootfs
from imagewright.lint.options import LintOptions
from imagewright.lint.run import lint, lint_options
from imagewright.oci.config import ImageConfig
from imagewright.plan.arguments import EPOCH, source_date_epoch
from imagewright.plan.epoch import epoch_source
from imagewright.plan.model import BuildPlan
from imagewright.plan.options import ConfigRequest
from imagewright.plan.origins import ImageOrigin
from imagewright.plan.resolve import make_plan
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class PlannedBuild:
    """The plan, and what else the build needs of its source. ``epoch_s`` is SOURCE_DATE_EPOCH, None without."""

    plan: BuildPlan
    dockerfile_lines: tuple[str, ...]
    contexts: Mapping[str, OriginFiles]  # by name, "" is the build context
    epoch_s: int | None
    lint: LintOptions


class Planner:
    """Plans one build. ``fetched`` is its context, None until it has been fetched."""

    def __init__(
        self, request: BuildRequest, environment: Mapping[str, str], reporter: Reporter, workspace: Workspace
    ) -> None:
        self.fetched: FetchedContext | None = None
        self._request = request
        self._environment = environment
        self._reporter = reporter
        self._source_dir = workspace.source
        self._inodes = workspace.inodes

    def plan(self, images: Images | None, remotes: Remotes) -> PlannedBuild:
        """Plan the build. Without ``images`` no registry is contacted, as if base images defined nothing.

        Raises:
            ImagewrightError: of the source, the Dockerfile or the registry.
        """
        request = self._request
        options = plan_options(request, self._environment)
        fetched = self.fetched = self._fetch(self._source_dir, request.context.source)
        with timed(self._reporter, "parse"):
            inputs = read_inputs(request, fetched, remotes.dockerfile, self._inodes)
        given = source_date_epoch(inputs.dockerfile, options) or self._environment.get(EPOCH, "")
        given = given or EPOCH_OF[request.image.timestamps]
        epoch_s = resolve_epoch(given, fetched, partial(epoch_source, inputs.dockerfile, options), remotes)
        options = options.with_build_arg(EPOCH, str(epoch_s) if epoch_s is not None else None)
        configs = images.config_for if images is not None else _empty_config
        with timed(self._reporter, "plan"):
            build_plan = make_plan(inputs.dockerfile, options, configs)
            applied = lint_options(inputs.dockerfile, options)
            warnings = lint(inputs.dockerfile, options, applied, build_plan, inputs.ignore)
        build_plan = replace(build_plan, warnings=warnings)
        if images is not None:
            for step, origin in (read for stage in build_plan.stages for read in stage.origins):
                if isinstance(origin, ImageOrigin):
                    images.check(origin, step.location)
        contexts = {"": OriginFiles(inputs.context, inputs.ignore)} | self._named_contexts(build_plan, remotes)
        return PlannedBuild(build_plan, inputs.lines, contexts, epoch_s, applied)

    def _named_contexts(self, build_plan: BuildPlan, remotes: Remotes) -> dict[str, OriginFiles]:
        needed = frozenset[str]().union(*(stage.contexts for stage in build_plan.stages))
        folders = fetch_contexts(self._request.context.named, needed, self._source_dir, self._fetch, remotes.file)
        roots = {name: Rootfs(path, inodes=self._inodes) for name, path in folders.items()}
        return {name: OriginFiles(root, read_ignore(ignore_file_of(root))) for name, root in roots.items()}

    def _fetch(self, work_dir: str, source: Source) -> FetchedContext:
        unpack = partial(unpack_archive, inodes=self._inodes)
        job = FetchJob(work_dir, self._environment, self._reporter.message, unpack=unpack, pull=self._pull)
        with timed(self._reporter, "fetch"):
            return fetch(source, job)

    def _pull(self, source: OciSource, path: str) -> None:
        """Pull a context from a registry. Its logins are read only for such a context."""
        registries = open_registries(self._request, self._environment, source.credentials_dir)
        pull_artifact(registries.puller, source.image, path)


def _empty_config(request: ConfigRequest) -> ImageConfig:
    """The configuration of a base image that defines nothing."""
    return ImageConfig.scratch(request.platform)

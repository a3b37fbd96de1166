"""A BuildRequest becomes a BuildResult: composes source, plan, stages and outputs.

Everything that can fail early does so before the first layer is pulled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult, SourceResult, StepResult
from imagewright.contract.sources import DirectorySource
from imagewright.dockerfile.model import DockerfileWarning
from imagewright.dockerfile.source import excerpt
from imagewright.engine.caching.layercache import Caches, log_cache_use, open_caches, repositories_of
from imagewright.engine.events import Reporter, timed
from imagewright.engine.layers import layer_options
from imagewright.engine.outcome import Outcome, as_failure, explain
from imagewright.engine.output.destinations import Destinations, read_destinations
from imagewright.engine.output.image import BuiltImage, Output, assemble
from imagewright.engine.output.resultfiles import (
    check_writable,
    forget_results,
    references_with_digest,
    write_digests,
    write_result,
)
from imagewright.engine.planning import PlannedBuild, Planner
from imagewright.engine.pull.images import BrokenEntry, Images, ImageSources
from imagewright.engine.pull.indexing import LayerIndexes
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.registries import Registries, open_registries
from imagewright.engine.source.paths import paths_to_keep, paths_to_read, sources_of
from imagewright.engine.source.remotes import Remotes
from imagewright.engine.source.replacedroot import fetch_all, hold
from imagewright.engine.source.secrets import check_provided, read_secrets
from imagewright.engine.source.sshagents import SshAgents
from imagewright.engine.stages.schedule import run_in_parallel
from imagewright.engine.stages.session import Session, StageReaders
from imagewright.engine.stages.stage import StageExecutor
from imagewright.engine.stages.steplog import StepLog
from imagewright.engine.steps.bindsources import BindSources
from imagewright.engine.steps.buildroot import BuildRoot
from imagewright.engine.steps.cachemounts import CacheMounts
from imagewright.engine.steps.copying import CopyExecutor, origins_of
from imagewright.engine.steps.mounts import MountSources
from imagewright.engine.steps.origins import OriginFiles
from imagewright.engine.steps.redaction import Redaction
from imagewright.engine.steps.run import Root, RunExecutor
from imagewright.engine.steps.runnerroot import RunnerRoot
from imagewright.engine.uploads import LayerUploads, open_uploads
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError, Interruption, SandboxError
from imagewright.lint.run import refuse_warnings
from imagewright.plan.model import BuildPlan
from imagewright.plan.steps import RunStep
from imagewright.reference import Reference
from imagewright.sandbox.choose import start as start_sandbox
from imagewright.sandbox.model import BuildDirectory, Sandbox, SandboxOptions
from imagewright.store.blobs import BlobStore

_MAX_PARALLEL_STAGES = max(2, min(os.cpu_count() or 1, 8))  # a stage waits for network and disk as much as it computes


def build(
    request: BuildRequest,
    environment: Mapping[str, str],
    reporter: Reporter,
    refusal: SandboxError | None = None,
    on_sandbox: Callable[[], None] = lambda: None,
) -> Outcome:
    """Build an image. Instead of raising an ImagewrightError or an Interruption, returns it in the outcome.

    ``refusal`` is as in ``SandboxOptions``. ``on_sandbox`` is called when the sandbox has started: from then on there
    may be threads.
    """
    building = _Build(request, environment, reporter, refusal, on_sandbox)
    try:
        error = _execute(building)
        try:
            return _report(building, reporter, error)
        except Interruption as signal:  # others are ignored from now on
            if os.path.exists(building.result_file) and not os.path.isfile(building.result_file):
                building.result_file = ""  # a pipe that nobody reads
            return _report(building, reporter, error or signal.as_error())
    finally:  # after the result is written: removing a large work folder takes time, which an eviction doesn't give
        _clean_up(building, reporter)


def _execute(building: _Build) -> ImagewrightError | None:
    """Execute the build; the error that it ends with. An unexpected one is raised, but not after the push."""
    try:
        building.execute()
    except ImagewrightError as failure:
        return failure
    except Interruption as signal:
        return signal.as_error()
    except Exception as failure:
        error = explain(failure)
        if error is None and not building.pushed:
            raise
        return error or ImagewrightError(f"unexpected {type(failure).__name__}: {failure}")
    return None


def _report(building: _Build, reporter: Reporter, error: ImagewrightError | None) -> Outcome:
    """The outcome, of which the result is written to its file."""
    if error is not None and building.pushed:
        reporter.warning(f"after the image was pushed: {error.message}")
        error = None
    result = building.result(error)
    if building.result_file:
        try:
            write_result(building.result_file, result)
        except ImagewrightError as failure:
            if error is None and not building.pushed:
                return Outcome(building.result(failure), failure)
            reporter.warning(failure.message)
    return Outcome(result, error)


def _clean_up(building: _Build, reporter: Reporter) -> None:
    """Close everything. What fails here is reported; it doesn't make a failure of a build that succeeded."""
    try:
        with timed(reporter, "clean up"):
            building.close()
    except Interruption:
        _clean_up(building, reporter)  # signals are ignored from now on
    except Exception as failure:  # noqa: BLE001
        reporter.warning(f"cannot clean up: {type(failure).__name__}: {failure}")


def plan(request: BuildRequest, environment: Mapping[str, str], reporter: Reporter) -> BuildPlan:
    """What ``build`` would execute.

    Raises:
        ImagewrightError
    """
    building = _Build(request, environment, reporter)
    try:
        return building.make_plan()
    finally:
        building.close()


def find_warnings(
    request: BuildRequest, environment: Mapping[str, str], reporter: Reporter, *, resolve: bool
) -> tuple[DockerfileWarning, ...]:
    """The warnings of a build of this request.

    Without ``resolve`` no registry is contacted. The variables of base images are then unknown, so undefined ones are
    reported only in stages that start from scratch.

    Raises:
        ImagewrightError: the Dockerfile cannot be read or planned.
    """
    building = _Build(request, environment, reporter)
    try:
        build_plan = building.make_plan(ask=resolve)
    finally:
        building.close()
    if resolve:
        return build_plan.warnings
    scratch = [stage.index for stage in build_plan.stages if build_plan.starts_from_scratch(stage.index)]
    return tuple(
        w for w in build_plan.warnings if w.rule != "UndefinedVar" or build_plan.stage_at(w.location) in scratch
    )


class _Build:
    """One build: what it has opened, to be closed in the end, and what its result reports."""

    def __init__(
        self,
        request: BuildRequest,
        environment: Mapping[str, str],
        reporter: Reporter,
        refusal: SandboxError | None = None,
        on_sandbox: Callable[[], None] = lambda: None,
    ) -> None:
        self._refusal = refusal
        self._on_sandbox = on_sandbox
        self._request = request
        self._environment = environment
        self._reporter = reporter
        self._workspace: Workspace | None = None
        self._sandbox: Sandbox | None = None
        self._agents: SshAgents | None = None
        self._root: Root | None = None
        self._caches = Caches()
        self._uploads: LayerUploads | None = None
        self._planner: Planner | None = None
        self._image: BuiltImage | None = None
        self._steps: list[StepResult] = []
        self._references: tuple[Reference, ...] = ()
        self.pushed = False  # from then on, nothing makes the build a failure
        self.result_file = request.output.result_file

    def close(self) -> None:
        """Close everything, the sandbox first; the rest, too, if something raises."""
        with ExitStack() as stack:
            for each in (self._workspace, self._agents, self._caches, self._root, self._uploads, self._sandbox):
                if each is not None:
                    stack.callback(each.close)

    def execute(self) -> None:
        request, reporter = self._request, self._reporter
        forget_results(request.output)
        destinations = read_destinations(request)
        workspace = self._workspace = Workspace(request.work_dir)
        # Before anything starts a thread or reads a credential.
        options = SandboxOptions(
            workspace.path,
            paths_to_keep(request),
            _MAX_PARALLEL_STAGES,
            request.run.runner_socket,
            request.run.require_isolation,
            self._refusal,
        )
        with timed(reporter, "sandbox"):
            sandbox = self._sandbox = start_sandbox(request.run.sandbox, options)
        self._on_sandbox()
        reporter.message(f"sandbox {sandbox.kind.value if sandbox.kind else 'none'}: {sandbox.reason}")
        stopped = threading.Event()
        remotes = self._remotes(workspace, stopped)
        registries = open_registries(self._request, self._environment)
        images = self._images(registries, workspace, BlobStore(workspace.blobs))
        if destinations.push and request.output.check_push:
            self._uploads = open_uploads(registries.pusher, destinations.references, images, reporter)
        planner = self._planner = Planner(request, self._environment, reporter, workspace)
        planned = planner.plan(images, remotes)
        for warning in planned.plan.warnings:
            reporter.lint(warning)
        refuse_warnings(planned.lint, planned.plan.warnings)
        agents = [source.id for source in request.run.ssh]
        for absent in check_provided(planned.plan, planned.dockerfile_lines, remotes.secrets, agents):
            reporter.warning(absent)
        if _replaces_root(sandbox):
            fetch_all(planned.plan, remotes)
        self._root = _open_root(sandbox.build_directory, workspace, reporter, paths_to_read(request))
        if self._root is not None:
            planned = _with_released_contexts(planned, self._root, request)
            # Outputs in a context that was moved aside are moved back with it.
            destinations = destinations.moved(self._root.current_path)
            self.result_file = self._root.current_path(self.result_file)
        caches = self._caches = open_caches(request, registries, reporter)
        cache = caches.layers
        if _replaces_root(sandbox):
            cached = repositories_of(request.cache if cache is not None else None)
            pushed = destinations.references if destinations.push else ()
            hold(registries, [*planned.plan.images, *cached], [*pushed, *cached])
        if cache is None:  # else the layers of all RUNs may be cached
            _check_sandbox(sandbox, planned)
        while True:
            session = self._session(planned, images, remotes)
            try:
                self._execute_stages(session)
                self._write_outputs(session, registries, destinations)
                break
            except BrokenEntry as broken:
                if cache is None or not cache.invalidate(broken.key, broken.message):
                    raise
                reporter.message("starting over without that cache entry")
                stopped.clear()
                self._steps.clear()
        if caches.indexes is not None:
            with timed(reporter, "store"):
                caches.indexes.finish()
        if cache is not None:
            log_cache_use(
                cache.name, self._steps, reporter.message, each=request.cache is not None and request.cache.explain
            )

    def _session(self, planned: PlannedBuild, images: Images, remotes: Remotes) -> Session:
        """What the stages share.

        A build that starts over gets a new session, but keeps what was resolved and fetched.
        """
        request, reporter, workspace, sandbox = self._request, self._reporter, self._workspace, self._sandbox
        assert workspace is not None
        assert sandbox is not None
        caches = CacheMounts(
            request.run.cache_dir or workspace.caches,
            self._reporter.message,
            remotes.stopped,
            exclusive=not sandbox.mounts,
        )
        is_sent = self._uploads.lack if self._uploads is not None else lambda _: False
        indexes = LayerIndexes(images, is_sent, self._caches.indexes)
        origins = origins_of(planned.plan, planned.contexts, images, workspace, indexes)
        mounts = MountSources(origins, BindSources(workspace), caches, remotes.secrets, remotes.agents)
        redaction = Redaction(remotes.secrets.values())
        layers = layer_options(request, planned.epoch_s)
        return Session(
            planned.plan,
            origins,
            StageReaders(planned.plan),
            layers,
            RunExecutor(sandbox, mounts, reporter, redaction, planned.dockerfile_lines, self._root),
            CopyExecutor(origins, remotes, reporter, workspace.path, layers.pack.mtime_limit_ns),
            StepLog(reporter, planned.dockerfile_lines, remotes.stopped, self._steps),
            self._caches.layers,
            self._root,
            self._uploads,
        )

    def _execute_stages(self, session: Session) -> None:
        stages = session.plan.stages
        positions = {stage.index: position for position, stage in enumerate(stages)}
        broken: list[BrokenEntry] = []
        if session.uploads is not None:
            session.uploads.begin(session.plan)

        def execute(index: int) -> None:
            try:
                if not broken:
                    session.finish(StageExecutor(session, session.plan.stage(index), positions[index]).execute())
            except BrokenEntry as error:
                broken.append(error)
                session.steps.stopped.set()  # the others end after their current step; then all start over
            except ImagewrightError:
                if not broken:
                    raise

        def stop() -> None:
            session.steps.stopped.set()
            session.runs.sandbox.close()

        needs = {stage.index: stage.needs for stage in stages}
        run_in_parallel(needs, session.runs.sandbox.parallel, execute, stop, session.origins.images.patience)
        if broken:
            raise broken[0]

    def _write_outputs(self, session: Session, registries: Registries, destinations: Destinations) -> None:
        """Assemble the image, write it and push it."""
        self._image = assemble(
            session.origins.stages[session.plan.target.index], session.layers.created(), destinations
        )
        early = session.uploads.early if session.uploads is not None else None
        output = Output(self._image, session.origins.images, self._reporter, early)
        if session.cache is not None:
            with timed(self._reporter, "store"):
                session.cache.finish(session.plan.target.platform)
            output.also_at = session.cache.stored_at
        with timed(self._reporter, "write"):
            output.write(destinations)
        if destinations.push:
            check_writable(destinations, self.result_file)
            with timed(self._reporter, "push"):
                self._references = output.push(registries.pusher, destinations)
            self.pushed = True
        names = self._references if destinations.push else destinations.references
        write_digests(destinations, names, self._image.manifest.digest)

    def make_plan(self, *, ask: bool = True) -> BuildPlan:
        """Only plan. With ``ask`` False no registry is contacted, as if base images defined nothing."""
        workspace = self._workspace = Workspace(self._request.work_dir)
        images = (
            self._images(open_registries(self._request, self._environment), workspace, BlobStore(workspace.blobs))
            if ask
            else None
        )
        planner = Planner(self._request, self._environment, self._reporter, workspace)
        return planner.plan(images, self._remotes(workspace, threading.Event())).plan

    def _images(self, registries: Registries, workspace: Workspace, blobs: BlobStore) -> Images:
        request = self._request
        sources = ImageSources(registries.puller, Layouts(request.context.named), WarmCache(request.run.cache_dir))
        return Images(sources, workspace, blobs, self._reporter, registries.patience)

    def _remotes(self, workspace: Workspace, stopped: threading.Event) -> Remotes:
        """The fetcher of remote sources; reads the secrets and ssh keys that the build was given."""
        secrets = read_secrets(self._request.run.secrets, self._environment)
        agents = self._agents = SshAgents(workspace.agents, self._request.run.ssh)
        return Remotes(workspace.path, self._environment, secrets, agents, self._reporter.message, stopped)

    def result(self, error: ImagewrightError | None) -> BuildResult:
        image = self._image if error is None else None
        sandbox = self._sandbox
        fetched = self._planner.fetched if self._planner is not None else None
        digest = image.manifest.digest if image else None
        return BuildResult(
            digest=str(digest) if digest else "",
            size=image.manifest.size if image else 0,
            references=references_with_digest(self._references, digest) if digest else (),
            sandbox=sandbox.kind.value if sandbox and sandbox.kind else "",
            sandbox_reason=sandbox.reason if sandbox else "",
            source=SourceResult(commit=fetched.commit, digest=fetched.digest) if fetched else SourceResult(),
            failure=as_failure(error) if error else None,
            steps=tuple(self._steps),
        )


def _replaces_root(sandbox: Sandbox) -> bool:
    """Whether images take the place of the files of the engine's own container."""
    directory = sandbox.build_directory
    return directory is not None and directory.container is None


def _check_sandbox(sandbox: Sandbox, planned: PlannedBuild) -> None:
    """Fail before anything is pulled if there is a RUN and no command can be run.

    Raises:
        SandboxError: with the RUN's location.
    """
    run = next((step for stage in planned.plan.stages for step in stage.steps if isinstance(step, RunStep)), None)
    if run is not None:
        try:
            sandbox.check_available()
        except SandboxError as error:
            error.location, error.instruction = run.location, run.title
            error.excerpt = excerpt(planned.dockerfile_lines, run.location)
            raise


def _open_root(
    directory: BuildDirectory | None, workspace: Workspace, reporter: Reporter, needed: Sequence[str]
) -> Root | None:
    """The directory that the sandbox requires stages to be built in."""
    if directory is None:
        return None
    if directory.container is not None:
        return RunnerRoot(directory, directory.container)
    return BuildRoot(directory, workspace, reporter, needed)


def _with_released_contexts(planned: PlannedBuild, root: Root, request: BuildRequest) -> PlannedBuild:
    """The plan, its contexts moved out of the image's way."""
    folders = [source.path for source in sources_of(request) if isinstance(source, DirectorySource)]
    roots = root.release_contexts({name: context.rootfs for name, context in planned.contexts.items()}, folders)
    contexts = {name: OriginFiles(roots[name], context.ignore) for name, context in planned.contexts.items()}
    return replace(planned, contexts=contexts)

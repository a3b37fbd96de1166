"""Executes one stage of a plan: base, then each step out of the cache or by doing it, and the layer that it made.

Writes into the stage's root file system and the blob store. Called by ``engine.build``, stage after stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from imagewright.contract import timestamp
from imagewright.contract.result import StepResult
from imagewright.dockerfile.source import excerpt
from imagewright.dockerfile.substitutions import VALUES_HINT
from imagewright.engine.caching.stepcache import Lookup, StepCache
from imagewright.engine.events import StepEnded, StepStarted
from imagewright.engine.pull.images import Layer
from imagewright.engine.stages.layering import LayerMaker
from imagewright.engine.steps.copying import Copying, copying
from imagewright.engine.steps.mounts import covered
from imagewright.engine.steps.run import run
from imagewright.engine.steps.session import Session, StageState
from imagewright.errors import ImagewrightError, Interruption, Reason, StepError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs import tree, users
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.mediatypes import ImageFormat, format_of, layer_compression
from imagewright.plan.model import StagePlan
from imagewright.plan.origins import ContextBase, ImageBase, ScratchBase, StageBase, StageOrigin
from imagewright.plan.steps import CopyStep, MetadataStep, RunStep, Step, WorkdirStep

_STOPPED = "stopped, since another stage failed"


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of a step: the size of its layer in bytes, whether it was cached, why it wasn't where that was asked."""

    size: int = 0
    cached: bool = False
    miss: str = ""


class StageExecutor:
    """Executes one stage. ``position`` counts from 0 in execution order.

    With a layer cache nothing is unpacked before a step has to be executed.
    """

    def __init__(self, session: Session, plan: StagePlan, position: int) -> None:
        self._session = session
        self._plan = plan
        self._position = position
        self._shown = [step for step in plan.steps if not isinstance(step, MetadataStep)]
        self._wanted_later = session.is_read(plan.index)
        is_target = plan.index == session.plan.target.index
        self._single = session.layering.single and is_target and bool(self._shown)
        # A stage that is only copied from gives files, no layers: nothing of it is looked for or packed, but for a cache.
        makes_layers = plan.index in session.plan.ancestry or session.cache is not None
        self._layers = LayerMaker(session, makes_layers=makes_layers, single=self._single)
        cache = None if self._single else session.cache
        self._cache = StepCache(session, cache, plan.label) if cache is not None else None

    def execute(self) -> StageState:
        """Run every step; the finished stage's state.

        Raises:
            ImagewrightError: with the step's place in the Dockerfile.
        """
        state = self._start()
        number = 1  # of the step as people see it; the base is the first
        for step in self._plan.steps:
            if self._session.stopped.is_set():
                raise ImagewrightError(_STOPPED, reason=Reason.CANCELLED)
            if isinstance(step, MetadataStep):
                self._layers.record(state, step.created_by, None)
            else:
                number += 1
                self._show(number, step, lambda started, step=step: self._step(state, step, started))  # type: ignore[misc]
        if self._single:
            self._layers.finish_single(state)
        self._park(state)
        return state

    # --- the base

    def _start(self) -> StageState:
        state = self._base()
        if self._session.layering.pack.compression == "zstd":
            state.image_format = ImageFormat.OCI  # Docker's media types have none
        if isinstance(self._plan.base, ContextBase) or (self._needs_files and self._cache is None):
            self._files(state)
        if self._single:
            self._layers.begin_single(self._files(state))
        return state

    def _base(self) -> StageState:
        match self._plan.base:
            case ScratchBase() | ContextBase():
                return StageState(self._plan, ImageFormat.OCI, [], [])
            case StageBase(stage=index):
                base = self._session.states[index]
                return StageState(self._plan, base.image_format, list(base.layers), list(base.history))
            case ImageBase(reference=reference, platform=platform):
                images = self._session.images
                image = images.resolve(reference, platform)
                layers = images.layers(image)
                image_format = format_of(image.manifest.media_type)
                if any(layer_compression(layer.descriptor.media_type) == "zstd" for layer in layers):
                    image_format = ImageFormat.OCI
                return StageState(self._plan, image_format, layers, list(image.config.history))

    @property
    def _needs_files(self) -> bool:
        return bool(self._shown) or self._wanted_later or isinstance(self._plan.base, ContextBase)

    def _files(self, state: StageState) -> Rootfs:
        """The stage's files, with all its layers so far: made when a step first has to be executed."""
        if state.rootfs is None:
            self._make_rootfs(state)
        assert state.rootfs is not None
        if state.applied < len(state.layers):
            self._session.catch_up(state, state.rootfs)
            self._layers.forget()
        return state.rootfs

    def _make_rootfs(self, state: StageState) -> None:
        """The folder that this stage is built in, empty, then filled with its base."""
        root = self._session.build_root
        if root is not None and any(isinstance(step, RunStep) for step in self._shown):
            rootfs = root.rootfs
        else:
            rootfs = Rootfs(self._session.workspace.stage(self._plan.index))
        tree.remove(rootfs)
        state.rootfs = rootfs
        match self._plan.base:
            case ContextBase(context=name):
                self._show(1, None, lambda started: self._from_context(state, rootfs, name))
            case StageBase(stage=index):
                self._take_over(self._session.states[index], state, rootfs)
            case ImageBase():
                self._show(1, None, lambda started: self._unpack(state, rootfs))
            case ScratchBase():
                pass

    def _from_context(self, state: StageState, rootfs: Rootfs, name: str) -> _Done:
        """A named context's files as a base; they are a layer of the image, which has no other place for them."""
        context = self._session.contexts[name]
        changes = copy(rootfs, CopyRequest(context.rootfs, (".",), "/", ignore=context.ignore))
        layer = self._layers.record(state, f"FROM {name} # context", changes) if not changes.empty else None
        return _Done(_size(layer))

    def _unpack(self, state: StageState, rootfs: Rootfs) -> _Done:
        """The base image as a step, with what was cached above it: it makes no layer."""
        self._session.catch_up(state, rootfs)
        return _Done()

    def _take_over(self, base: StageState, state: StageState, rootfs: Rootfs) -> None:
        """Start from another stage's files, where there are any: moved if nobody else wants them, copied otherwise."""
        index = base.plan.index
        read_from = any(origin == StageOrigin(index) for _, origin in self._plan.origins)
        with base.lock:
            if base.rootfs is None:
                return  # it was cached; its layers are among ours
            if read_from or self._session.is_read(index, besides=self._plan.index):
                tree.copy_tree(base.rootfs, rootfs)
            else:
                tree.move_tree(base.rootfs, rootfs)
                base.rootfs = None
            state.applied = base.applied

    def _park(self, state: StageState) -> None:
        """Leave the build root to the next stage, with this stage's files where later ones find them."""
        rootfs = state.rootfs
        if rootfs is None:
            return
        if not self._wanted_later:
            state.rootfs = None
        elif self._session.build_root is not None and rootfs is self._session.build_root.rootfs:
            parked = Rootfs(self._session.workspace.stage(self._plan.index))
            tree.move_tree(rootfs, parked)
            state.rootfs = parked

    # --- steps

    def _show(self, number: int, step: Step | None, action: Callable[[StepStarted], _Done]) -> None:
        """Run ``action`` as a step that people see; None is the stage's FROM."""
        session = self._session
        started = StepStarted(
            self._position + 1,
            len(session.plan.stages),
            self._plan.label,
            number,
            1 + len(self._shown),
            self._plan.title if step is None else step.title,
            self._plan.location if step is None else step.location,
        )
        begin, clock = datetime.now(UTC), time.monotonic()
        exit_code = 0 if isinstance(step, RunStep) else None
        session.reporter.step_started(started)
        failure: ImagewrightError | None = None
        done = _Done()
        try:
            done = action(started)
        except ImagewrightError as error:
            failure = error
            if step is not None and not isinstance(error, StepError):  # what a command says is its own affair
                step.text.substitutions.restore(error, VALUES_HINT)
            if session.stopped.is_set():  # what was under way was ended from outside: that is not its own failure
                error.reason, error.message, error.hint = Reason.CANCELLED, _STOPPED, ""
            if error.location is None:
                error.location = started.location
                error.excerpt = error.excerpt or excerpt(session.lines, started.location)
            error.instruction = error.instruction or started.title
            exit_code = error.exit_code if isinstance(error, StepError) else exit_code
            raise
        except Interruption as signal:
            failure = signal.as_error()
            raise
        finally:
            session.results.append(
                StepResult(
                    name=started.label,
                    start_time=timestamp(begin),
                    completion_time=timestamp(datetime.now(UTC)),
                    cached=done.cached,
                    cache_miss=done.miss,
                    exit_code=None if done.cached else exit_code,
                )
            )
            session.reporter.step_ended(
                StepEnded(started, time.monotonic() - clock, done.size, failure, cached=done.cached)
            )

    def _step(self, state: StageState, step: Step, started: StepStarted) -> _Done:
        match step:
            case RunStep():
                return self._cached(state, step, None, lambda rootfs: self._run(state, step, rootfs, started))
            case CopyStep():
                with copying(self._session, step) as sources:
                    return self._cached(state, step, sources, lambda rootfs: self._copy(sources, rootfs))
            case WorkdirStep():
                return self._cached(state, step, None, lambda rootfs: self._workdir(step, rootfs))
            case MetadataStep():
                raise AssertionError("has no files")

    def _cached(
        self, state: StageState, step: Step, sources: Copying | None, execute: Callable[[Rootfs], Changes]
    ) -> _Done:
        """A step's layer out of the cache, else by executing it."""
        lookup = self._cache.look(state, step, sources) if self._cache is not None else Lookup()
        if lookup.found:
            self._layers.add(state, step.created_by, lookup.layer)
            return _Done(_size(lookup.layer), cached=True)
        changes = execute(self._files(state))
        layer = self._layers.record(state, step.created_by, changes, lookup.made_of(step))
        if self._cache is not None:
            self._cache.keep(state, step, lookup, layer)
        return _Done(_size(layer), miss=lookup.why)

    def _copy(self, sources: Copying, rootfs: Rootfs) -> Changes:
        self._layers.forget()
        return self._told(rootfs, sources.copy_into(rootfs))

    def _workdir(self, step: WorkdirStep, rootfs: Rootfs) -> Changes:
        # As with --chown, a number is the group too: BuildKit makes the folder as it does a copy's.
        owner = users.lookup_workdir_ownership(rootfs, step.user) if step.user else None
        return self._told(rootfs, self._make_directory(rootfs, step.path, owner))

    def _told(self, rootfs: Rootfs, changes: Changes) -> Changes:
        """The same changes, once people know which of them no RUN sees."""
        root = self._session.build_root
        if root is not None and rootfs is root.rootfs:
            root.tell_of_hidden(changes)
        return changes

    def _run(self, state: StageState, step: RunStep, rootfs: Rootfs, started: StepStarted) -> Changes:
        self._layers.before_run(rootfs)
        user = users.lookup_user(rootfs, step.user or "0")
        self._make_directory(rootfs, step.workdir, Ownership(user.uid, user.gid))
        mounted_over = covered(rootfs, step)
        root = self._session.build_root
        if root is not None:
            root.before_run(step)
        run(self._session, step, rootfs, user, started)
        moved = root.after_run() if root is not None else ()
        return self._layers.after_run(state, rootfs, mounted_over).along_with(moved)

    def _make_directory(self, rootfs: Rootfs, path: str, owner: Ownership | None) -> Changes:
        changes = Changes(tree.make_workdir(rootfs, path, owner), ())
        if not changes.empty:
            self._layers.forget()
        return changes


def _size(layer: Layer | None) -> int:
    return layer.descriptor.size if layer is not None else 0

"""Executes one stage of a plan: base, then each step, and after each the layer that it made.

Writes into the stage's root file system and the blob store. Called by ``engine.build``, stage after stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from imagewright.contract import StepResult, timestamp
from imagewright.dockerfile.source import excerpt
from imagewright.engine.copying import copy_step
from imagewright.engine.events import StepEnded, StepStarted
from imagewright.engine.images import Layer
from imagewright.engine.mounts import covered
from imagewright.engine.run import run
from imagewright.engine.session import Session, StageState
from imagewright.errors import ImagewrightError, Reason, StepError
from imagewright.fs import tree, users
from imagewright.fs.changes import Changes
from imagewright.fs.copy import CopyRequest, copy
from imagewright.fs.diff import diff
from imagewright.fs.pack import PackOptions, pack_layer
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.settle import settle
from imagewright.fs.snapshot import Snapshot, scan
from imagewright.oci.config import HistoryEntry
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.mediatypes import OCI_MANIFEST, ImageFormat, format_of, layer_compression
from imagewright.plan import (
    ContextBase,
    CopyStep,
    ImageBase,
    MetadataStep,
    RunStep,
    ScratchBase,
    StageBase,
    StageOrigin,
    StagePlan,
    Step,
    WorkdirStep,
)
from imagewright.registry.client import RemoteImage

_STOPPED = "stopped, since another stage failed"
_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it


class StageExecutor:
    """Executes one stage. ``position`` counts from 0 in execution order."""

    def __init__(self, session: Session, plan: StagePlan, position: int) -> None:
        self._session = session
        self._plan = plan
        self._position = position
        self._snapshot: Snapshot | None = None  # of the root file system as it is now, None when it may have moved on
        self._shown = [step for step in plan.steps if not isinstance(step, MetadataStep)]
        self._wanted_later = session.is_read(plan.index)
        # A stage that is only copied from gives files, no layers: nothing of it is looked for or packed.
        self._makes_layers = plan.index in session.plan.ancestry

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
                self._record(state, step.created_by, None)
            else:
                number += 1
                self._show(number, step, lambda started, step=step: self._step(state, step, started))  # type: ignore[misc]
        self._park(state)
        return state

    # --- the base

    def _start(self) -> StageState:
        match self._plan.base:
            case ScratchBase():
                state = StageState(self._plan, ImageFormat.OCI, [], [])
                self._make_rootfs(state, lambda rootfs: None)
            case ContextBase(context=name):
                state = StageState(self._plan, ImageFormat.OCI, [], [])
                self._show(1, f"FROM {name}", lambda started: self._from_context(state, name))
            case StageBase(stage=index):
                base = self._session.states[index]
                state = StageState(self._plan, base.image_format, list(base.layers), list(base.history))
                self._make_rootfs(state, lambda rootfs: self._take_over(base, rootfs))
            case ImageBase(reference=reference, platform=platform):
                images = self._session.images
                image = images.resolve(reference, platform)
                layers = images.layers(image)
                image_format = format_of(image.manifest.media_type)
                if any(layer_compression(layer.descriptor.media_type) == "zstd" for layer in layers):
                    image_format = format_of(OCI_MANIFEST)  # Docker's media types have no zstd
                state = StageState(self._plan, image_format, layers, list(image.config.history))
                if self._needs_files:
                    self._show(1, f"FROM {reference.familiar()}", lambda started: self._unpack(state, image))
        return state

    def _from_context(self, state: StageState, name: str) -> int:
        """A named context's files as a base; they are a layer of the image, which has no other place for them."""
        self._make_rootfs(state, lambda rootfs: None)
        assert state.rootfs is not None, "its files are always wanted"
        context = self._session.contexts[name]
        changes = copy(state.rootfs, CopyRequest(context.rootfs, (".",), "/", ignore=context.ignore))
        return self._record(state, f"FROM {name} # context", changes) if not changes.empty else 0

    def _unpack(self, state: StageState, image: RemoteImage) -> int:
        """The base image as a step: it makes no layer."""
        self._make_rootfs(state, lambda rootfs: self._session.images.unpack(image, rootfs))
        return 0

    @property
    def _needs_files(self) -> bool:
        return bool(self._shown) or self._wanted_later or isinstance(self._plan.base, ContextBase)

    def _make_rootfs(self, state: StageState, fill: Callable[[Rootfs], None]) -> None:
        """The folder that this stage is built in, empty, then filled."""
        if not self._needs_files:
            return
        sandbox = self._session.sandbox
        if sandbox.build_root is not None and any(isinstance(step, RunStep) for step in self._shown):
            rootfs = Rootfs(sandbox.build_root, sandbox.excluded)
            tree.remove(rootfs)
        else:
            rootfs = Rootfs(self._session.workspace.stage(self._plan.index))
        fill(rootfs)
        state.rootfs = rootfs

    def _take_over(self, base: StageState, rootfs: Rootfs) -> None:
        """Start from another stage's files: moved where nobody else wants them, copied otherwise."""
        assert base.rootfs is not None, "a stage that others start from keeps its files"
        index = base.plan.index
        read_from = any(origin == StageOrigin(index) for _, origin in self._plan.origins)
        if read_from or self._session.is_read(index, besides=self._plan.index):
            tree.copy_tree(base.rootfs, rootfs)
        else:
            tree.move_tree(base.rootfs, rootfs)
            base.rootfs = None

    def _park(self, state: StageState) -> None:
        """Leave the build root to the next stage, with this stage's files where later ones find them."""
        rootfs = state.rootfs
        if rootfs is None:
            return
        if not self._wanted_later:
            state.rootfs = None
        elif rootfs.path == self._session.sandbox.build_root:
            parked = Rootfs(self._session.workspace.stage(self._plan.index))
            tree.move_tree(rootfs, parked)
            state.rootfs = parked

    # --- steps

    def _show(self, number: int, step: Step | str, action: Callable[[StepStarted], int]) -> None:
        """Run ``action`` as a step that people see; it returns the size of the layer that it made, in bytes."""
        session = self._session
        started = StepStarted(
            self._position + 1,
            len(session.plan.stages),
            self._plan.label,
            number,
            1 + len(self._shown),
            step if isinstance(step, str) else step.title,
            self._plan.location if isinstance(step, str) else step.location,
        )
        begin, clock = datetime.now(UTC), time.monotonic()
        exit_code = 0 if isinstance(step, RunStep) else None
        session.reporter.step_started(started)
        failure: ImagewrightError | None = None
        size = 0
        try:
            size = action(started)
        except ImagewrightError as error:
            failure = error
            if session.stopped.is_set():  # what was under way was ended from outside: that is not its own failure
                error.reason, error.message = Reason.CANCELLED, _STOPPED
            if error.location is None:
                error.location = started.location
                error.excerpt = error.excerpt or excerpt(session.lines, started.location)
            error.instruction = error.instruction or started.title
            exit_code = error.exit_code if isinstance(error, StepError) else exit_code
            raise
        finally:
            session.results.append(
                StepResult(
                    name=started.label,
                    start_time=timestamp(begin),
                    completion_time=timestamp(datetime.now(UTC)),
                    exit_code=exit_code,
                )
            )
            session.reporter.step_ended(StepEnded(started, time.monotonic() - clock, size, failure))

    def _step(self, state: StageState, step: Step, started: StepStarted) -> int:
        assert state.rootfs is not None, "a stage with steps has files"
        match step:
            case RunStep():
                changes = self._settle(state, self._run(step, state.rootfs, started))
            case CopyStep():
                self._snapshot = None
                changes = copy_step(self._session, step, state.rootfs)
            case WorkdirStep():
                # As with --chown, a number is the group too: BuildKit makes the folder as it does a copy's.
                owner = users.lookup_ownership(state.rootfs, step.user) if step.user else None
                changes = self._make_directory(state.rootfs, step.path, owner)
            case MetadataStep():
                raise AssertionError("has no files")
        return self._record(state, step.created_by, changes)

    def _run(self, step: RunStep, rootfs: Rootfs, started: StepStarted) -> Changes:
        before = self._before(rootfs)
        user = users.lookup_user(rootfs, step.user or "0")
        self._make_directory(rootfs, step.workdir, users.Ownership(user.uid, user.gid))
        mounted_over = covered(rootfs, step)
        run(self._session, step, rootfs, user, started)
        if before is None:
            return Changes((), ())
        self._snapshot = scan(rootfs)
        return diff(before, self._snapshot).without(mounted_over)

    def _settle(self, state: StageState, changes: Changes) -> Changes:
        """Without the files that a RUN only touched."""
        assert state.rootfs is not None
        return settle(state.rootfs, changes, self._session.images.stored(state.layers))

    def _before(self, rootfs: Rootfs) -> Snapshot | None:
        """What the changes of a RUN are found against; None where nobody asks for them."""
        if not self._makes_layers:
            return None
        before, self._snapshot = self._snapshot or scan(rootfs), None
        _wait_for_tick()
        return before

    def _make_directory(self, rootfs: Rootfs, path: str, owner: users.Ownership | None) -> Changes:
        changes = tree.make_directory(rootfs, path, owner)
        if not changes.empty:
            self._snapshot = None
        return changes

    def _record(self, state: StageState, created_by: str, changes: Changes | None) -> int:
        """Add the history entry, and the layer where files changed; the layer's size in bytes."""
        session = self._session
        if not self._makes_layers:
            return 0
        size = 0
        if changes is not None and not changes.empty:
            assert state.rootfs is not None
            with session.blobs.writer() as out:
                packed = pack_layer(state.rootfs, changes, out, PackOptions("gzip", clamp_mtime_s=session.epoch))
                out.commit(packed.digest)
            descriptor = Descriptor(state.image_format.layer("gzip"), packed.digest, packed.size)
            state.layers.append(Layer(descriptor, packed.diff_id))
            size = packed.size
        entry = HistoryEntry(created_by, session.created(), comment="imagewright.dockerfile.v0", empty_layer=not size)
        state.history.append(entry.to_json())
        return size


def _wait_for_tick() -> None:
    """Before Linux 6.13 a ctime is as coarse as the timer tick: a change in the tick of the scan would not be seen."""
    begin = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == begin:
        time.sleep(0.001)

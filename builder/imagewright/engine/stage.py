"""Executes one stage of a plan: base, then each step, and after each the layer that it made.

Writes into the stage's root file system and the blob store. Called by ``engine.build``, stage after stage.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from imagewright.contract import StepResult, timestamp
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.dockerfile.source import excerpt as source_excerpt
from imagewright.engine.events import Reporter, StepEnded, StepStarted
from imagewright.engine.images import Images, Layer
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError, StepError
from imagewright.fs import copy, tree, users
from imagewright.fs.changes import Changes
from imagewright.fs.diff import diff
from imagewright.fs.mode import ModeChange
from imagewright.fs.pack import PackOptions, pack_layer
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.snapshot import Snapshot, scan
from imagewright.oci.config import HistoryEntry
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.mediatypes import OCI_MANIFEST, ImageFormat, format_of, layer_compression
from imagewright.plan import (
    BuildPlan,
    ContextOrigin,
    CopyStep,
    ImageBase,
    ImageOrigin,
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
from imagewright.sandbox import RunCommand, Sandbox
from imagewright.store.blobs import BlobStore

_OUTPUT_LINES_KEPT = 20
_LAST_WORDS = 200
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it


@dataclass(slots=True)
class StageState:
    """A stage that is finished or on its way. ``rootfs`` is None where nothing needed its files."""

    plan: StagePlan
    image_format: ImageFormat
    layers: list[Layer]
    history: list[dict[str, Any]]
    rootfs: Rootfs | None = None


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The files that COPY and ADD see, and which of them .dockerignore hides."""

    rootfs: Rootfs
    ignore: IgnorePatterns


@dataclass(slots=True)
class Session:
    """What all stages of a build share. ``epoch`` is SOURCE_DATE_EPOCH in seconds, None without."""

    plan: BuildPlan
    reporter: Reporter
    sandbox: Sandbox
    images: Images
    blobs: BlobStore
    workspace: Workspace
    context: BuildContext
    lines: Sequence[str]  # of the Dockerfile, for the excerpt of a failing step
    epoch: int | None = None
    states: dict[int, StageState] = field(default_factory=dict)
    results: list[StepResult] = field(default_factory=list)

    def created(self) -> str:
        """The time that configuration and history carry."""
        moment = datetime.fromtimestamp(self.epoch, UTC) if self.epoch is not None else datetime.now(UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if self.epoch is not None else timestamp(moment)


class StageExecutor:
    """Executes one stage. ``position`` counts from 0 in execution order."""

    def __init__(self, session: Session, plan: StagePlan, position: int) -> None:
        self._session = session
        self._plan = plan
        self._position = position
        self._snapshot: Snapshot | None = None  # of the root file system as it is now, None when it may have moved on
        self._shown = [step for step in plan.steps if not isinstance(step, MetadataStep)]
        self._wanted_later = self._is_needed_later(plan.index)
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
            if isinstance(step, MetadataStep):
                self._record(state, step, None)
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

    def _unpack(self, state: StageState, image: RemoteImage) -> int:
        """The base image as a step: it makes no layer."""
        self._make_rootfs(state, lambda rootfs: self._session.images.unpack(image, rootfs))
        return 0

    def _is_needed_later(self, index: int) -> bool:
        """Whether a stage after this one starts from the stage ``index`` or copies from it."""
        return any(index in stage.needs for stage in self._session.plan.stages[self._position + 1 :])

    @property
    def _needs_files(self) -> bool:
        return bool(self._shown) or self._wanted_later

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
        copied_from = any(isinstance(step, CopyStep) and step.origin == StageOrigin(index) for step in self._plan.steps)
        if copied_from or self._is_needed_later(index):
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
            error.location = error.location or started.location
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
                changes = self._run(step, state.rootfs, started)
            case CopyStep():
                changes = self._copy(step, state.rootfs)
            case WorkdirStep():
                changes = self._make_directory(state.rootfs, step.path, step.user)
            case MetadataStep():
                raise AssertionError("has no files")
        return self._record(state, step, changes)

    def _run(self, step: RunStep, rootfs: Rootfs, started: StepStarted) -> Changes:
        session = self._session
        before = self._before(rootfs)
        user = users.lookup_user(rootfs, step.user or "0")
        self._make_directory(rootfs, step.workdir, "")
        env = dict(step.env)
        env.setdefault("HOME", user.home)
        tail = _Tail()

        def output(data: bytes) -> None:
            tail.add(data)
            session.reporter.output(started, data)

        command = RunCommand(rootfs.path, step.argv, tuple(env.items()), step.workdir, user.uid, user.gid, user.groups)
        code = session.sandbox.run(command, output)
        if code != 0:
            raise StepError(
                f"{step.title!r} {_how_it_ended(code)}{tail.last_words()}",
                exit_code=code,
                location=step.location,
                excerpt=_excerpt(session.lines, step, tail.lines()),
                hint=_HINTS.get(code, ""),
            )
        if before is None:
            return Changes((), ())
        self._snapshot = scan(rootfs)
        return diff(before, self._snapshot)

    def _before(self, rootfs: Rootfs) -> Snapshot | None:
        """What the changes of a RUN are found against; None where nobody asks for them."""
        if not self._makes_layers:
            return None
        before, self._snapshot = self._snapshot or scan(rootfs), None
        _wait_for_tick()
        return before

    def _copy(self, step: CopyStep, rootfs: Rootfs) -> Changes:
        session = self._session
        ignore = None
        match step.origin:
            case ContextOrigin():
                source, ignore = session.context.rootfs, session.context.ignore
            case StageOrigin(stage=index):
                found = session.states[index].rootfs
                assert found is not None, "a stage that is copied from keeps its files"
                source = found
            case ImageOrigin(reference=reference, platform=platform):
                source = session.images.rootfs_of(reference, platform)
        self._snapshot = None
        request = copy.CopyRequest(
            source=source,
            patterns=step.sources,
            destination=step.destination,
            ownership=users.lookup_ownership(rootfs, step.chown) if step.chown else None,
            mode=ModeChange.parse(step.chmod) if step.chmod else None,
            extract=step.extract,
            ignore=ignore,
            preserve_owner=not isinstance(step.origin, ContextOrigin),
        )
        return copy.copy(rootfs, request)

    def _make_directory(self, rootfs: Rootfs, path: str, user: str) -> Changes:
        owner = users.lookup_user(rootfs, user) if user else None
        changes = tree.make_directory(rootfs, path, users.Ownership(owner.uid, owner.gid) if owner else None)
        if not changes.empty:
            self._snapshot = None
        return changes

    def _record(self, state: StageState, step: Step, changes: Changes | None) -> int:
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
        entry = HistoryEntry(
            step.created_by, session.created(), comment="imagewright.dockerfile.v0", empty_layer=not size
        )
        state.history.append(entry.to_json())
        return size


class _Tail:
    """The last lines of a command's output, for the error."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_OUTPUT_LINES_KEPT)
        self._open = b""

    def add(self, data: bytes) -> None:
        *whole, self._open = (self._open + data).split(b"\n")
        self._lines.extend(line[-500:] for line in whole)
        self._open = self._open[-500:]

    def last_words(self) -> str:
        """The last line that says something, for places that show one line only."""
        said = [_printable(line) for line in self.lines()]
        last = next((line for line in reversed(said) if line), "")
        return f": {last[:_LAST_WORDS]}" if last else ""

    def lines(self) -> list[str]:
        kept = [*self._lines, *([self._open] if self._open else [])]
        return [line.decode("utf-8", "replace").rstrip("\r") for line in kept]


def _printable(line: str) -> str:
    """Without terminal escapes and control characters: it becomes part of a condition's message."""
    return "".join(c for c in _ESCAPES.sub("", line) if c.isprintable()).strip()


_HINTS = {
    126: "The command was found but can't be executed: look at its mode and its interpreter (the #! line).",
    127: "The command was not found: install it in an earlier step, or look at PATH.",
    137: "It was killed (SIGKILL): most often for want of memory; raise the container's memory limit.",
}


def _how_it_ended(code: int) -> str:
    return f"ended with exit code {code}" + (f" (signal {code - 128})" if 128 < code < 193 else "")


def _excerpt(lines: Sequence[str], step: RunStep, output: Sequence[str]) -> list[str]:
    """The Dockerfile's lines with two around them, then the last lines of output."""
    shown = list(source_excerpt(lines, step.location, around=2))
    if output:
        shown += ["", "the last lines of its output:", *(f"    {line}" for line in output), ""]
    return shown


def _wait_for_tick() -> None:
    """Before Linux 6.13 a ctime is as coarse as the timer tick: a change in the tick of the scan would not be seen."""
    begin = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == begin:
        time.sleep(0.001)

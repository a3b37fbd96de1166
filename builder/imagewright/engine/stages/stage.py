"""Executes one stage of a plan: its base, then each step from the cache or by executing it, and the layer that it made.

Writes into the stage's root file system and the blob store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imagewright.dockerfile.source import excerpt
from imagewright.engine.caching.stepcache import Lookup, StepCache
from imagewright.engine.events import StepStarted, timed
from imagewright.engine.layers import Layer
from imagewright.engine.pull.indexing import VirtualFiles
from imagewright.engine.stages.layering import LayerWriter, Written
from imagewright.engine.stages.session import Session
from imagewright.engine.stages.steplog import StepOutcome, cancelled
from imagewright.engine.steps.copying import Copying
from imagewright.engine.steps.mounts import mount_points
from imagewright.engine.steps.origins import StageState
from imagewright.errors import ImagewrightError
from imagewright.fs.copy.copier import CopyRequest, copy
from imagewright.fs.copy.workdir import make_workdir
from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs import tree, users
from imagewright.fs.rootfs.attributes import Ownership
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.choice import Root
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.virtual import VirtualRoot
from imagewright.oci.mediatypes import ImageFormat, format_of, layer_compression
from imagewright.plan.model import StagePlan
from imagewright.plan.origins import ContextBase, ImageBase, ImageOrigin, ScratchBase, StageBase, StageOrigin
from imagewright.plan.steps import CopyStep, MetadataStep, RunStep, Step, WorkdirStep


class StageExecutor:
    """Executes one stage. ``position`` counts from 0 in execution order.

    With a layer cache nothing is unpacked until a step has to be executed.
    """

    def __init__(self, session: Session, plan: StagePlan, position: int) -> None:
        self._session = session
        self._plan = plan
        self._position = position
        self._visible_steps = [step for step in plan.steps if not isinstance(step, MetadataStep)]
        self._read_later = session.readers.has_any(plan.index)
        is_target = plan.index == session.plan.target.index
        self._single = session.layers.single and is_target and bool(self._visible_steps)
        self._rest: Sequence[Step] = plan.steps  # those that are still to be executed
        self._base_shown = False
        # Of a stage that is only copied from, layers are needed for a cache only.
        makes_layers = plan.index in session.plan.ancestry or session.cache is not None
        self._needs_disk = _needs_disk(plan, single=self._single, read=self._read_later or not makes_layers)
        self._reporter = session.steps.reporter
        self._uploads = session.uploads if plan.index in session.plan.ancestry else None
        cache = None if self._single else session.cache
        # The layers of other stages are not below a step that only writes, and without a cache of layers they are gone.
        is_found_again = cache is not None and plan.index in session.plan.ancestry
        self._layers = LayerWriter(
            session.origins.images,
            session.layers,
            session.origins.indexes.keep if is_found_again else None,
            makes_layers=makes_layers,
            single=self._single,
        )
        self._cache = StepCache(cache, session.origins, session.layers, plan.label) if cache is not None else None

    def execute(self) -> StageState:
        """Execute every step; the finished stage's state.

        Raises:
            ImagewrightError: with the step's location in the Dockerfile.
        """
        state = self._start()
        number = 1  # of the step as users see it; the base is the first
        for position, step in enumerate(self._plan.steps):
            self._rest = self._plan.steps[position:]
            if self._session.steps.stopped.is_set():
                raise cancelled()
            if isinstance(step, MetadataStep):
                self._layers.record(state, step.created_by, None)
            else:
                number += 1
                self._show(number, step, lambda started, step=step: self._step(state, step, started))  # type: ignore[misc]
        if self._single:
            self._layers.finish_single(state)
        self._release_build_root(state)
        state.virtual = None  # its entries are no longer needed
        return state

    # --- the base

    def _start(self) -> StageState:
        state = self._base()
        if self._session.layers.pack.compression == "zstd":
            state.image_format = ImageFormat.OCI  # Docker's format has no media type for it
        if isinstance(self._plan.base, ContextBase) or (self._needs_files and self._cache is None):
            self._prepare(state)
        if isinstance(self._plan.base, ImageBase) and self._needs_files and not self._base_shown:
            # Reported first, as it is numbered, though its files come with the first step that needs them, if one does.
            self._show_base(lambda started: StepOutcome())
        if self._single:
            self._layers.begin_single(self._files(state))
        self._upload(state.layers)
        return state

    def _base(self) -> StageState:
        match self._plan.base:
            case ScratchBase() | ContextBase():
                return StageState(self._plan, ImageFormat.OCI, [], [])
            case StageBase(stage=index):
                base = self._session.origins.stages[index]
                return StageState(self._plan, base.image_format, list(base.layers), list(base.history))
            case ImageBase(reference=reference, platform=platform):
                images = self._session.origins.images
                image = images.resolve(reference, platform)
                layers = images.layers(image)
                image_format = format_of(image.manifest.media_type)
                if any(layer_compression(layer.descriptor.media_type) == "zstd" for layer in layers):
                    image_format = ImageFormat.OCI
                return StageState(self._plan, image_format, layers, list(image.config.history))

    @property
    def _needs_files(self) -> bool:
        return bool(self._visible_steps) or self._read_later or isinstance(self._plan.base, ContextBase)

    def _prepare(self, state: StageState) -> None:
        """Have the base's files as the first step will need them."""
        if not self._is_virtual(state):
            self._files(state)
        elif not (isinstance(first := self._visible_steps[0], CopyStep) and first.options.link):
            try:
                self._virtual_files(state)
            except NotVirtualError as error:
                self._give_up_virtual(state, error)
                self._files(state)

    def _is_virtual(self, state: StageState) -> bool:
        """Whether the steps from here on only write, so that the files below them are not needed on disk."""
        return not self._why_on_disk(state)

    def _why_on_disk(self, state: StageState) -> str:
        """Why the files below the steps from here on are needed on disk, "" if they are not. For the log.

        They are needed by a RUN, by later stages that read this one, for the single layer of --single-snapshot, and
        after a step that a virtual root cannot do. Files that are on disk already are used.
        """
        if self._needs_disk:
            return self._needs_disk
        if any(isinstance(step, RunStep) for step in self._rest):
            return "a RUN needs the files"
        base = self._plan.base
        of_base = self._session.origins.stages[base.stage].rootfs if isinstance(base, StageBase) else None
        if isinstance(base, ContextBase) or state.rootfs is not None or of_base is not None:
            return "the files below are unpacked already"
        return ""

    def _virtual_files(self, state: StageState) -> VirtualRoot:
        """The stage's virtual root with all its layers so far."""
        files = state.virtual
        if files is None:
            files = state.virtual = VirtualFiles(self._session.origins.indexes)
            self._show_base(lambda started: self._index(files, state))
        else:
            files.update(state.layers)
        return files.root

    def _index(self, files: VirtualFiles, state: StageState) -> StepOutcome:
        self._reporter.debug(f"{self._plan.label}: not unpacked, since its steps only write files")
        files.update(state.layers)
        return StepOutcome()

    def _show_base(self, action: Callable[[StepStarted], StepOutcome]) -> None:
        """Do something with the layers of a base image, as the step that users see as FROM, once."""
        if isinstance(self._plan.base, ImageBase) and not self._base_shown:
            self._base_shown = True
            self._show(1, None, action)
            return
        try:
            action(self._started(1, None))
        except ImagewrightError as error:
            if error.location is None:
                error.location, error.instruction = self._plan.location, self._plan.title
                error.excerpt = excerpt(self._session.steps.dockerfile_lines, self._plan.location)
            raise

    def _files(self, state: StageState) -> Rootfs:
        """The stage's files with all its layers so far, created when a step first has to be executed."""
        if state.rootfs is None:
            self._make_rootfs(state)
        assert state.rootfs is not None
        if state.applied < len(state.layers):
            self._session.origins.unpack_missing(state, state.rootfs, self._why_on_disk(state))
            self._layers.forget()
            self._upload(state.layers)
        return state.rootfs

    def _make_rootfs(self, state: StageState) -> None:
        """Create the folder that this stage is built in, with the files of its base."""
        root = self._session.build_root
        if root is not None and any(isinstance(step, RunStep) for step in self._visible_steps):
            rootfs = root.rootfs
        else:
            rootfs = self._session.origins.workspace.stage(self._plan.index)
        tree.remove(rootfs)
        state.rootfs = rootfs
        match self._plan.base:
            case ContextBase(context=name):
                self._show(1, None, lambda started: self._from_context(state, rootfs, name))
            case StageBase(stage=index):
                with timed(self._reporter, "move"):
                    self._start_from_stage(self._session.origins.stages[index], state, rootfs)
            case ImageBase():
                self._show_base(lambda started: self._unpack(state, rootfs))
            case ScratchBase():
                pass

    def _from_context(self, state: StageState, rootfs: Rootfs, name: str) -> StepOutcome:
        """Copy the files of a named context, which is the base, into the first layer of the image."""
        context = self._session.origins.contexts[name]
        changes = copy(rootfs, CopyRequest(context.rootfs, (".",), "/", ignore=context.ignore))
        written = Written(rootfs, changes)
        layer = self._layers.record(state, f"FROM {name} # context", written) if not changes.empty else None
        return StepOutcome(_size(layer))

    def _unpack(self, state: StageState, rootfs: Rootfs) -> StepOutcome:
        """Unpack the base image, with cached layers above it, as a step that makes no layer."""
        self._session.origins.unpack_missing(state, rootfs, self._why_on_disk(state))
        return StepOutcome()

    def _start_from_stage(self, base: StageState, state: StageState, rootfs: Rootfs) -> None:
        """Start from another stage's files: moved if no other stage needs them, copied otherwise."""
        index = base.plan.index
        read_from = any(origin == StageOrigin(index) for _, origin in self._plan.origins)
        with base.lock:
            if base.rootfs is None:
                return  # the stage was cached: its layers will be unpacked
            if read_from or self._session.readers.has_any(index, besides=self._plan.index):
                tree.copy_tree(base.rootfs, rootfs)
            else:
                tree.move_tree(base.rootfs, rootfs)
                base.rootfs = None
            state.applied = base.applied

    def _release_build_root(self, state: StageState) -> None:
        """Move the stage's files out of the build root, which the next stage needs, if later stages read them."""
        rootfs = state.rootfs
        if rootfs is None:
            return
        if not self._read_later:
            state.rootfs = None
        elif self._session.build_root is not None and rootfs is self._session.build_root.rootfs:
            moved = self._session.origins.workspace.stage(self._plan.index)
            with timed(self._reporter, "move"):
                tree.move_tree(rootfs, moved)
            state.rootfs = moved

    # --- steps

    def _show(self, number: int, step: Step | None, action: Callable[[StepStarted], StepOutcome]) -> None:
        """Execute ``action`` as a step that users see. ``step`` is None for the stage's FROM."""
        started = self._started(number, step)
        self._session.steps.record(started, step, lambda: action(started))

    def _started(self, number: int, step: Step | None) -> StepStarted:
        return StepStarted(
            self._position + 1,
            len(self._session.plan.stages),
            self._plan.label,
            number,
            1 + len(self._visible_steps),
            self._plan.title if step is None else step.title,
            self._plan.location if step is None else step.location,
        )

    def _step(self, state: StageState, step: Step, started: StepStarted) -> StepOutcome:
        match step:
            case RunStep():
                return self._cached(state, step, None, lambda: self._run(state, step, self._files(state), started))
            case CopyStep():
                with self._session.copies.prepared(step) as sources:
                    return self._cached(state, step, sources, lambda: self._copy(state, sources))
            case WorkdirStep():
                return self._cached(state, step, None, lambda: self._workdir(state, step))
            case MetadataStep():
                raise AssertionError("changes no files")

    def _cached(
        self, state: StageState, step: Step, sources: Copying | None, execute: Callable[[], Written]
    ) -> StepOutcome:
        """Take a step's layer from the cache, or execute the step."""
        lookup = Lookup()
        if self._cache is not None:
            with timed(self._reporter, "look up"):
                lookup = self._cache.find(state, step, sources)
        if lookup.found:
            self._layers.add(state, step.created_by, lookup.layer)
            self._upload([lookup.layer])
            return StepOutcome(_size(lookup.layer), cached=True)
        if isinstance(step, RunStep):
            self._session.runs.sandbox.check_available()
        layer = self._executed(state, step, execute, lookup.made_of(step))
        stored = self._cache is not None and self._cache.store(state, step, lookup, layer)
        self._upload([layer], cached=stored)
        return StepOutcome(_size(layer), cache_miss=lookup.miss)

    def _executed(self, state: StageState, step: Step, execute: Callable[[], Written], made_of: str) -> Layer | None:
        """Execute a step and pack its layer, on disk if it has to be, which can show when the layer is packed."""
        try:
            return self._layers.record(state, step.created_by, execute(), made_of)
        except NotVirtualError as error:
            self._give_up_virtual(state, error)
            return self._layers.record(state, step.created_by, execute(), made_of)

    def _upload(self, layers: Sequence[Layer | None], *, cached: bool = False) -> None:
        """Let known layers of the image go to its destinations. ``cached``: the layer cache stores them, too."""
        if self._uploads is not None:
            cache = self._session.cache if cached else None
            self._uploads.offer([each for each in layers if each], cache.stored_at if cache is not None else None)

    def _copy(self, state: StageState, sources: Copying) -> Written:
        def virtually() -> Written:
            with timed(self._reporter, "copy"):
                return Written(*sources.copy_virtually(lambda: self._virtual_files(state)))

        def on_disk(rootfs: Rootfs) -> Changes:
            self._layers.forget()  # also if nothing changes: equal files are replaced
            with timed(self._reporter, "copy"):
                return sources.copy_into(rootfs)

        return self._written(state, virtually, on_disk)

    def _workdir(self, state: StageState, step: WorkdirStep) -> Written:
        def make(root: Root) -> Changes:
            # As with --chown and in BuildKit, a numeric user is the group, too.
            owner = users.lookup_workdir_ownership(root, step.user) if step.user else None
            return Changes(make_workdir(root, step.path, owner), ())

        def virtually() -> Written:
            root = self._virtual_files(state)
            return Written(root, make(root))

        def on_disk(rootfs: Rootfs) -> Changes:
            changes = make(rootfs)
            if not changes.empty:
                self._layers.forget()
            return changes

        return self._written(state, virtually, on_disk)

    def _written(
        self, state: StageState, virtually: Callable[[], Written], on_disk: Callable[[Rootfs], Changes]
    ) -> Written:
        """Execute a step that only writes.

        Raises:
            NotVirtualError: it has to be executed on disk.
        """
        if self._is_virtual(state):
            return virtually()
        rootfs = self._files(state)
        return Written(rootfs, self._report_hidden(rootfs, on_disk(rootfs)))

    def _give_up_virtual(self, state: StageState, error: NotVirtualError) -> None:
        """From now on the stage's files are on disk."""
        state.virtual, self._needs_disk = None, str(error) or "a layer can't be read otherwise"

    def _report_hidden(self, rootfs: Rootfs, changes: Changes) -> Changes:
        """Report which of the changes are hidden from RUN; returns them unchanged."""
        root = self._session.build_root
        if root is not None and rootfs is root.rootfs:
            root.report_hidden(changes)
        return changes

    def _run(self, state: StageState, step: RunStep, rootfs: Rootfs, started: StepStarted) -> Written:
        self._layers.before_run(rootfs)
        user = users.lookup_user(rootfs, step.user or "0")
        if make_workdir(rootfs, step.workdir, Ownership(user.uid, user.gid)):
            self._layers.forget()
        covered = mount_points(rootfs, step)
        root = self._session.build_root
        if root is not None:
            covered += root.covered
            root.before_run(step)
        with timed(self._reporter, "run"):
            self._session.runs.execute(step, rootfs, user, started)
        moved = root.after_run() if root is not None else ()
        return Written(rootfs, self._layers.after_run(state, rootfs, covered).along_with(moved))


def _needs_disk(plan: StagePlan, *, single: bool, read: bool) -> str:
    """Why a stage needs its files on disk whatever its steps do, "" if it may not."""
    image = plan.base.reference if isinstance(plan.base, ImageBase) else None
    origins = [step.origin for step in plan.steps if isinstance(step, CopyStep)]
    if single:
        return "--single-snapshot compares the files"
    if read:
        return "another stage reads the files"
    if any(isinstance(origin, ImageOrigin) and origin.reference == image for origin in origins):
        return "COPY --from reads the same image"  # whose layers would be pulled twice
    return ""


def _size(layer: Layer | None) -> int:
    return layer.descriptor.size if layer is not None else 0

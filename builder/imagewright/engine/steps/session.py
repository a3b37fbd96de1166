"""What the stages of one build share, and what a stage has become so far.

No I/O. Made by ``engine.build``; read by ``engine.stage``, ``engine.run`` and ``engine.copying``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from imagewright.cache.layers import LayerCache
from imagewright.contract import timestamp
from imagewright.contract.result import StepResult
from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.events import Reporter
from imagewright.engine.pull.images import Images, Layer
from imagewright.engine.source.remotes import Remotes
from imagewright.engine.source.sshagents import Agents
from imagewright.engine.steps.bindsources import ContextViews
from imagewright.engine.steps.buildroot import BuildRoot
from imagewright.engine.steps.cachemounts import CacheMounts
from imagewright.engine.steps.redaction import Redaction
from imagewright.engine.workspace import Workspace
from imagewright.fs.layer.compress import PackOptions
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.mediatypes import ImageFormat
from imagewright.plan.model import BuildPlan, StagePlan
from imagewright.plan.origins import ContextOrigin, ImageOrigin, Origin, StageOrigin
from imagewright.plan.steps import Step
from imagewright.sandbox.model import Sandbox
from imagewright.store.blobs import BlobStore


@dataclass(slots=True)
class StageState:
    """A stage that is finished or on its way.

    ``rootfs`` is None where nothing needed its files yet; it holds the first ``applied`` layers, and what steps did in it
    since is one of them each.
    """

    plan: StagePlan
    image_format: ImageFormat
    layers: list[Layer]
    history: list[dict[str, Any]]
    rootfs: Rootfs | None = None
    applied: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while files are brought up to the layers


@dataclass(frozen=True, slots=True)
class Layering:
    """What becomes a layer, and how it is packed.

    ``single``: all that the last stage changes is one layer. ``ignored`` are root-relative paths that no RUN's layer
    has. ``cached`` says of which steps layers are cached, where there is a cache.
    """

    pack: PackOptions
    single: bool = False
    ignored: tuple[bytes, ...] = ()
    cached_kinds: frozenset[type[Step]] = frozenset()


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The files of a context, and which of them .dockerignore hides."""

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
    contexts: Mapping[str, BuildContext]  # by name, "" the build's own
    lines: Sequence[str]  # of the Dockerfile, for the excerpt of a failing step
    views: ContextViews
    secrets: Mapping[str, bytes] = field(repr=False)  # by id
    redaction: Redaction
    agents: Agents
    caches: CacheMounts
    remotes: Remotes
    layering: Layering
    build_root: BuildRoot | None = None  # where stages with a RUN are built, in the sandbox that needs it
    cache: LayerCache | None = None  # None: every step is executed
    epoch: int | None = None
    states: dict[int, StageState] = field(default_factory=dict)
    results: list[StepResult] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)  # another stage failed: nothing more is begun
    _readers: dict[int, set[int]] = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        stages = self.plan.stages
        self._readers = {stage.index: {s.index for s in stages if stage.index in s.needs} for stage in stages}

    def is_read(self, index: int, besides: int | None = None) -> bool:
        """Whether a stage that is not finished needs the files of the stage ``index``; ``besides`` is not counted."""
        with self._lock:
            return bool(self._readers[index] - {besides})

    def finish(self, state: StageState) -> None:
        """A stage has ended well: others can read its files, and it reads nobody's any more."""
        with self._lock:
            self.states[state.plan.index] = state
            for readers in self._readers.values():
                readers.discard(state.plan.index)

    def created(self) -> str:
        """The time that configuration and history carry."""
        moment = datetime.fromtimestamp(self.epoch, UTC) if self.epoch is not None else datetime.now(UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if self.epoch is not None else timestamp(moment)

    def files_of(self, state: StageState) -> Rootfs:
        """A finished stage's files, made of its layers where it was cached and nobody needed them yet."""
        with state.lock:
            if state.rootfs is None:
                state.rootfs, state.applied = Rootfs(self.workspace.stage(state.plan.index)), 0
                tree.remove(state.rootfs)
            self.catch_up(state, state.rootfs)
            return state.rootfs

    def catch_up(self, state: StageState, rootfs: Rootfs) -> None:
        """Unpack the layers that a stage's files don't have yet."""
        missing = state.layers[state.applied :]
        if missing:
            self.images.unpack(missing, rootfs, state.plan.label)
            state.applied = len(state.layers)

    def origin(self, origin: Origin) -> tuple[Rootfs, IgnorePatterns | None]:
        """The files that an origin means, and which of them .dockerignore hides."""
        match origin:
            case ContextOrigin(context=name):
                context = self.contexts[name]
                return context.rootfs, context.ignore
            case StageOrigin(stage=index):
                return self.files_of(self.states[index]), None
            case ImageOrigin(reference=reference, platform=platform):
                return self.images.rootfs_of(reference, platform), None

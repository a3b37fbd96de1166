"""The files that steps read: of contexts, of finished stages, of images.

Unpacks the layers of a stage or an image when its files are first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from imagewright.dockerfile.ignore import IgnorePatterns
from imagewright.engine.layers import Layer
from imagewright.engine.pull.extracting import ExtractedImages
from imagewright.engine.pull.images import Images
from imagewright.engine.pull.indexing import LayerIndexes, VirtualFiles
from imagewright.engine.workspace import Workspace
from imagewright.fs.rootfs import tree
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.mediatypes import ImageFormat
from imagewright.plan.model import StagePlan
from imagewright.plan.origins import ContextOrigin, ImageOrigin, Origin, StageOrigin
from imagewright.records import dataclass


@dataclass(slots=True)
class StageState:
    """A stage that is being executed, or is finished.

    ``rootfs`` is None until something needs its files. It holds the first ``applied`` layers; each step that changes it
    afterwards adds one.
    """

    plan: StagePlan
    image_format: ImageFormat
    layers: list[Layer]
    history: list[dict[str, Any]]
    rootfs: Rootfs | None = None
    applied: int = 0
    virtual: VirtualFiles | None = None  # of a stage whose files are not on disk
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while missing layers are unpacked


@dataclass(frozen=True, slots=True)
class OriginFiles:
    """The files of an origin, and which of them .dockerignore hides; only a context has one."""

    rootfs: Rootfs
    ignore: IgnorePatterns | None = None


@dataclass(frozen=True, slots=True)
class Origins:
    """Everything that a build can read files from."""

    contexts: Mapping[str, OriginFiles]  # by name, "" is the build context
    images: Images
    workspace: Workspace
    indexes: LayerIndexes
    extracted: ExtractedImages
    stages: dict[int, StageState] = field(default_factory=dict)  # finished, by index

    def files(self, origin: Origin, mounted: str | None = None) -> OriginFiles:
        """The files that an origin stands for; of an image at least what COPYs read, or with ``mounted`` that path.

        Raises:
            ImagewrightError: an image or a layer that can't be pulled or unpacked.
        """
        match origin:
            case ContextOrigin(context=name):
                return self.contexts[name]
            case StageOrigin(stage=index):
                return OriginFiles(self._files_of_stage(self.stages[index]))
            case ImageOrigin() if mounted is not None:
                return OriginFiles(self.extracted.mounted(origin, mounted))
            case ImageOrigin():
                return OriginFiles(self.extracted.copied(origin))

    def _files_of_stage(self, state: StageState) -> Rootfs:
        """A finished stage's files, unpacked from its layers if all its steps were cached and nothing read them yet."""
        with state.lock:
            if state.rootfs is None:
                state.rootfs, state.applied = self.workspace.stage(state.plan.index), 0
                tree.remove(state.rootfs)
            self.unpack_missing(state, state.rootfs, "another stage reads the files")
            return state.rootfs

    def unpack_missing(self, state: StageState, rootfs: Rootfs, why: str) -> None:
        """Unpack the layers that a stage's files don't have yet; ``why`` completes a line of the log."""
        missing = state.layers[state.applied :]
        if missing:
            count = f"{len(missing)} layer{'s' if len(missing) > 1 else ''}"
            self.images.reporter.debug(f"{state.plan.label}: unpacking {count}, since {why}")
            self.images.unpack(missing, rootfs, state.plan.label, self.indexes.keep)
            state.applied = len(state.layers)

"""Turns changes into layers and history: snapshots around a RUN, packing, the one layer of --single-snapshot.

Reads a stage's root file system and writes blobs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from imagewright.engine.events import timed
from imagewright.engine.layers import Layer, LayerOptions
from imagewright.engine.pull.images import Images, KeepIndex
from imagewright.engine.steps.origins import StageState
from imagewright.fs.layer.changes import Changes, diff
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.layer.unmodified import drop_unmodified
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.choice import Root
from imagewright.oci.config import HistoryEntry
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass

_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it
_NOTHING = Changes((), ())


@dataclass(frozen=True, slots=True)
class Written:
    """What a step has changed, and the root that has it."""

    root: Root
    changes: Changes


class LayerWriter:
    """Writes the layers and the history of one stage, nothing if ``makes_layers`` is False.

    ``single``: one layer, at the end. ``keep_index`` is given the index of each layer.
    """

    def __init__(
        self,
        images: Images,
        options: LayerOptions,
        keep_index: KeepIndex | None,
        *,
        makes_layers: bool,
        single: bool,
    ) -> None:
        self._images = images
        self._keep_index = keep_index
        self._reporter = images.reporter
        self._options = options
        self._makes_layers = makes_layers
        self._single = single
        self._snapshot: Snapshot | None = (
            None  # of the root file system as it is now, None if it may have changed since
        )
        self._before: Snapshot | None = None  # the snapshot to compare with
        self._covered: list[bytes] = []  # mount points of all RUNs
        self._unscanned: set[bytes] = set()  # with ``single``: paths written where no scan looks

    def forget(self) -> None:
        """Drop the snapshot: files have changed."""
        self._snapshot = None

    def before_run(self, rootfs: Rootfs) -> None:
        """Take a snapshot to compare with."""
        if not self._makes_layers or self._single:
            return
        self._before, self._snapshot = self._snapshot or self._scan(rootfs), None
        _wait_for_tick()

    def after_run(self, state: StageState, rootfs: Rootfs, covered: Sequence[bytes]) -> Changes:
        """What a command changed, without files of which only metadata was touched and paths that mounts covered."""
        if not self._makes_layers:
            return _NOTHING
        if self._single:
            self._covered += covered
            return _NOTHING
        assert self._before is not None
        self._snapshot = self._scan(rootfs)
        return self._filtered(state, rootfs, diff(self._before, self._snapshot).without(covered))

    def record(self, state: StageState, created_by: str, written: Written | None, made_of: str = "") -> Layer | None:
        """Add a history entry, and a layer if files changed, which is returned. ``made_of`` is as in ``Layer``."""
        if not self._makes_layers:
            return None
        if self._single and written is not None and isinstance(written.root, Rootfs):
            root = written.root
            self._unscanned.update(path for path in written.changes.written if root.is_foreign(path))
        if written is None or written.changes.empty or self._single:
            self.add(state, created_by, None)
            return None
        layer = replace(self._pack(state, written.root, written.changes), made_of=made_of)
        self.add(state, created_by, layer)
        if isinstance(written.root, Rootfs):
            state.applied = len(state.layers)  # the files have it already
        elif state.virtual is not None and state.virtual.root is written.root:
            state.virtual.wrote()
        return layer

    def add(self, state: StageState, created_by: str, layer: Layer | None) -> None:
        """Add a history entry with its layer, None if no file changed. A cached layer need not be unpacked yet."""
        if layer is not None:
            state.layers.append(layer)
        entry = HistoryEntry(
            created_by, self._options.created(), comment="imagewright.dockerfile.v0", empty_layer=layer is None
        )
        state.history.append(entry.to_json())

    def begin_single(self, rootfs: Rootfs) -> None:
        """Take a snapshot before the first step of a stage that makes one layer."""
        self._before = self._scan(rootfs)
        _wait_for_tick()

    def finish_single(self, state: StageState) -> None:
        """Write one layer of all changes of the stage; it belongs to the last history entry."""
        assert self._before is not None
        assert state.rootfs is not None
        changes = diff(self._before, self._scan(state.rootfs)).without(self._covered)
        changes = changes.along_with(path for path in self._unscanned if state.rootfs.has(path))
        changes = self._filtered(state, state.rootfs, changes)
        if changes.empty:
            return
        state.layers.append(self._pack(state, state.rootfs, changes))
        state.applied = len(state.layers)
        last = dict(state.history[-1])
        last.pop("empty_layer", None)
        state.history[-1] = last

    def _scan(self, rootfs: Rootfs) -> Snapshot:
        with timed(self._reporter, "scan"):
            return scan(rootfs)

    def _filtered(self, state: StageState, rootfs: Rootfs, changes: Changes) -> Changes:
        with timed(self._reporter, "compare"):
            changes = drop_unmodified(rootfs, changes, self._images.stored(state.layers))
        return changes.without(self._options.ignored)

    def _pack(self, state: StageState, root: Root, changes: Changes) -> Layer:
        options = self._options.pack
        with timed(self._reporter, "pack"), self._images.blobs.writer() as out:
            index = IndexWriter() if self._keep_index is not None else None
            packed = pack_layer(root, changes, out, options, partial(timed, self._reporter, "compress"), index)
            out.commit(packed.digest)
        if index is not None and self._keep_index is not None:
            self._keep_index(packed.diff_id, index)
        media_type = state.image_format.layer(options.compression)
        return Layer(Descriptor(media_type, packed.digest, packed.size), packed.diff_id)


def _wait_for_tick() -> None:
    """Before Linux 6.13 a ctime is as coarse as the timer tick: a change in the scan's own tick would be missed."""
    begin = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == begin:
        time.sleep(0.001)

"""Turns what steps changed into layers and history: a snapshot before and after a RUN, packing, the one layer of --single-snapshot.

Reads a stage's root file system and writes blobs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from imagewright.engine.layers import Layer, LayerOptions
from imagewright.engine.pull.images import Images
from imagewright.engine.steps.origins import StageState
from imagewright.fs.layer.changes import Changes, diff
from imagewright.fs.layer.pack import pack_layer
from imagewright.fs.layer.snapshot import Snapshot, scan
from imagewright.fs.layer.unmodified import drop_unmodified
from imagewright.fs.rootfs.root import Rootfs
from imagewright.oci.config import HistoryEntry
from imagewright.oci.descriptor import Descriptor

_CLOCK_REALTIME_COARSE = 5  # linux/time.h; Python has no name for it
_NOTHING = Changes((), ())


class LayerMaker:
    """Makes the layers of one stage; with ``makes_layers`` False none, and no history. ``single``: one, at the end."""

    def __init__(self, images: Images, options: LayerOptions, *, makes_layers: bool, single: bool) -> None:
        self._images = images
        self._options = options
        self._makes_layers = makes_layers
        self._single = single
        self._snapshot: Snapshot | None = None  # of the root file system as it is now, None when it may have moved on
        self._before: Snapshot | None = None  # what the next changes are found against
        self._covered: list[bytes] = []  # where mounts were, of all RUNs
        self._apart: set[bytes] = set()  # with ``single``: what was written that no scan sees

    def forget(self) -> None:
        """Files were changed by something that knows what it changed."""
        self._snapshot = None

    def before_run(self, rootfs: Rootfs) -> None:
        """Remember what is there."""
        if not self._makes_layers or self._single:
            return
        self._before, self._snapshot = self._snapshot or scan(rootfs), None
        _wait_for_tick()

    def after_run(self, state: StageState, rootfs: Rootfs, mounted_over: Sequence[bytes]) -> Changes:
        """What a command changed, without what was only touched, and what lay below its mounts."""
        if not self._makes_layers:
            return _NOTHING
        if self._single:
            self._covered += mounted_over
            return _NOTHING
        assert self._before is not None
        self._snapshot = scan(rootfs)
        return self._settled(state, rootfs, diff(self._before, self._snapshot).without(mounted_over))

    def record(self, state: StageState, created_by: str, changes: Changes | None, made_of: str = "") -> Layer | None:
        """Add the history entry, and the layer where files changed, which is given. ``made_of`` is as in ``Layer``."""
        if not self._makes_layers:
            return None
        if self._single and changes is not None and state.rootfs is not None:
            self._apart.update(path for path in changes.written if state.rootfs.is_foreign(path))
        layer = None
        if changes is not None and not changes.empty and not self._single:
            assert state.rootfs is not None
            layer = replace(self._packed(state, state.rootfs, changes), made_of=made_of)
        self.add(state, created_by, layer)
        if layer is not None:
            state.applied = len(state.layers)  # it was made of these very files
        return layer

    def add(self, state: StageState, created_by: str, layer: Layer | None) -> None:
        """Add a history entry with its layer, None where no file changed. The files need not have it yet (a cache's)."""
        if layer is not None:
            state.layers.append(layer)
        entry = HistoryEntry(
            created_by, self._options.created(), comment="imagewright.dockerfile.v0", empty_layer=layer is None
        )
        state.history.append(entry.to_json())

    def begin_single(self, rootfs: Rootfs) -> None:
        """Remember what is there before the first step of a stage that makes one layer."""
        self._before = scan(rootfs)
        _wait_for_tick()

    def finish_single(self, state: StageState) -> None:
        """One layer of all that the stage changed; the last instruction's history entry has it."""
        assert self._before is not None
        assert state.rootfs is not None
        changes = diff(self._before, scan(state.rootfs)).without(self._covered)
        changes = changes.along_with(path for path in self._apart if state.rootfs.has(path))
        changes = self._settled(state, state.rootfs, changes)
        if changes.empty:
            return
        state.layers.append(self._packed(state, state.rootfs, changes))
        state.applied = len(state.layers)
        last = dict(state.history[-1])
        last.pop("empty_layer", None)
        state.history[-1] = last

    def _settled(self, state: StageState, rootfs: Rootfs, changes: Changes) -> Changes:
        changes = drop_unmodified(rootfs, changes, self._images.stored(state.layers))
        return changes.without(self._options.ignored)

    def _packed(self, state: StageState, rootfs: Rootfs, changes: Changes) -> Layer:
        options = replace(self._options.pack, clamp_mtime_s=self._options.epoch_s)
        with self._images.blobs.writer() as out:
            packed = pack_layer(rootfs, changes, out, options)
            out.commit(packed.digest)
        media_type = state.image_format.layer(options.compression)
        return Layer(Descriptor(media_type, packed.digest, packed.size), packed.diff_id)


def _wait_for_tick() -> None:
    """Before Linux 6.13 a ctime is as coarse as the timer tick: a change in the tick of the scan would not be seen."""
    begin = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) == begin:
        time.sleep(0.001)

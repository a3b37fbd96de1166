"""Looks up the steps of a stage in the layer cache and stores their results.

Hashes what steps read, and asks ``cache.layers``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from imagewright.cache.entry import Entry
from imagewright.cache.keys import KeyContext, StepKey, chain, copy_key, run_key, workdir_key
from imagewright.cache.layers import LayerCache
from imagewright.digest import FramedHash
from imagewright.engine.layers import Layer, LayerOptions, LayerOrigin
from imagewright.engine.steps.copying import Copying
from imagewright.engine.steps.origins import Origins, StageState
from imagewright.errors import FileSystemError
from imagewright.fs.copy.contents import copied_contents
from imagewright.fs.copy.copier import CopyRequest
from imagewright.fs.copy.glob import escape
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.mediatypes import layer_compression
from imagewright.plan.origins import ContextOrigin, ImageOrigin, Origin, StageOrigin
from imagewright.plan.steps import BindMount, CacheMount, CopyStep, RunStep, Step, WorkdirStep
from imagewright.records import dataclass
from imagewright.streams import Readable


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result of a lookup. ``layer`` is None for a step that changed no file; ``miss`` is why it was not found.

    ``keys`` are those that were tried: the layer that is made instead is stored under each, unless ``uncacheable``. The
    last one identifies the files of a COPY or WORKDIR in the keys of later steps.
    """

    found: bool = False
    layer: Layer | None = None
    miss: str = ""
    keys: tuple[StepKey, ...] = ()
    uncacheable: bool = False

    def made_of(self, step: Step) -> str:
        """How keys of later steps refer to the layer that the step makes; ``""`` for its content."""
        return self.keys[-1].text if self.keys and not isinstance(step, RunStep) else ""


@dataclass(frozen=True, slots=True)
class StepCache:
    """The cache for the steps of one stage."""

    cache: LayerCache
    origins: Origins
    options: LayerOptions
    stage: str  # its name, for people

    def find(self, state: StageState, step: Step, copying: Copying | None) -> Lookup:
        """Look up a step's layer, and record its key to explain later misses. ``copying`` is given for a COPY.

        Raises:
            ImagewrightError: a COPY's source is missing, or cannot be fetched.
        """
        if type(step) not in self.options.cached_kinds:
            keys = () if isinstance(step, RunStep) else tuple(self._keys(state, step, copying))
            return Lookup(keys=keys, uncacheable=True)
        lookup = self._find(state, step, copying)
        if lookup.keys:
            self.cache.remember(self.stage, step.title, lookup.keys[-1])
        return lookup

    def _find(self, state: StageState, step: Step, copying: Copying | None) -> Lookup:
        tried: list[StepKey] = []
        miss = ""
        for key in self._keys(state, step, copying):
            tried.append(key)
            found = self.cache.find(key.text)
            if isinstance(found, Entry) and not self._is_of_this_build(found):
                self.cache.invalidate(key.text, "its compression does not match its key")
            elif isinstance(found, Entry):
                layer = self._layer(state, found)
                if layer is not None:
                    for other in tried[:-1]:  # the next build can then find it without reading files
                        self._store(state, step, other, layer, found.created_s)
                return Lookup(True, layer, keys=tuple(tried))
            else:
                miss = miss or found.why
        return Lookup(miss=miss or self.cache.explain(self.stage, step.title, tried), keys=tuple(tried))

    def store(self, state: StageState, step: Step, lookup: Lookup, layer: Layer | None) -> bool:
        """Store the layer of a step that was executed, in the background; False if it has none, or isn't cached."""
        keys = () if lookup.uncacheable else lookup.keys
        for key in keys:
            self._store(state, step, key, layer, time.time())
        return bool(keys) and layer is not None

    def _is_of_this_build(self, entry: Entry) -> bool:
        """Whether the compression matches: it is part of every key, so this engine wrote no entry with another."""
        wanted = self.options.pack.compression
        return entry.layer is None or layer_compression(entry.layer.media_type) == wanted

    def _store(self, state: StageState, step: Step, key: StepKey, layer: Layer | None, created_s: float) -> None:
        entry = Entry(key.text, created_s, step.title)
        if layer is not None:
            entry = replace(entry, layer=layer.descriptor, diff_id=layer.diff_id, made_of=layer.made_of)
        origin = layer.origin if layer is not None else None
        self.cache.keep(entry, state.plan.platform, origin.open if origin is not None else self._open_own)

    def _open_own(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self.origins.images.blobs.open(descriptor.digest)

    def _layer(self, state: StageState, entry: Entry) -> Layer | None:
        if entry.layer is None or entry.diff_id is None:
            return None
        found = entry.layer.of_family(state.image_format)
        origin = LayerOrigin(partial(self.cache.open, entry.key), self.cache.found_at(entry.layer), entry.key)
        own = self.origins.images.blobs.has(found.digest)
        return Layer(found, entry.diff_id, None if own else origin, entry.made_of)

    # --- keys

    def _keys(self, state: StageState, step: Step, copying: Copying | None) -> Iterator[StepKey]:
        """The keys of a step, the cheapest first; each is computed when it is needed."""
        pack = self.options.pack
        layers = [layer.identity for layer in state.layers]
        context = KeyContext(layers, str(state.plan.platform), self.options.epoch_s, pack.compression, pack.level)
        match step:
            case RunStep():
                try:
                    sources = [
                        self._mounted(mount) for mount in step.mounts if isinstance(mount, BindMount | CacheMount)
                    ]
                except FileSystemError:
                    return  # executing the step gives a better error
                yield run_key(context, step, sources)
            case CopyStep():
                assert copying is not None
                if not isinstance(step.origin, ContextOrigin):
                    yield copy_key(context, step, ["layers", self._layers_of(step.origin)])
                if not isinstance(step.origin, ImageOrigin):  # an image is what its layers say
                    yield copy_key(context, step, ["files", *copying.contents()])
            case WorkdirStep():
                yield workdir_key(context, step)

    def _mounted(self, mount: BindMount | CacheMount) -> str:
        """A hash of a mount's source, or of its initial content."""
        if mount.origin is None:
            return ""
        if not isinstance(mount.origin, ContextOrigin):
            return self._layers_of(mount.origin)
        files = self.origins.files(mount.origin)
        root = files.rootfs
        path = mount.source.strip("/")
        contents = copied_contents(CopyRequest(root, (escape(path) if path else ".",), "/", ignore=files.ignore))
        try:
            mode = root.lstat(os.fsencode(path)).st_mode if path else 0
        except OSError:
            mode = 0  # behind a symbolic link, whose own mode doesn't matter
        return FramedHash(contents, mode).hexdigest()

    def _layers_of(self, origin: Origin) -> str:
        match origin:
            case StageOrigin(stage=index):
                return chain(layer.identity for layer in self.origins.stages[index].layers)
            case ImageOrigin(reference=reference, platform=platform):
                return chain(str(layer) for layer in self.origins.images.resolve(reference, platform).config.diff_ids)
            case ContextOrigin():
                raise AssertionError("a context has no layers")

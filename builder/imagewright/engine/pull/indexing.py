"""Indexes of layers, and virtual roots made of them: nothing of a layer is written to disk.

Streams layers from the registry or reads them from the blob store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TypeVar

from imagewright.cache.indexes import IndexCache
from imagewright.digest import Digest
from imagewright.engine.events import timed
from imagewright.engine.layers import Layer
from imagewright.engine.pull.images import Images, KeepIndex, blaming_entry
from imagewright.engine.pull.pending import PendingIndex, Readers, Sink, readers
from imagewright.engine.pull.streaming import Ending, InflatedLayer, downloaded_ahead
from imagewright.engine.pull.tables import Tables, key_of
from imagewright.errors import ImagewrightError
from imagewright.fs.layer.capture import Capture
from imagewright.fs.layer.extract import WrongIndexError
from imagewright.fs.layer.filehashes import FileHashes
from imagewright.fs.layer.index import apply_index, exact_times, make_index
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.tar.decompress import open_layer
from imagewright.fs.tar.reader import read_rest
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import LayerData, RoundedTime
from imagewright.fs.targets.virtual import VirtualRoot
from imagewright.records import dataclass
from imagewright.streams import Readable

R = TypeVar("R")
OpenLayer = Callable[[Layer], AbstractContextManager[Readable]]


def _nothing(layer: Layer) -> Capture | None:
    """For ``Reading``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What else happens to layers that are read to be indexed.

    ``keep``: they stay in the blob store. ``capture``: what takes data of files.
    """

    keep: bool = False
    capture: Callable[[Layer], Capture | None] = _nothing

    @property
    def tables(self) -> bool:
        """Whether a table of contents will do, since nothing of the layers is needed but their entries."""
        return not self.keep and self.capture is _nothing


ONLY_INDEXED = Reading()


class VirtualFiles:
    """The files of a stage or an image as a virtual root, which has the first ``applied`` of its layers."""

    def __init__(self, indexes: LayerIndexes, reading: Reading = ONLY_INDEXED) -> None:
        self._indexes = indexes
        self._reading = reading
        self._layers: dict[Digest, Layer] = {}  # by diff ID
        self._applied: list[tuple[Layer, bytes]] = []  # with their indexes
        self.applied = 0
        self.root = VirtualRoot(self)

    def update(self, layers: Sequence[Layer]) -> None:
        """Apply the layers that it doesn't have yet.

        Raises:
            ImagewrightError: a layer cannot be pulled, or is one that cannot be unpacked, either.
            NotVirtualError: a layer has to be unpacked on disk.
        """
        refused: NotVirtualError | None = None
        while self.applied < len(layers) and refused is None:
            missing = layers[self.applied :]
            with self._indexes.of(missing, self._reading) as indexes:
                try:
                    self._apply_all(missing, indexes)
                except NotVirtualError as error:
                    refused = error  # all layers are read to their end nevertheless: those that are kept are needed
        if refused is not None:
            raise refused

    def _apply_all(self, layers: Sequence[Layer], indexes: Sequence[PendingIndex]) -> None:
        """Apply the layers that follow; none at all if the index of one was wrong, which is to be read instead."""
        for layer, pending in zip(layers, indexes, strict=True):
            if not self._apply(layer, pending):
                self.applied, self.root = 0, VirtualRoot(self)  # it may have a part of what the index says
                self._applied.clear()
                return
            self.applied += 1

    def _apply(self, layer: Layer, pending: PendingIndex) -> bool:
        """Apply a layer; False if the cache has a wrong index for it, or one below it, which is to be read instead."""
        try:
            with blaming_entry(layer), timed(self._indexes.reporter, "apply", layer.name):
                apply_index(self.root, pending.opened(), layer.diff_id)
            index = pending.whole()
        except ImagewrightError as error:
            index = pending.whole()  # a layer that cannot be read or verified fails for that
            if self._indexes.invalidate(layer, index, error):
                return False
            # Its own index is right, so one below may lack what it refers to.
            wrong = [below for below in self._applied if self._indexes.invalidate(*below, error)]
            if not wrong:
                raise
            return False
        self._layers[layer.diff_id] = layer
        self._applied.append((layer, index))
        return True

    def invalidate(self, layer: Layer, error: WrongIndexError) -> bool:
        """A layer is not what its index says: forget the index if it is one of the cache."""
        index = next(index for applied, index in self._applied if applied.diff_id == layer.diff_id)
        return self._indexes.invalidate(layer, index, error)

    def sha256(self, data: LayerData) -> bytes | None:
        """As ``LayerContents.sha256``: the whole layer is read for it, once."""
        self._check(data.layer)
        return self._indexes.hashes(self._layers[data.layer]).find(data.number)

    def mtime_ns(self, time: RoundedTime) -> int:
        """As ``LayerContents.mtime_ns``: the whole layer is read for it, once."""
        times = self._check(time.layer)
        if times is None:  # an index of the cache says that its times are rounded, which it has of no table
            raise NotVirtualError("an index has no exact times")
        return times[time.number]

    def _check(self, diff_id: Digest) -> Sequence[int] | None:
        """Times of a layer of which a table of contents was used; None for others.

        Layers can have the same diff ID, and several tables: an entry's number may be by any of them.

        Raises:
            NotVirtualError: a table says something else than the layer.
        """
        found = [self._indexes.times(*each) for each in self._applied if each[0].diff_id == diff_id]
        return next((times for times in found if times is not None), None)

    def wrote(self) -> None:
        """It has the next layer: its own changes, which were packed."""
        self.applied += 1


class LayerIndexes:
    """The indexes of a build's layers, each made once. May be used from several threads.

    ``is_sent`` says which layers will be uploaded: they are kept, so that they aren't downloaded again.
    With a ``cache`` indexes are looked up there before a layer is read, and stored there whenever one is made.
    """

    def __init__(self, images: Images, is_sent: Callable[[Layer], bool], cache: IndexCache | None) -> None:
        self._images = images
        self._is_sent = is_sent
        self._cache = cache
        self._known: dict[Digest, bytes] = {}  # by diff ID
        self._found: dict[Digest, list[bytes]] = {}  # of those, and of those that were forgotten: what the cache had
        self._tables = Tables(images.reporter)
        self._times: dict[bytes, Sequence[int]] = {}  # by index
        self._lock = threading.Lock()
        self._hashes: dict[Digest, FileHashes] = {}
        self.reporter = images.reporter

    @property
    def keep(self) -> KeepIndex | None:
        """What is to be given the index of a layer that is unpacked or packed, None if nobody needs it."""
        return self._keep if self._cache is not None and self._cache.stores else None

    def _keep(self, diff_id: Digest, index: IndexWriter) -> None:
        if self._cache is not None and diff_id not in self._known:
            self._cache.keep(diff_id, index.finish(diff_id))

    def invalidate(self, layer: Layer, index: bytes, error: ImagewrightError) -> bool:
        """Forget an index that cannot be applied, if it is one of the cache; another thread may have done so."""
        if self._tables.refuse(layer, index, error.why):
            return True
        # Not by what it says: that of a layer that is bad itself is the same, and an error of the layer.
        if self._cache is None or not any(index is found for found in self._found.get(layer.diff_id, ())):
            return False
        with self._lock:
            if self._known.get(layer.diff_id) is index:
                del self._known[layer.diff_id]
                self._cache.invalidate(layer.diff_id, error.why)
        return True

    @contextmanager
    def of(self, layers: Sequence[Layer], reading: Reading = ONLY_INDEXED) -> Iterator[Sequence[PendingIndex]]:
        """The index of each layer, in order; several layers are read at once, each if its index is not known.

        They are read until the end of the context, or until it fails.
        """
        with self._images.exclusive({layer.descriptor.digest for layer in layers}):
            # Layers with the same diff ID and different tables have an index each.
            keys = [key_of(layer) if reading.tables else (layer.diff_id, "") for layer in layers]
            by_key = dict(zip(keys, layers, strict=True))
            known = {key: self._index(reading, layer) for key, layer in by_key.items()}
            indexes = {key: PendingIndex(index) for key, index in known.items()}
            missing = [key for key, index in known.items() if not index]
            with readers(self._images.patience) as threads:
                for key in sorted(missing, key=lambda key: -by_key[key].descriptor.size):  # the longest first
                    indexes[key].make(partial(self._make, reading, threads, by_key[key]), threads)
                yield [indexes[key] for key in keys]

    def _index(self, reading: Reading, layer: Layer) -> bytes:
        """A known index, b"" if there is none."""
        return self._known.get(layer.diff_id, b"") or (self._tables.known(layer) if reading.tables else b"")

    def times(self, layer: Layer, index: bytes) -> Sequence[int] | None:
        """The exact modification times of a layer's entries if ``index`` was made of its table, None if it was not.

        Raises:
            NotVirtualError: the table says something else than the layer.
            ImagewrightError: as ``VirtualFiles.update``.
        """
        if not self._tables.made(layer, index):
            return None
        with self._images.exclusive({layer.descriptor.digest}):
            if index not in self._times:
                right = self._known.get(layer.diff_id)
                if right is None:
                    with readers(self._images.patience) as threads:
                        pending = PendingIndex()
                        pending.make(partial(self._stream, ONLY_INDEXED, threads, layer), threads)
                        right = pending.whole()
                times = exact_times(index, right, layer.diff_id)
                if times is None:
                    self._tables.refuse(layer, index, "it says something else than the layer")
                    raise NotVirtualError("a table of contents says something else than its layer")
                self._times[index] = times
        return self._times[index]

    def hashes(self, layer: Layer) -> FileHashes:
        """The hashes of a layer's files.

        Raises:
            ImagewrightError: as ``VirtualFiles.update``.
        """
        with self._images.exclusive({layer.descriptor.digest}):
            if layer.diff_id not in self._hashes:
                with readers(self._images.patience) as threads:
                    threads.submit(partial(self._hash, threads, layer)).result()
        return self._hashes[layer.diff_id]

    def _make(self, reading: Reading, threads: Readers, layer: Layer, sink: Sink) -> bytes:
        if self._cache is not None:
            with timed(self.reporter, "look up", layer.name):
                found = self._cache.find(layer.diff_id)
            if found:
                self._found.setdefault(layer.diff_id, []).append(found)
                self._known[layer.diff_id] = found
                sink(found)
                return found
        # What is going to be uploaded is read anyway.
        if reading.tables and not self._images.has(layer) and not self._is_sent(layer):
            index = self._tables.find(layer)
            if index:
                sink(index)
                return index
        return self._stream(reading, threads, layer, sink)

    def _stream(self, reading: Reading, threads: Readers, layer: Layer, sink: Sink) -> bytes:
        make = partial(make_index, diff_id=layer.diff_id, capture=reading.capture(layer), sink=sink)
        index = self._read(threads, layer, make, keep=reading.keep)
        self._known[layer.diff_id] = index
        if self._cache is not None:
            self._cache.keep(layer.diff_id, index)
        return index

    def _hash(self, threads: Readers, layer: Layer) -> None:
        self._hashes[layer.diff_id] = self._read(threads, layer, FileHashes)

    def _read(self, threads: Readers, layer: Layer, read: Callable[[Readable], R], *, keep: bool = False) -> R:
        opened = self._images.open_keeping if keep or self._is_sent(layer) else self._images.open_layer
        with blaming_entry(layer), inflated(layer, opened, self._images) as tar:
            stream = threads.stoppable(tar)
            with timed(self.reporter, "index", layer.name):
                found = read(stream)
                read_rest(stream, "the layer")
        return found


def inflated(layer: Layer, opened: OpenLayer, images: Images) -> InflatedLayer:
    """The tar of a layer of one of the images; ``opened`` opens the layer as it is stored."""

    @contextmanager
    def inflate() -> Iterator[Readable]:
        with (
            timed(images.reporter, "inflate", layer.name),
            opened(layer) as stream,
            downloaded_ahead(stream, images.patience) as ahead,
        ):
            yield open_layer(ahead)

    return InflatedLayer(inflate, layer.diff_id, layer.name, Ending(lambda: None, images.patience))

"""The indexes of layers in the cache of a build: looked up before a layer is read, and stored in the background.

Accesses the given stores. Errors of a cache never fail a build: they cause a warning, and the
layer is read.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial

from imagewright.cache.artifact import EMPTY_CONFIG, MAX_INDEX_BYTES, index_artifact, index_key
from imagewright.cache.sources import EntryStore, Sources
from imagewright.cache.target import Target
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason


class IndexCache:
    """Indexes as one build uses them. Thread-safe. ``target`` is where new ones are stored, None for nowhere.

    ``report`` gets a line of the log for each that is found.
    """

    def __init__(self, sources: Sources, target: Target | None, report: Callable[[str], None] = lambda _: None) -> None:
        self._report = report
        self._sources = sources
        self._target = target
        self._stores: dict[Digest, str] = {}  # by diff ID: where an index was found
        self._kept: set[Digest] = set()
        self._refused = False
        self._uploads: list[Future[None]] = []
        self._lock = threading.Lock()

    @property
    def stores(self) -> bool:
        """Whether it is worth making the index of a layer that is at hand."""
        return self._target is not None and self._target.writable and not self._refused

    def find(self, diff_id: Digest) -> bytes:
        """The index of a layer, b"" if there is none. Whoever may write to the cache decided what it says."""
        index, store = self._sources.index(diff_id)
        if index:
            self._stores[diff_id] = store
            self._report(f"found the index of the layer with diff ID {diff_id.hex[:12]} in {store}")
        return index

    def invalidate(self, diff_id: Digest, why: str) -> None:
        """Treat an index that was found as a miss from now on."""
        self._sources.invalidate_index(diff_id, self._stores.pop(diff_id), why)

    def keep(self, diff_id: Digest, index: bytes) -> None:
        """Store the index of a layer, unless it is there; b"" is none."""
        with self._lock:
            target = self._target
            if target is None or self._refused or not 0 < len(index) <= MAX_INDEX_BYTES:
                return
            if diff_id in self._kept or diff_id in self._stores:
                return
            self._kept.add(diff_id)
            self._uploads += target.submit(partial(self._upload, target, diff_id, index))

    def finish(self) -> None:
        """Wait until everything is stored."""
        for upload in self._uploads:
            upload.result()

    def close(self) -> None:
        """Store no more, and end what is being stored where its server lets it."""
        if self._target is not None:
            self._target.close()

    def _upload(self, target: Target, diff_id: Digest, index: bytes) -> None:
        def put(store: EntryStore) -> None:
            key = index_key(diff_id)
            if self._sources.has_broken(key) or not store.has(key):
                store.put(key, index_artifact(diff_id, index), EMPTY_CONFIG, lambda _: nullcontext(io.BytesIO(index)))

        if self._refused:
            return
        error = target.attempt(put, "the index of a layer", "anything more")
        # A registry may refuse this kind of image, and store layers all the same.
        self._refused = isinstance(error, ImagewrightError) and error.reason is Reason.PUSH_FAILED

"""Looks up entries in the stores that a build may read, in their order: the first that has a usable entry wins.

Accesses the given stores. Their errors never fail a build: each causes one warning, and the next store is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import field
from typing import Protocol

from imagewright.cache.artifact import index_key, read_artifact, verified
from imagewright.cache.entry import Entry, read_entry
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Manifest
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.streams import Readable, read_whole

# Errors of the whole store; others concern a single entry.
STORE_ERRORS = frozenset({Reason.REGISTRY_UNAVAILABLE, Reason.REGISTRY_AUTH_FAILED, Reason.NOT_SUPPORTED})
DAMAGED = "its entry in the cache is damaged"
_UNREADABLE = "the cache cannot be read"
_AN_ENTRY, _AN_INDEX = "an entry", "the index of a layer"


class EntryStore(Protocol):
    """Stores entries, images with a name each. Safe for concurrent builds. Errors are ImagewrightError."""

    @property
    def name(self) -> str:
        """The name for messages."""

    @property
    def found_at(self) -> Reference | None:
        """The repository, from which its registry can mount layers, None if the store is not a registry."""

    def has(self, key: str) -> bool: ...

    def get(self, key: str) -> Manifest | None: ...

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A blob of an entry, as stored."""

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None: ...


@dataclass(frozen=True, slots=True)
class Miss:
    """``why`` is for messages, ``""`` where there is no entry."""

    why: str


@dataclass(slots=True)
class _Source:
    store: EntryStore
    broken: set[str] = field(default_factory=set)  # keys of unusable entries
    unreadable: bool = False  # don't wait for an unavailable store at every step


class Sources:
    """The stores to look in. ``ttl_s`` is the maximum age of an entry in seconds, 0 for no limit."""

    def __init__(self, stores: Sequence[EntryStore], ttl_s: int, warn: Callable[[str], None]) -> None:
        self._sources = [_Source(store) for store in stores]
        self._ttl_s = ttl_s
        self._warn = warn
        self._lock = threading.Lock()
        self._of_entries: dict[str, _Source] = {}
        self._of_layers: dict[tuple[str, Digest], _Source] = {}  # by key: another store may have a damaged one
        self._of_digests: dict[Digest, _Source] = {}  # any of them

    @property
    def name(self) -> str:
        return ", ".join(source.store.name for source in self._sources)

    def find(self, key: str) -> Entry | Miss:
        """The first usable entry of a key, or why there is none in the first store that has something to say."""
        misses = []
        for source in self._sources:
            found = self._find(source, key)
            if isinstance(found, Entry):
                self._of_entries[key] = source
                if found.layer is not None:
                    self._of_layers[key, found.layer.digest] = source
                    self._of_digests.setdefault(found.layer.digest, source)
                return found
            misses.append(found.why)
        return Miss(next(filter(None, misses), ""))

    @contextmanager
    def open(self, key: str, layer: Descriptor) -> Iterator[Readable]:
        """The layer of an entry that was found, from another store if the entry's own can't open it.

        What it reads may be damaged all the same, and the entry has to be invalidated then.
        """
        stack = ExitStack()
        # An entry that this build stored under another key has a layer of a store all the same.
        own = self._of_layers.get((key, layer.digest)) or self._of_digests[layer.digest]
        try:
            stream = stack.enter_context(own.store.open(key, layer))
        except ImagewrightError as error:
            other = self._other(own, key, layer) if error.reason is not Reason.CANCELLED else None
            if other is None:
                raise
            stream = stack.enter_context(other.store.open(key, layer))
        with stack:
            yield stream

    def _other(self, own: _Source, key: str, layer: Descriptor) -> _Source | None:
        """Another store whose entry has the same layer."""
        for source in self._sources:
            if source is not own:
                found = self._find(source, key)
                if isinstance(found, Entry) and found.layer is not None and found.layer.digest == layer.digest:
                    return source
        return None

    def found_at(self, layer: Digest) -> Reference | None:
        """The repository of a layer that was found."""
        source = self._of_digests.get(layer)
        return source.store.found_at if source is not None else None

    def invalidate(self, key: str, why: str) -> bool:
        """Treat an unusable entry as a miss from now on; False if it already was."""
        source = self._of_entries.get(key)
        if source is None or key in source.broken:
            return False
        self._invalidated(source, key, why)
        return True

    def load(self, key: str) -> bytes:
        """The configuration of the first image with this name, b"" if there is none."""
        for source in self._sources:
            try:
                manifest = source.store.get(key)
                if manifest is not None and manifest.config.size <= MAX_DOCUMENT_BYTES:
                    with source.store.open(key, manifest.config) as stream:
                        return read_whole(stream)
            except ImagewrightError as error:
                if error.reason is Reason.CANCELLED:
                    raise
        return b""

    def index(self, diff_id: Digest) -> tuple[bytes, str]:
        """The index of a layer in the first store that has a usable one, and that store's name; b"" if none has."""
        key = index_key(diff_id)
        for source in self._sources:
            if key in source.broken or source.unreadable:
                continue
            try:
                manifest = source.store.get(key)
                index = self._read_index(source, key, manifest, diff_id) if manifest is not None else b""
            except ImagewrightError as error:
                self._failed(source, key, error, _AN_INDEX)
                continue
            if index:
                return index, source.store.name
        return b"", ""

    @staticmethod
    def _read_index(source: _Source, key: str, manifest: Manifest, diff_id: Digest) -> bytes:
        layer, data = read_artifact(manifest, diff_id)
        if data is None:
            with source.store.open(key, layer) as stream:
                data = _read_up_to(stream, layer.size + 1)
        return verified(layer, data)

    def has_broken(self, key: str) -> bool:
        """Whether what a store has under a key was found to be unusable."""
        return any(key in source.broken for source in self._sources)

    def invalidate_index(self, diff_id: Digest, store: str, why: str) -> None:
        """Treat the index of a layer that a store has as a miss from now on."""
        for source in self._sources:
            if source.store.name == store:
                self._invalidated(source, index_key(diff_id), why, _AN_INDEX)

    def _find(self, source: _Source, key: str) -> Entry | Miss:
        if key in source.broken:
            return Miss(DAMAGED)
        if source.unreadable:
            return Miss(_UNREADABLE)
        try:
            manifest = source.store.get(key)
        except ImagewrightError as error:
            return self._failed(source, key, error)
        if manifest is None:
            return Miss("")
        try:
            entry = read_entry(manifest, key)
        except ImagewrightError as error:
            return self._invalidated(source, key, error.why)
        age_s = time.time() - entry.created_s
        if self._ttl_s and age_s > self._ttl_s:
            return Miss(f"its entry has expired: it is {_age(age_s)} old, the limit is {_age(self._ttl_s)}")
        return entry

    def _failed(self, source: _Source, key: str, error: ImagewrightError, what: str = _AN_ENTRY) -> Miss:
        if error.reason is Reason.CANCELLED:
            raise error
        if error.reason not in STORE_ERRORS:
            return self._invalidated(source, key, error.why, what)
        with self._lock:
            reported, source.unreadable = source.unreadable, True
        if not reported:
            instead = "executing all steps" if len(self._sources) == 1 else "going on without it"
            self._warn(f"cannot read the cache {source.store.name}, {instead}: {error.why}")
        return Miss(_UNREADABLE)

    def _invalidated(self, source: _Source, key: str, why: str, what: str = _AN_ENTRY) -> Miss:
        source.broken.add(key)
        self._warn(f"ignoring {what} of the cache {source.store.name}: {why}")
        return Miss(DAMAGED)


def _read_up_to(stream: Readable, count: int) -> bytes:
    """What a stream has, whatever it says: at most ``count`` bytes."""
    parts: list[bytes] = []
    while count > 0 and (data := stream.read(min(count, 1 << 16))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.1f} hours"

"""The layer cache of a build: asks a store for entries, and fills it beside the build.

Talks to the store that it is given and starts one thread. Called by ``engine.stage``. Nothing that is wrong with a cache
fails a build: it is said once, and the step is executed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from imagewright.cache.entry import Entry, read_entry
from imagewright.cache.keys import StepKey
from imagewright.cache.trace import Trace
from imagewright.digest import FramedHash
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Manifest
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.streams import Readable, read_whole

# What would be so for every entry; all else is wrong with one.
_OF_THE_STORE = frozenset({Reason.REGISTRY_UNAVAILABLE, Reason.REGISTRY_AUTH_FAILED, Reason.NOT_SUPPORTED})
_NOT_TAKEN = frozenset({Reason.PUSH_FAILED, Reason.OUTPUT_FAILED, Reason.DISK_FULL})


class EntryStore(Protocol):
    """Where entries are kept: images by a name each. Safe with several builds at once. Errors are ImagewrightError."""

    @property
    def name(self) -> str:
        """As people know it."""

    @property
    def found_at(self) -> Reference | None:
        """The repository, from which its registry may mount layers; None where it is none."""

    def get(self, key: str) -> Manifest | None: ...

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A blob of an entry, as it is stored."""

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None: ...


@dataclass(frozen=True, slots=True)
class Miss:
    """``why`` is for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Settings:
    """``ttl_s`` is how old an entry may be, in seconds, 0 any age; ``push``: what is made is stored.

    ``build`` names what is built from time to time, so that a build is explained by the last one like it.
    """

    ttl_s: int
    push: bool
    build: str


class LayerCache:
    """One build's view of a cache. May be used from several threads. ``warn`` tells the user of what is wrong with it."""

    def __init__(self, store: EntryStore, settings: Settings, warn: Callable[[str], None]) -> None:
        self._store = store
        self._trace_key = FramedHash("trace", settings.build).hexdigest()
        self._trace = Trace(self._load_trace)
        self._ttl_s = settings.ttl_s
        self._push = settings.push
        self._warn = warn
        self._known: dict[str, Entry] = {}  # made by this build
        self._broken: set[str] = set()
        self._lost = False  # the store can't be read: asking again for every step would only take time
        self._full = False  # the same for writing
        self._closing = False
        self._uploads: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cache")  # beside the build, and out of its way
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def found_at(self) -> Reference | None:
        return self._store.found_at

    def find(self, key: str) -> Entry | Miss:
        """The entry of a key."""
        if key in self._broken:
            return Miss("its entry in the cache is damaged")
        if key in self._known:
            return self._known[key]
        if self._lost:
            return Miss("the cache can't be read")
        try:
            manifest = self._store.get(key)
        except ImagewrightError as error:
            if error.reason is Reason.CANCELLED:
                raise
            if error.reason not in _OF_THE_STORE:
                return self._spoilt(key, error.message)
            self._lost = True
            self._warn(f"the cache {self._store.name} can't be read, so every step is executed: {error.message}")
            return Miss("the cache can't be read")
        if manifest is None:
            return Miss("")
        try:
            entry = read_entry(manifest, key)
        except ImagewrightError as error:
            return self._spoilt(key, error.message)
        age_s = time.time() - entry.created_s
        if self._ttl_s and age_s > self._ttl_s:
            return Miss(f"its entry is {_age(age_s)} old, and {_age(self._ttl_s)} are allowed")
        return entry

    def explain(self, stage: str, instruction: str, keys: Sequence[StepKey]) -> str:
        """Why a step has no entry: what differs from the last build that had it."""
        return self._trace.explain(stage, instruction, keys) if keys else ""

    def remember(self, stage: str, instruction: str, key: StepKey) -> None:
        """Note what a step of this build is made from."""
        self._trace.add(stage, instruction, key)

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The layer of an entry."""
        return self._store.open(key, descriptor)

    def spoil(self, key: str, why: str) -> bool:
        """An entry turned out to be unusable: it is a miss from now on. False where that was known before."""
        if key in self._broken:
            return False
        self._spoilt(key, why)
        return True

    def _spoilt(self, key: str, why: str) -> Miss:
        self._broken.add(key)
        spoilt = self._known.pop(key, None)
        if spoilt is not None and spoilt.layer is not None:  # the same layer under another key is no better
            same = [other for other, entry in self._known.items() if entry.layer == spoilt.layer]
            self._broken.update(same)
        self._warn(f"an entry of the cache {self._store.name} is passed over: {why}")
        return Miss("its entry in the cache is damaged")

    def keep(self, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
        """A step was executed: store what it made, beside the build."""
        with self._lock:
            self._known[entry.key] = entry
            self._broken.discard(entry.key)
            if self._push and not self._full and not self._closing:
                self._uploads.append(self._pool.submit(self._upload, entry, platform, self._until_closed(open_blob)))

    def finish(self, platform: Platform) -> None:
        """Wait until all is stored, and what this build was made from too, where it executed anything."""
        for upload in self._uploads:
            upload.result()
        if self._uploads and not self._full and self._trace.worth_storing:
            try:
                self._store.put(self._trace_key, *self._trace.image(platform), _no_blob)
            except (ImagewrightError, OSError, ValueError) as error:
                self._warn(f"the cache {self._store.name} doesn't take what explains misses: {error}")

    def close(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _upload(self, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
        if self._full:
            return
        try:
            manifest, config = entry.image(platform)
            self._store.put(entry.key, manifest, config, open_blob)
        except (ImagewrightError, OSError, ValueError) as error:
            if self._closing:
                return
            of_store = isinstance(error, ImagewrightError) and error.reason in _OF_THE_STORE | _NOT_TAKEN
            self._full = self._full or of_store
            what = "nothing more" if of_store else "a step"
            self._warn(f"{what} is {'' if of_store else 'not '}stored in the cache {self._store.name}: {error}")

    def _until_closed(self, open_blob: OpenBlob) -> OpenBlob:
        """A blob of which no more is read once the build has ended: nobody waits for its upload then."""

        @contextmanager
        def opened(descriptor: Descriptor) -> Iterator[Readable]:
            with open_blob(descriptor) as stream:
                yield _Stoppable(stream, lambda: self._closing)

        return opened

    def _load_trace(self) -> bytes:
        try:
            manifest = self._store.get(self._trace_key)
            if manifest is None or manifest.config.size > MAX_DOCUMENT_BYTES:
                return b""
            with self._store.open(self._trace_key, manifest.config) as stream:
                return read_whole(stream)
        except ImagewrightError as error:
            if error.reason is Reason.CANCELLED:
                raise
            return b""  # it only explains


@dataclass(frozen=True, slots=True)
class _Stoppable:
    stream: Readable
    stopped: Callable[[], bool]

    def read(self, size: int = -1, /) -> bytes:
        if self.stopped():
            raise ImagewrightError("the build has ended", reason=Reason.CANCELLED)
        return self.stream.read(size)


def _no_blob(descriptor: Descriptor) -> AbstractContextManager[Readable]:
    raise AssertionError("it has no layer of its own")


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.1f} hours"

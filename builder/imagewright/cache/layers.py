"""The layer cache of a build: looks up entries in a store, and uploads new ones in the background.

Accesses the given store and starts one thread. Errors of a cache never fail a build: they cause a warning, and the step
is executed.
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

# Errors of the whole store; others concern a single entry.
_STORE_ERRORS = frozenset({Reason.REGISTRY_UNAVAILABLE, Reason.REGISTRY_AUTH_FAILED, Reason.NOT_SUPPORTED})
_UPLOAD_ERRORS = frozenset({Reason.PUSH_FAILED, Reason.OUTPUT_FAILED, Reason.DISK_FULL})


class EntryStore(Protocol):
    """Stores entries, images with a name each. Safe for concurrent builds. Errors are ImagewrightError."""

    @property
    def name(self) -> str:
        """The name for messages."""

    @property
    def found_at(self) -> Reference | None:
        """The repository, from which its registry can mount layers, None if the store is not a registry."""

    def get(self, key: str) -> Manifest | None: ...

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A blob of an entry, as stored."""

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None: ...


@dataclass(frozen=True, slots=True)
class Miss:
    """``why`` is for messages."""

    why: str


@dataclass(frozen=True, slots=True)
class Settings:
    """``ttl_s`` is the maximum age of an entry in seconds, 0 for no limit. ``push``: store new entries.

    ``build`` identifies repeated builds of the same image, whose traces are compared.
    """

    ttl_s: int
    push: bool
    build: str


class LayerCache:
    """A cache as one build uses it. Thread-safe. ``warn`` reports errors of the cache to the user."""

    def __init__(self, store: EntryStore, settings: Settings, warn: Callable[[str], None]) -> None:
        self._store = store
        self._trace_key = FramedHash("trace", settings.build).hexdigest()
        self._trace = Trace(self._load_trace)
        self._ttl_s = settings.ttl_s
        self._push = settings.push
        self._warn = warn
        self._own: dict[str, Entry] = {}  # made by this build
        self._broken: set[str] = set()
        self._unreadable = False  # don't wait for an unavailable store at every step
        self._unwritable = False
        self._closing = False
        self._uploads: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cache")
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def found_at(self) -> Reference | None:
        return self._store.found_at

    def find(self, key: str) -> Entry | Miss:
        """The entry of a key, or why there is none."""
        if key in self._broken:
            return Miss("its entry in the cache is damaged")
        if key in self._own:
            return self._own[key]
        if self._unreadable:
            return Miss("the cache cannot be read")
        try:
            manifest = self._store.get(key)
        except ImagewrightError as error:
            if error.reason is Reason.CANCELLED:
                raise
            if error.reason not in _STORE_ERRORS:
                return self._invalidated(key, error.why)
            self._unreadable = True
            self._warn(f"cannot read the cache {self._store.name}, executing all steps: {error.why}")
            return Miss("the cache cannot be read")
        if manifest is None:
            return Miss("")
        try:
            entry = read_entry(manifest, key)
        except ImagewrightError as error:
            return self._invalidated(key, error.why)
        age_s = time.time() - entry.created_s
        if self._ttl_s and age_s > self._ttl_s:
            return Miss(f"its entry has expired: it is {_age(age_s)} old, the limit is {_age(self._ttl_s)}")
        return entry

    def explain(self, stage: str, instruction: str, keys: Sequence[StepKey]) -> str:
        """Why a step has no entry: the inputs that differ from the previous build."""
        return self._trace.explain(stage, instruction, keys) if keys else ""

    def remember(self, stage: str, instruction: str, key: StepKey) -> None:
        """Record the inputs of a step of this build."""
        self._trace.add(stage, instruction, key)

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The layer of an entry."""
        return self._store.open(key, descriptor)

    def invalidate(self, key: str, why: str) -> bool:
        """Treat an unusable entry as a miss from now on. False if it already was."""
        if key in self._broken:
            return False
        self._invalidated(key, why)
        return True

    def _invalidated(self, key: str, why: str) -> Miss:
        self._broken.add(key)
        entry = self._own.pop(key, None)
        if entry is not None and entry.layer is not None:  # the same layer under another key is unusable, too
            same = [other for other, known in self._own.items() if known.layer == entry.layer]
            self._broken.update(same)
        self._warn(f"ignoring an entry of the cache {self._store.name}: {why}")
        return Miss("its entry in the cache is damaged")

    def keep(self, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
        """Store the result of an executed step, in the background."""
        with self._lock:
            self._own[entry.key] = entry
            self._broken.discard(entry.key)
            if self._push and not self._unwritable and not self._closing:
                self._uploads.append(self._pool.submit(self._upload, entry, platform, self._until_closed(open_blob)))

    def finish(self, platform: Platform) -> None:
        """Wait for all uploads. If there were any, store the trace of this build, too."""
        for upload in self._uploads:
            upload.result()
        if self._uploads and not self._unwritable and self._trace.worth_storing:
            try:
                self._store.put(self._trace_key, *self._trace.image(platform), _no_blob)
            except (ImagewrightError, OSError, ValueError) as error:
                self._warn(f"cannot store the trace of the build in the cache {self._store.name}: {_why(error)}")

    def close(self) -> None:
        """Cancel pending uploads and wait for the current one."""
        self._closing = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _upload(self, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
        if self._unwritable:
            return
        try:
            manifest, config = entry.image(platform)
            self._store.put(entry.key, manifest, config, open_blob)
        except (ImagewrightError, OSError, ValueError) as error:
            if self._closing:
                return
            of_store = isinstance(error, ImagewrightError) and error.reason in _STORE_ERRORS | _UPLOAD_ERRORS
            self._unwritable = self._unwritable or of_store
            what = "any more steps" if of_store else "a step"
            self._warn(f"cannot store {what} in the cache {self._store.name}: {_why(error)}")

    def _until_closed(self, open_blob: OpenBlob) -> OpenBlob:
        """A blob whose reads fail once the build has ended, to stop its upload."""

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
            return b""  # only explanations need it


@dataclass(frozen=True, slots=True)
class _Stoppable:
    stream: Readable
    stopped: Callable[[], bool]

    def read(self, size: int = -1, /) -> bytes:
        if self.stopped():
            raise ImagewrightError("the build has ended", reason=Reason.CANCELLED)
        return self.stream.read(size)


def _no_blob(descriptor: Descriptor) -> AbstractContextManager[Readable]:
    raise AssertionError("a trace has no layer of its own")


def _why(error: Exception) -> str:
    """The cause alone: the warning says what was attempted."""
    return error.why if isinstance(error, ImagewrightError) else str(error)


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.1f} hours"

"""The layer cache of a build: looks entries up, and uploads new ones in the background.

Accesses the given stores. Errors of a cache never fail a build: they cause a warning, and the
step is executed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from imagewright.cache.entry import Entry
from imagewright.cache.keys import StepKey
from imagewright.cache.sources import DAMAGED, EntryStore, Miss, Sources
from imagewright.cache.target import OF_THE_STORE, Target
from imagewright.cache.trace import Trace
from imagewright.digest import FramedHash
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.platform import Platform
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.streams import Readable

_UPLOAD_ERRORS = OF_THE_STORE | {Reason.PUSH_FAILED}


class LayerCache:
    """A cache as one build uses it. Thread-safe. ``warn`` reports errors of the cache to the user.

    ``target`` is where new entries are stored, None for nowhere. ``build`` identifies repeated builds of the same
    image, whose traces are compared.
    """

    def __init__(self, sources: Sources, target: Target | None, build: str, warn: Callable[[str], None]) -> None:
        self._sources = sources
        self._target = target
        self._trace_key = FramedHash("trace", build).hexdigest()
        self._trace = Trace(lambda: sources.load(self._trace_key))
        self._warn = warn
        self._own: dict[str, Entry] = {}  # made by this build
        self._broken: set[str] = set()  # of those
        self._uploads: list[Future[None]] = []
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Where entries are looked up, for messages."""
        return self._sources.name

    @property
    def stored_at(self) -> Reference | None:
        """The repository with the layers of this build, from which its registry can mount them."""
        return self._target.store.found_at if self._target is not None else None

    def found_at(self, layer: Descriptor) -> Reference | None:
        """The repository of a layer that was found, from which its registry can mount it."""
        return self._sources.found_at(layer.digest)

    def find(self, key: str) -> Entry | Miss:
        """The entry of a key, or why there is none."""
        if key in self._broken:
            return Miss(DAMAGED)
        return self._own.get(key) or self._sources.find(key)

    def explain(self, stage: str, instruction: str, keys: Sequence[StepKey]) -> str:
        """Why a step has no entry: the inputs that differ from the previous build."""
        return self._trace.explain(stage, instruction, keys) if keys else ""

    def remember(self, stage: str, instruction: str, key: StepKey) -> None:
        """Record the inputs of a step of this build."""
        self._trace.add(stage, instruction, key)

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The layer of an entry that was found."""
        return self._sources.open(key, descriptor)

    def invalidate(self, key: str, why: str) -> bool:
        """Treat an unusable entry as a miss from now on. False if it already was."""
        entry = self._own.pop(key, None)
        if entry is None:
            return self._sources.invalidate(key, why)
        self._broken.add(key)
        if entry.layer is not None:  # the same layer under another key is unusable, too
            self._broken.update(other for other, known in self._own.items() if known.layer == entry.layer)
        self._warn(f"ignoring an entry of the cache {self.name}: {why}")
        return True

    def keep(self, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
        """Store the result of an executed step, in the background."""
        with self._lock:
            self._own[entry.key] = entry
            self._broken.discard(entry.key)
            target = self._target
            if target is not None:
                blob = _until_closed(target, open_blob)
                self._uploads += target.submit(partial(_upload, target, entry, platform, blob))

    def finish(self, platform: Platform) -> None:
        """Wait for all uploads. If there were any, store the trace of this build, too."""
        for upload in self._uploads:
            upload.result()
        if self._target is not None and self._uploads and self._trace.worth_storing:
            what = "the trace of the build"
            self._target.attempt(
                lambda store: store.put(self._trace_key, *self._trace.image(platform), _no_blob), what, what
            )

    def close(self) -> None:
        """Cancel pending uploads, and end the current one where its server lets it."""
        if self._target is not None:
            self._target.close()


def _upload(target: Target, entry: Entry, platform: Platform, open_blob: OpenBlob) -> None:
    def put(store: EntryStore) -> None:
        manifest, config = entry.image(platform)
        store.put(entry.key, manifest, config, open_blob)

    target.attempt(put, "a step", "any more steps", _UPLOAD_ERRORS)


def _until_closed(target: Target, open_blob: OpenBlob) -> OpenBlob:
    """A blob whose reads fail once the build has ended, to stop its upload."""

    @contextmanager
    def opened(descriptor: Descriptor) -> Iterator[Readable]:
        with open_blob(descriptor) as stream:
            yield _Stoppable(stream, lambda: target.closing)

    return opened


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

"""Uploads that begin before an image is complete, while the rest of it is still being built.

Starts threads, and talks to registries through the given pusher. Nothing of this fails a build: what could not be
uploaded is uploaded by the push, which reports why it can't be.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, suppress
from dataclasses import field
from functools import partial

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.blobpush import BlobPusher, Found, Origin
from imagewright.registry.upload import Content, Progress
from imagewright.streams import Readable
from imagewright.workers import Patience, Workers

UPLOADS_AT_ONCE = 3
# A registry may collect blobs that no manifest names, though none is known to do so sooner than in an hour.
TRUSTED_S = 600.0


@dataclass(slots=True)
class _Blob:
    """``there`` and ``lacking`` say when a registry was seen to have it or not. ``lock`` is held by its task."""

    there: dict[str, float] = field(default_factory=dict)
    lacking: dict[str, float] = field(default_factory=dict)
    sent: bool = False  # or is about to be
    lock: threading.Lock = field(default_factory=threading.Lock)
    tasks: list[Future[None]] = field(default_factory=list)


class EarlyUploads:
    """Blobs on their way to the first repository of each registry; the others mount them from it in the end.

    May be used from several threads. ``report`` gets a line for the log if an upload fails: nothing more is then sent
    to that registry before the push. What was seen longer than ``trusted_s`` ago is looked for again by the push.
    """

    def __init__(
        self,
        pusher: BlobPusher,
        destinations: Sequence[Reference],
        report: Callable[[str], None],
        trusted_s: float,
        patience: Patience,
    ) -> None:
        self._pusher = pusher
        self._destinations = {each.registry: each for each in reversed(destinations)}
        self._given_up: set[str] = set()
        self._report = report
        self._trusted_s = trusted_s
        self._blobs: dict[Digest, _Blob] = {}
        self._workers = Workers(UPLOADS_AT_ONCE, "upload", patience)
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def look(self, descriptor: Descriptor, repository: Reference | None) -> None:
        """Look for a blob, and mount it from ``repository`` if it can be, in the background, once."""
        with self._lock:
            if descriptor.digest in self._blobs or self._cancelled.is_set():
                return
            blob = self._blobs[descriptor.digest] = _Blob()
            self._submit(blob, partial(self._look, blob, descriptor, Origin(repository)))

    def send(
        self,
        descriptor: Descriptor,
        open_blob: Callable[[], AbstractContextManager[Readable]],
        progress: Progress,
        repository: Reference | None = None,
        besides: str = "",
    ) -> None:
        """Upload a blob, unless it is there or can be mounted, in the background, once; not to the registry
        ``besides``, which gets it in another way.
        """
        with self._lock:
            blob = self._blobs.setdefault(descriptor.digest, _Blob())
            if blob.sent or self._cancelled.is_set():
                return
            blob.sent = True
            content = Content(descriptor, open_blob, progress, self._cancelled)
            self._submit(blob, partial(self._send, blob, content, Origin(repository), besides))

    def lacks(self, digest: Digest) -> bool:
        """Whether a registry is known not to have a blob; waits for ``look``."""
        with self._lock:
            blob = self._blobs.get(digest)
        if blob is None:
            return False
        _wait_for(blob)
        return bool(blob.lacking)

    def knows(self, digest: Digest) -> bool:
        """Whether a blob was sent or looked for, or will be."""
        return digest in self._blobs

    def found(self, digest: Digest, destination: Reference) -> Found | None:
        """Whether the destination's repository has a blob, None if it has to be asked; waits for the blob's upload."""
        first = self._destinations.get(destination.registry)
        blob = self._blobs.get(digest)
        if blob is None or first is None or first.repository != destination.repository:
            return None
        _wait_for(blob)
        for seen, there in ((blob.there, True), (blob.lacking, False)):
            if time.monotonic() - seen.get(destination.registry, -math.inf) < self._trusted_s:
                return Found(there)
        return None

    def close(self) -> None:
        """End everything, where a server lets it."""
        self._cancelled.set()
        self._workers.abandon()

    def _submit(self, blob: _Blob, task: Callable[[], None]) -> None:
        blob.tasks.append(self._workers.submit(task))

    def _look(self, blob: _Blob, descriptor: Descriptor, origin: Origin) -> None:
        def find(destination: Reference) -> bool:
            # An upload that the registry has begun instead of a mount expires: it may be long until there is one.
            return self._pusher.find(destination, descriptor, origin).there

        self._everywhere(blob, find, "")

    def _send(self, blob: _Blob, content: Content, origin: Origin, besides: str) -> None:
        def push(destination: Reference) -> bool:
            known = Found(there=False) if blob.lacking.pop(destination.registry, None) is not None else None
            self._pusher.push(destination, content, origin, known)
            return True

        self._everywhere(blob, push, besides)

    def _everywhere(self, blob: _Blob, act: Callable[[Reference], bool], besides: str) -> None:
        """Do something for all registries that aren't seen to have a blob; ``act`` says whether they have it now."""
        with blob.lock:
            for registry, destination in self._destinations.items():
                if registry in {*blob.there, *self._given_up, besides} or self._cancelled.is_set():
                    continue
                try:
                    has_it = act(destination)
                except (ImagewrightError, OSError) as error:
                    self._give_up(registry, error)
                    continue
                if has_it:
                    blob.there[registry] = time.monotonic()
                else:
                    blob.lacking[registry] = time.monotonic()

    def _give_up(self, registry: str, error: Exception) -> None:
        if not self._cancelled.is_set():
            self._given_up.add(registry)
            self._report(f"uploads to {registry} are left to the push: {error}")


def _wait_for(blob: _Blob) -> None:
    for task in tuple(blob.tasks):
        with suppress(CancelledError):
            task.exception()

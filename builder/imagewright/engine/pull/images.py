"""Base images as a build uses them: resolved once, their layers streamed into a root file system.

Talks to registries through the given puller.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from imagewright.digest import Digest
from imagewright.engine.events import Reporter, Transfer, timed
from imagewright.engine.layers import Layer, LayerOrigin
from imagewright.engine.pull.layouts import Layouts, WarmCache
from imagewright.engine.pull.streaming import Ending, InflatedLayer, KeptStream, Spool
from imagewright.engine.workspace import Workspace
from imagewright.errors import ImagewrightError, Location, Reason, RegistryError
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.layer.unmodified import StoredLayer
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.decompress import open_layer
from imagewright.fs.tar.reader import read_rest
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.plan.options import ConfigRequest
from imagewright.plan.origins import ImageOrigin
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.pull import Puller, RemoteImage
from imagewright.store.blobs import BlobStore
from imagewright.streams import Readable
from imagewright.workers import Patience, Workers

KeepIndex = Callable[[Digest, IndexWriter], None]  # is given the diff ID of a layer, and its entries
DOWNLOADS_AT_ONCE = 3
_NOT_THE_ENTRYS_FAULT = frozenset({Reason.CANCELLED, Reason.DISK_FULL, Reason.ID_OUT_OF_RANGE})
_PULL_FAILURES = frozenset({Reason.REGISTRY_UNAVAILABLE})


class BrokenEntry(ImagewrightError):
    """A layer of the cache cannot be read, or does not match its entry: the build starts over without that entry."""

    default_reason = Reason.REGISTRY_PROTOCOL_ERROR

    def __init__(self, key: str, error: ImagewrightError) -> None:
        super().__init__(error.message, reason=error.reason, hint=error.hint)
        self.key = key


@dataclass(frozen=True, slots=True)
class ImageSources:
    """Where images come from: registries, OCI layouts of named contexts, layers of the warm cache."""

    puller: Puller
    layouts: Layouts
    warm_cache: WarmCache


class Images:
    """Resolves references and unpacks images. ``resolve`` and ``open_stored`` may be called from several threads."""

    def __init__(
        self, sources: ImageSources, workspace: Workspace, blobs: BlobStore, reporter: Reporter, patience: Patience
    ) -> None:
        self._puller = sources.puller
        self._layouts = sources.layouts
        self._warm_cache = sources.warm_cache
        self._workspace = workspace
        self.blobs = blobs
        self.reporter = reporter
        self.patience = patience
        self._resolved: dict[tuple[Reference, Platform], RemoteImage] = {}
        self._unpacked: dict[Digest, Rootfs] = {}
        self._lock = threading.Lock()
        self._unpacking: set[Digest] = set()
        self._released = threading.Condition()

    def config_for(self, request: ConfigRequest) -> ImageConfig:
        """The configuration of a base image, for the planner.

        Raises:
            RegistryError: with the location of the image's name in the Dockerfile.
        """
        return self._resolve_named(request, request.location).config

    def check(self, origin: ImageOrigin, location: Location) -> None:
        """Resolve the image of a COPY --from, so that a wrong name fails before anything is built."""
        self._resolve_named(origin, location)

    def _resolve_named(self, named: ConfigRequest | ImageOrigin, location: Location | None) -> RemoteImage:
        try:
            return self.resolve(named.reference, named.platform)
        except ImagewrightError as error:
            error.location = error.location or location
            if error.reason in _PULL_FAILURES:
                error.reason = Reason.BASE_IMAGE_PULL_FAILED
            error.hint = " ".join(filter(None, (named.hint, error.hint)))
            raise

    def _source(self, reference: Reference) -> Puller | Layouts:
        return self._layouts if self._layouts.has(reference) else self._puller

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image's manifest and configuration, fetched once in a build, even if its tag moves meanwhile."""
        with self._lock:
            image = self._resolved.get((reference, platform))
            if image is None:
                with timed(self.reporter, "resolve", reference.familiar()):
                    image = self._source(reference).resolve(reference, platform)
                if len(image.config.diff_ids) != len(image.manifest.layers):
                    raise RegistryError(
                        f'cannot use image "{reference.familiar()}": its manifest has {len(image.manifest.layers)} layers, '
                        f"its configuration {len(image.config.diff_ids)}",
                        reason=Reason.REGISTRY_PROTOCOL_ERROR,
                        hint="The image is damaged: push it again, or use another one.",
                    )
                self._resolved[(reference, platform)] = image
                self.reporter.message(f"{reference.familiar()} is {image.manifest.digest} for {platform}")
            return image

    def layers(self, image: RemoteImage) -> list[Layer]:
        """The image's layers, base first."""
        source = self._source(image.reference)

        def open_layer_of(descriptor: Descriptor) -> AbstractContextManager[Readable]:
            if self._warm_cache.has(descriptor):
                return self._warm_cache.open(descriptor)
            return source.open_blob(image, descriptor)

        origin = LayerOrigin(open_layer_of, _repository_of(image))
        ranges = replace(origin, read_range=partial(source.read_range, image)) if isinstance(source, Puller) else origin
        return [
            Layer(descriptor, diff_id, origin if self._warm_cache.has(descriptor) else ranges)
            for descriptor, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
        ]

    def unpack(self, layers: Sequence[Layer], rootfs: Rootfs, name: str, keep: KeepIndex | None) -> None:
        """Unpack layers into ``rootfs``, in order; downloads run ahead. ``name`` is the image's, for warnings.

        ``keep`` is given the index of each layer, which is only made for it.
        Layers stay in the blob store: another stage may start from them, and a push to another registry or an archive
        needs them again.
        """
        with self.exclusive({layer.descriptor.digest for layer in layers}), ExitStack() as stack:
            spools = {layer.descriptor.digest: self._spool(layer) for layer in layers if not self.has(layer)}
            for spool in spools.values():
                stack.callback(spool.close)
            workers = stack.enter_context(
                Workers(DOWNLOADS_AT_ONCE, "pull", self.patience)
            )  # waits for all downloads together
            for spool in spools.values():
                stack.callback(spool.stop)
                workers.submit(spool.download)
            skipped = sum(self._unpack_one(layer, rootfs, spools, keep) for layer in layers)
        warn_of_skipped(skipped, name, self.reporter)

    @contextmanager
    def exclusive(self, digests: set[Digest]) -> Iterator[None]:
        """Wait until no other stage uses one of these, and make others wait: each layer is downloaded once."""
        with self._released:
            self._released.wait_for(lambda: self._unpacking.isdisjoint(digests))
            self._unpacking |= digests
        try:
            yield
        finally:
            with self._released:
                self._unpacking -= digests
                self._released.notify_all()

    def _unpack_one(self, layer: Layer, rootfs: Rootfs, spools: Mapping[Digest, Spool], keep: KeepIndex | None) -> int:
        """Unpack one layer and keep it; the number of skipped devices."""
        index = IndexWriter() if keep is not None else None
        with blaming_entry(layer):
            skipped = self._unpack_layer(layer, rootfs, spools, index)
        if index is not None and keep is not None:
            keep(layer.diff_id, index)
        return skipped

    def _unpack_layer(
        self, layer: Layer, rootfs: Rootfs, spools: Mapping[Digest, Spool], index: IndexWriter | None
    ) -> int:
        digest = layer.descriptor.digest

        def stop() -> None:
            for spool in spools.values():
                spool.stop()  # nothing reads the other downloads any more

        ending = Ending(stop, self.patience)
        with (
            InflatedLayer(lambda: self._inflated(layer, spools), layer.diff_id, layer.name, ending) as tar,
            timed(self.reporter, "unpack", layer.name),
        ):
            stats = unpack_layer(rootfs, tar, index=index)
            read_rest(tar, "the layer")
        if not self.has(layer):
            spools[digest].keep(self.blobs.path(digest))
        return stats.skipped_devices

    def has(self, layer: Layer) -> bool:
        """Whether the blob store has a layer."""
        return self.blobs.has(layer.descriptor.digest)

    def _spool(self, layer: Layer) -> Spool:
        return Spool(os.path.join(self._workspace.layers, layer.descriptor.digest.hex), lambda: self.open_stored(layer))

    @contextmanager
    def _inflated(self, layer: Layer, spools: Mapping[Digest, Spool]) -> Iterator[Readable]:
        with timed(self.reporter, "inflate", layer.name):
            if self.has(layer):
                with self._open_kept(layer.descriptor.digest) as stream:
                    yield stream
            else:
                yield open_layer(spools[layer.descriptor.digest])

    def rootfs_of(self, reference: Reference, platform: Platform, keep: KeepIndex | None) -> Rootfs:
        """The unpacked image of a COPY --from, unpacked once in a build. ``keep`` is as for ``unpack``."""
        image = self.resolve(reference, platform)
        digest = image.manifest.digest
        with self.exclusive({digest}):
            if digest not in self._unpacked:
                rootfs = self._workspace.image(digest.hex)
                self.unpack(self.layers(image), rootfs, reference.familiar(), keep)
                self._unpacked[digest] = rootfs
            return self._unpacked[digest]

    def stored(self, layers: Sequence[Layer]) -> Iterator[StoredLayer]:
        """The layers in the blob store, topmost first, down to the first that isn't there."""
        for descriptor in (layer.descriptor for layer in reversed(layers)):
            if not self.blobs.has(descriptor.digest):
                return
            yield StoredLayer(descriptor.size, partial(self._open_kept, descriptor.digest))

    @contextmanager
    def _open_kept(self, digest: Digest) -> Iterator[Readable]:
        with self.blobs.open(digest) as file:
            yield open_layer(file)

    @contextmanager
    def open_layer(self, layer: Layer) -> Iterator[Readable]:
        """A layer, compressed: of the blob store, else as ``open_stored``."""
        if self.has(layer):
            with self.blobs.open(layer.descriptor.digest) as file:
                yield file
        else:
            with self.open_stored(layer) as stream:
                yield stream

    @contextmanager
    def open_keeping(self, layer: Layer) -> Iterator[Readable]:
        """As ``open_layer``; once the layer was read, the blob store has it, if the disk has room."""
        with self.open_layer(layer) as stream:
            if self.has(layer):
                yield stream
                return
            with self.blobs.writer() as out:
                kept = KeptStream(stream, out)
                yield kept
                kept.commit(layer.descriptor.digest)

    @contextmanager
    def open_stored(self, layer: Layer) -> Iterator[Readable]:
        """A layer of a registry or cache, as it is stored there, verified."""
        assert layer.origin is not None
        descriptor = layer.descriptor
        with (
            timed(self.reporter, "download", layer.name, descriptor.size),
            blaming_entry(layer),
            layer.origin.open(descriptor) as stream,
        ):
            yield _ReportedStream(stream, descriptor, self.reporter)


def warn_of_skipped(count: int, name: str, reporter: Reporter) -> None:
    """Warn of devices of an image that could not be created."""
    if count:
        reporter.warning(f"skipped {count} devices of {name}: they cannot be created in a user namespace")


@contextmanager
def blaming_entry(layer: Layer) -> Iterator[None]:
    """Turn errors of a cached layer into ``BrokenEntry``."""
    try:
        yield
    except BrokenEntry:
        raise
    except ImagewrightError as error:
        if layer.origin is None or not layer.origin.cache_key or error.reason in _NOT_THE_ENTRYS_FAULT:
            raise
        raise BrokenEntry(layer.origin.cache_key, error) from error


def _repository_of(image: RemoteImage) -> Reference | None:
    """The repository that the image was pulled from: a mirror's layers can be mounted in the mirror's registry."""
    if not image.location:
        return None
    endpoint = image.location[0]
    return Reference.parse(f"{endpoint.host}/{endpoint.repository(image.reference)}")


class _ReportedStream:
    """Reports the progress of a download."""

    def __init__(self, stream: Readable, descriptor: Descriptor, reporter: Reporter) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self.reporter = reporter
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        self.reporter.transfer(
            Transfer("pull", self._descriptor.digest.hex[:12], self._done, self._descriptor.size, finished=not data)
        )
        return data

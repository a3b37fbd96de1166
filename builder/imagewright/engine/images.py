"""Images of registries, as a build uses them: resolved once, their layers streamed into a root file system.

Talks to registries through the client it is given. Called by ``engine.build`` and ``engine.stage``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from imagewright.digest import Digest
from imagewright.engine.events import Reporter, Transfer
from imagewright.engine.pipeline import InflatedLayer, Readable, Spool
from imagewright.engine.workspace import Workspace
from imagewright.errors import Location, Reason, RegistryError
from imagewright.fs.decompress import open_layer
from imagewright.fs.rootfs import Rootfs
from imagewright.fs.unpack import unpack_layer
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.plan import ImageOrigin, NeedConfig
from imagewright.reference import Reference
from imagewright.registry.client import RegistryClient, RemoteImage

_DOWNLOADS_AT_ONCE = 3
_PULL_FAILURES = frozenset({Reason.REGISTRY_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the image that is being built. ``origin`` is the image it came with, None where this build made it."""

    descriptor: Descriptor
    diff_id: Digest
    origin: RemoteImage | None = None


class Images:
    """Resolves references and unpacks images. Safe to call from several threads."""

    def __init__(self, client: RegistryClient, workspace: Workspace, reporter: Reporter) -> None:
        self._client = client
        self._workspace = workspace
        self._reporter = reporter
        self._resolved: dict[tuple[Reference, Platform], RemoteImage] = {}
        self._unpacked: dict[Digest, str] = {}
        self._lock = threading.Lock()

    def config_for(self, need: NeedConfig) -> ImageConfig:
        """Answer the planner.

        Raises:
            RegistryError: with the place in the Dockerfile that names the image.
        """
        return self._resolve_named(need, need.location).config

    def check(self, origin: ImageOrigin, location: Location) -> None:
        """Resolve what a COPY --from names, so that a wrong name fails before anything is built."""
        self._resolve_named(origin, location)

    def _resolve_named(self, named: NeedConfig | ImageOrigin, location: Location | None) -> RemoteImage:
        try:
            return self.resolve(named.reference, named.platform)
        except RegistryError as error:
            error.location = error.location or location
            if error.reason in _PULL_FAILURES:
                error.reason = Reason.BASE_IMAGE_PULL_FAILED
            error.hint = " ".join(filter(None, (named.hint, error.hint)))
            raise

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image's manifest and configuration, asked for once in a build so that a moving tag can't split it."""
        with self._lock:
            image = self._resolved.get((reference, platform))
            if image is None:
                image = self._client.resolve(reference, platform)
                if len(image.config.diff_ids) != len(image.manifest.layers):
                    raise RegistryError(
                        f"{reference.familiar()} has {len(image.manifest.layers)} layers in its manifest and "
                        f"{len(image.config.diff_ids)} in its configuration",
                        reason=Reason.REGISTRY_PROTOCOL_ERROR,
                        hint="The image is damaged; push it again, or use another.",
                    )
                self._resolved[(reference, platform)] = image
                self._reporter.message(f"{reference.familiar()} is {image.manifest.digest} for {platform}")
            return image

    def layers(self, image: RemoteImage) -> list[Layer]:
        """The image's layers, base first."""
        return [
            Layer(descriptor, diff_id, image)
            for descriptor, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
        ]

    def unpack(self, image: RemoteImage, rootfs: Rootfs) -> None:
        """Apply every layer to ``rootfs``, in order; downloads run ahead."""
        layers = self.layers(image)
        with ExitStack() as stack:
            spools = [Spool(self._spool_path(layer), lambda layer=layer: self._open(layer)) for layer in layers]  # type: ignore[misc]
            pool = stack.enter_context(ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="pull"))
            for spool in spools:
                stack.callback(spool.close)
                pool.submit(spool.download)
            stack.callback(_stop, spools)  # first of all: nothing waits for a download then
            for layer, spool in zip(layers, spools, strict=True):
                with InflatedLayer(lambda s=spool: _inflate(s), layer.diff_id, _short(layer)) as tar:  # type: ignore[misc]
                    unpack_layer(rootfs, tar)
                    tar.finish()
                spool.close()

    def rootfs_of(self, reference: Reference, platform: Platform) -> Rootfs:
        """The unpacked image for COPY --from, made once in a build."""
        image = self.resolve(reference, platform)
        digest = image.manifest.digest
        if digest not in self._unpacked:
            rootfs = Rootfs(self._workspace.image(digest.hex), frozenset())
            self.unpack(image, rootfs)
            self._unpacked[digest] = rootfs.path
        return Rootfs(self._unpacked[digest], frozenset())

    @contextmanager
    def open_stored(self, layer: Layer) -> Iterator[Readable]:
        """A base layer's bytes as the registry has them, verified."""
        with self._open(layer) as stream:
            yield stream

    def _spool_path(self, layer: Layer) -> str:
        return os.path.join(
            self._workspace.layers, f"{layer.descriptor.digest.hex}-{threading.get_ident()}-{id(layer)}"
        )

    @contextmanager
    def _open(self, layer: Layer) -> Iterator[Readable]:
        assert layer.origin is not None
        with self._client.open_blob(layer.origin, layer.descriptor) as stream:
            yield _Counted(stream, layer.descriptor, self._reporter)


class _Counted:
    """Tells the reporter how far a download is."""

    def __init__(self, stream: Readable, descriptor: Descriptor, reporter: Reporter) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._reporter = reporter
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        self._reporter.transfer(
            Transfer("pull", self._descriptor.digest.hex[:12], self._done, self._descriptor.size, finished=not data)
        )
        return data


def _stop(spools: list[Spool]) -> None:
    for spool in spools:
        spool.stop()


@contextmanager
def _inflate(stream: Readable) -> Iterator[Readable]:
    yield open_layer(stream)


def _short(layer: Layer) -> str:
    return f"sha256:{layer.descriptor.digest.hex[:12]}"

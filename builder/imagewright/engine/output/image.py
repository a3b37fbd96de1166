"""The image that a build made: its configuration and manifest, and writing or pushing it to all destinations.

Writes files, and pushes through the given pusher.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import field, replace

from imagewright.digest import Digest
from imagewright.engine.events import Reporter
from imagewright.engine.layers import Layer
from imagewright.engine.output.destinations import Destinations
from imagewright.engine.output.push import push_image
from imagewright.engine.pull.images import Images
from imagewright.engine.steps.origins import StageState
from imagewright.errors import UsageError
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat, layer_compression
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.early import EarlyUploads
from imagewright.registry.push import Pusher, PushImage
from imagewright.store.archive import write_docker_archive
from imagewright.store.layout import write_layout
from imagewright.streams import Readable


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The image that a build made."""

    manifest: Manifest
    config: bytes
    layers: tuple[Layer, ...]


def assemble(state: StageState, created: str, destinations: Destinations) -> BuiltImage:
    """The target stage's configuration with all layers and the whole history, and the manifest for it.

    Raises:
        UsageError: Docker's format is requested, but has no media type for the compression of a base layer.
    """
    image_format = _format(state, destinations)
    # Layers of a base in the other format get this one's media types.
    layers = [replace(layer, descriptor=layer.descriptor.of_family(image_format)) for layer in state.layers]
    config = state.plan.config.with_layers([layer.diff_id for layer in layers], state.history).with_created(created)
    raw = config.dump()
    descriptor = Descriptor.of(image_format.config, raw)
    described = [layer.descriptor for layer in layers]
    manifest = Manifest.build(image_format, descriptor, described, destinations.annotations)
    return BuiltImage(manifest, raw, tuple(layers))


def _format(state: StageState, destinations: Destinations) -> ImageFormat:
    """The requested format, else the base image's; only OCI has annotations and zstd."""
    asked = destinations.image_format or (ImageFormat.OCI if destinations.annotations else state.image_format)
    if asked is ImageFormat.DOCKER and any(
        layer_compression(layer.descriptor.media_type) == "zstd" for layer in state.layers
    ):
        raise UsageError(
            "cannot use --image-format=docker: it has no media type for the base image's zstd layers",
            hint="Use --image-format=oci (ImageBuild: spec.output.format), or no format at all.",
        )
    return asked


@dataclass(slots=True)
class Output:
    """Writes and pushes one image."""

    image: BuiltImage
    images: Images
    reporter: Reporter
    early: EarlyUploads | None = None  # what is uploaded already, or is about to be
    also_at: Reference | None = None  # another repository that may have new layers already: the layer cache's
    _by_digest: dict[Digest, Layer] = field(init=False)

    def __post_init__(self) -> None:
        self._by_digest = {layer.descriptor.digest: layer for layer in self.image.layers}

    def write(self, destinations: Destinations) -> None:
        """Write the files. Before the push, so that no tag moves if a file cannot be written.

        Raises:
            ImagewrightError: reason ``OutputFailed``.
        """
        image = self.image
        if destinations.oci_layout_path:
            name = destinations.references[0].tag if destinations.references else ""
            write_layout(destinations.oci_layout_path, image.manifest, image.config, self.open, name)
            self.reporter.message(f"wrote OCI layout {destinations.oci_layout_path}")
        if destinations.tar_path:
            write_docker_archive(
                destinations.tar_path, image.manifest, image.config, destinations.references, (self.open, _file_header)
            )
            self.reporter.message(f"wrote archive {destinations.tar_path}")

    def push(self, pusher: Pusher, destinations: Destinations) -> tuple[Reference, ...]:
        """Push to every destination; those that now have the image."""
        mount_from = {
            d: layer.origin.found_at
            for d, layer in self._by_digest.items()
            if layer.origin is not None and layer.origin.found_at is not None
        }
        fresh = {self.image.manifest.config.digest}
        if self.also_at is not None:
            stored = {d: self.also_at for d, layer in self._by_digest.items() if layer.origin is None}
            mount_from, fresh = mount_from | stored, fresh | stored.keys()
        image = PushImage(self.image.manifest, self.image.config, mount_from, frozenset(fresh), self.early)
        return push_image(pusher, image, destinations, self, self.reporter)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A layer as it is stored: of this build, or of the base image's registry."""
        return self.images.open_layer(self._by_digest[descriptor.digest])


def _file_header(name: str, size: int) -> bytes:
    return writer.header(Entry(name.encode(), REGULAR, 0o644, 0, 0, size, 0))

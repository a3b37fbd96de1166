"""Small images to push and pull in tests: layers of given bytes, a configuration that fits them. No I/O."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagewright.digest import Digest
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import ImageFormat
from imagewright.oci.platform import Platform


@dataclass(slots=True)
class MemoryImage:
    """An image whose blobs are in memory; serves as the source of a push and counts what was read of it."""

    manifest: Manifest
    config: bytes
    blobs: dict[Digest, bytes]
    opened: list[Digest] = field(default_factory=list)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[io.BytesIO]:
        self.opened.append(descriptor.digest)
        yield io.BytesIO(self.blobs[descriptor.digest])


def memory_image(
    layers: Sequence[bytes], image_format: ImageFormat = ImageFormat.OCI, platform: str = "linux/amd64"
) -> MemoryImage:
    """An image with these layers, taken as uncompressed."""
    digests = [Digest.of(layer) for layer in layers]
    history = [{"created_by": f"layer {n}"} for n in range(len(layers))]
    config = ImageConfig.scratch(Platform.parse(platform)).with_layers(digests, history).dump()
    descriptor = Descriptor(image_format.config, Digest.of(config), len(config))
    described = [
        Descriptor(image_format.layer("none"), digest, len(layer))
        for digest, layer in zip(digests, layers, strict=True)
    ]
    blobs = dict(zip(digests, layers, strict=True)) | {descriptor.digest: config}
    return MemoryImage(Manifest.build(image_format, descriptor, described), config, blobs)

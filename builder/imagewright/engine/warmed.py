"""Base images that are kept in a folder, so that builds need not download them again: kaniko's cache of base images.

Reads and writes an OCI image layout, asks registries. ``warm`` is called by ``imagewright warm``; ``WarmedLayers`` by
``engine.images``. A build still asks the registry what a tag is now: only layers come from the folder, by their digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.client import RegistryClient, RemoteImage
from imagewright.store.copying import is_whole
from imagewright.store.layout import blob_path, write_layout
from imagewright.streams import Readable, read_whole

_FOLDER = "images"  # below the cache folder, beside the cache mounts


def warm(
    client: RegistryClient,
    images: Iterable[tuple[Reference, Platform]],
    cache_dir: str,
    say: Callable[[str], None],
) -> None:
    """Bring images into the cache folder; what is there already, and whole, is not downloaded again.

    Raises:
        RegistryError: an image can't be pulled; those before it are there.
        ImagewrightError: reason ``OutputFailed``.
    """
    for reference, platform in images:
        image = client.resolve(reference, platform)
        config = _read(client, image, image.manifest)
        write_layout(
            os.path.join(cache_dir, _FOLDER),
            image.manifest,
            config,
            lambda descriptor, image=image: client.open_blob(image, descriptor),  # type: ignore[misc]
            reference.familiar(),
        )
        say(f"{reference.familiar()} ({platform}) is {image.manifest.digest}")


def _read(client: RegistryClient, image: RemoteImage, manifest: Manifest) -> bytes:
    """The configuration as it is stored: read and written again it would have another digest."""
    with client.open_blob(image, manifest.config) as stream:
        return read_whole(stream)


class WarmedLayers:
    """The layers of a cache folder; ``""`` is none."""

    def __init__(self, cache_dir: str) -> None:
        folder = os.path.join(cache_dir, _FOLDER) if cache_dir else ""
        self._folder = folder if folder and os.path.isfile(os.path.join(folder, "index.json")) else ""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a layer is there, whole: it is read to see that."""
        return bool(self._folder) and is_whole(blob_path(self._folder, descriptor.digest), descriptor)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """A layer that is there."""
        with open(blob_path(self._folder, descriptor.digest), "rb") as file:
            yield file

"""Images in OCI layouts on this machine: named contexts (``oci-layout://``) and the cache of ``imagewright warm``.

Reads and writes folders; ``warm`` talks to registries. An image of a named context has a reference like one of a
registry, which is never contacted. Of the warm cache only layers are used, by digest: a build still resolves tags at
the registry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from imagewright.contract.sources import LayoutSource, NamedContext
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.pull import Puller, RemoteImage
from imagewright.store.copying import is_whole
from imagewright.store.layout import blob_path, write_layout
from imagewright.store.layoutreader import LayoutReader
from imagewright.streams import Readable, read_whole

_REGISTRY = "oci-layout.invalid"  # no host can have this name (RFC 2606)


def layout_reference(context: str) -> Reference:
    """The reference of a named context's image inside a build."""
    return Reference.parse(f"{_REGISTRY}/{re.sub('[^a-z0-9/]+', '-', context).strip('-/')}")


class Layouts:
    """The layouts of a build, by the references that ``layout_reference`` gives."""

    def __init__(self, contexts: Iterable[NamedContext]) -> None:
        self._sources: Mapping[Reference, LayoutSource] = {
            layout_reference(context.name): context.source
            for context in contexts
            if isinstance(context.source, LayoutSource)
        }

    def has(self, reference: Reference) -> bool:
        return reference in self._sources

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image for a platform.

        Raises:
            ImagewrightError: it does not exist, or is damaged.
        """
        source = self._sources[reference]
        manifest, config = LayoutReader(source.path).find(source.tag, source.digest, platform)
        return RemoteImage(reference, manifest, config, ())

    @contextmanager
    def open_blob(self, image: RemoteImage, descriptor: Descriptor) -> Iterator[Readable]:
        with LayoutReader(self._sources[image.reference].path).open(descriptor) as stream:
            yield stream


_FOLDER = "images"  # in the cache folder, next to the cache mounts


def warm(
    puller: Puller,
    images: Iterable[tuple[Reference, Platform]],
    cache_dir: str,
    say: Callable[[str], None],
) -> None:
    """Pull images into the cache folder; complete blobs that it has already are not downloaded again.

    Raises:
        RegistryError: an image cannot be pulled; those before it are in the folder.
        ImagewrightError: reason ``OutputFailed``.
    """
    for reference, platform in images:
        image = puller.resolve(reference, platform)
        config = _read(puller, image, image.manifest)
        write_layout(
            os.path.join(cache_dir, _FOLDER),
            image.manifest,
            config,
            lambda descriptor, image=image: puller.open_blob(image, descriptor),  # type: ignore[misc]
            reference.familiar(),
        )
        say(f"{reference.familiar()} ({platform}) is {image.manifest.digest}")


def _read(puller: Puller, image: RemoteImage, manifest: Manifest) -> bytes:
    """The configuration as it is stored: parsed and written again it could have another digest."""
    with puller.open_blob(image, manifest.config) as stream:
        return read_whole(stream)


class WarmCache:
    """The layers in a cache folder; ``""`` for none."""

    def __init__(self, cache_dir: str) -> None:
        folder = os.path.join(cache_dir, _FOLDER) if cache_dir else ""
        self._folder = folder if folder and os.path.isfile(os.path.join(folder, "index.json")) else ""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the folder has a layer, complete; reads it to verify that."""
        return bool(self._folder) and is_whole(blob_path(self._folder, descriptor.digest), descriptor)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """Open a layer of the folder."""
        with open(blob_path(self._folder, descriptor.digest), "rb") as file:
            yield file

"""Images of OCI layouts that named contexts bring (``--build-context name=oci-layout://…``).

Reads folders. Called by ``engine.images``, which treats them as images of a registry that is never asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from imagewright.contract.sources import LayoutSource, NamedContext
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.client import RemoteImage
from imagewright.store.layoutreader import LayoutReader
from imagewright.streams import Readable

_REGISTRY = "oci-layout.invalid"  # no host can have this name (RFC 2606)


def layout_reference(context: str) -> Reference:
    """How the image of a named context is called in a build."""
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
            ImagewrightError: it isn't there, or is damaged.
        """
        source = self._sources[reference]
        manifest, config = LayoutReader(source.path).find(source.tag, source.digest, platform)
        return RemoteImage(reference, manifest, config, ())

    @contextmanager
    def open_blob(self, image: RemoteImage, descriptor: Descriptor) -> Iterator[Readable]:
        with LayoutReader(self._sources[image.reference].path).open(descriptor) as stream:
            yield stream

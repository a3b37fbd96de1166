"""The registry client: what the engine sees of registries.

Talks to the network. Called by the engine. Composes ``pull`` and ``push`` over one transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from imagewright.digest import Digest
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.blob import BlobReader
from imagewright.registry.endpoints import Endpoints, RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.pull import Puller, RemoteImage
from imagewright.registry.push import Pusher, PushImage, TagImmutable
from imagewright.registry.transport import Transport
from imagewright.registry.upload import BlobSource, Progress

__all__ = ["BlobSource", "PushImage", "RegistryClient", "RegistryOptions", "RemoteImage", "TagImmutable"]


class RegistryClient:
    """Pulls and pushes. Safe to use from several threads. Errors are RegistryError."""

    def __init__(self, options: RegistryOptions, keychain: Keychain) -> None:
        endpoints, transport = Endpoints(options), Transport(options, keychain)
        self._puller = Puller(endpoints, transport)
        self._pusher = Pusher(endpoints, transport)

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """Manifest and configuration of an image for a platform."""
        return self._puller.resolve(reference, platform)

    def digest(self, reference: Reference) -> Digest:
        """The digest that a tag has now: of the index, where it names images for several platforms."""
        return self._puller.digest(reference)

    def open_blob(self, image: RemoteImage, descriptor: Descriptor) -> AbstractContextManager[BlobReader]:
        """One of the image's blobs as it is stored; verified by the time ``read`` returns b""."""
        return self._puller.open_blob(image, descriptor)

    def find(self, reference: Reference, *, pulling: bool = False) -> Manifest | None:
        """What a registry has under a name, asked of itself and of no mirror; None where there is nothing.

        ``pulling``: the registry is reached as for pulls, else as for pushes.
        """
        return self._puller.find(reference, pulling=pulling)

    def open_found(
        self, reference: Reference, descriptor: Descriptor, *, pulling: bool = False
    ) -> AbstractContextManager[BlobReader]:
        """A blob of an image that ``find`` gave; verified by the time ``read`` returns b""."""
        return self._puller.open_found(reference, descriptor, pulling=pulling)

    def push(self, image: PushImage, destinations: Sequence[Reference], blobs: BlobSource, progress: Progress) -> None:
        """Push one image to every destination, uploading each blob once a registry."""
        self._pusher.push(image, destinations, blobs, progress)

    def check_push(self, destination: Reference) -> None:
        """Raise what a push would raise for want of rights."""
        self._pusher.check_push(destination)

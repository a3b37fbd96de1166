"""Puts a blob into a repository: looked for there, mounted from another one, or uploaded.

Talks to registries through ``transport`` (distribution specification, "Pushing blobs").
"""

from __future__ import annotations

from imagewright.errors import RegistryError
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.failures import push_failed
from imagewright.registry.transport import Transport
from imagewright.registry.upload import Content, Target, Uploader

_SMALL_BYTES = 1 << 16  # sent sooner than asked for


@dataclass(frozen=True, slots=True)
class Found:
    """Whether a repository has a blob. If not, ``location`` is where its upload was begun, ``""`` if it was not."""

    there: bool
    location: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a blob comes from. ``repository`` may have it, None if none is known to.

    ``fresh``: this build made it, so that the destination hardly has it.
    """

    repository: Reference | None = None
    fresh: bool = False


class BlobPusher:
    """Puts blobs into repositories. Safe to use from several threads."""

    def __init__(self, transport: Transport) -> None:
        self._endpoints = transport.endpoints
        self.uploader = Uploader(transport)

    def target(self, destination: Reference) -> Target:
        """Where a destination's repository is."""
        endpoint = self._endpoints.for_push(destination)
        return Target(endpoint, endpoint.repository(destination))

    def find(self, destination: Reference, descriptor: Descriptor, origin: Origin) -> Found:
        """Look for a blob in the destination's repository, and mount it if it can be.

        Raises:
            RegistryError: as ``push``.
        """
        target = self.target(destination)
        try:
            return self._find(target, descriptor, _mountable(origin.repository, destination), fresh=origin.fresh)
        except RegistryError as error:
            raise _upload_failed(error, descriptor, target) from error

    def push(self, destination: Reference, content: Content, origin: Origin, found: Found | None = None) -> None:
        """Put a blob into the destination's repository. ``found`` is what ``find`` has said, None to ask it now.

        Raises:
            RegistryError: reasons ``PushFailed``, ``RegistryAuthFailed``, ``RegistryUnavailable``.
        """
        descriptor, target = content.descriptor, self.target(destination)
        content.progress(descriptor, 0, False)
        found = found or self.find(destination, descriptor, origin)
        if not found.there:
            try:
                self.uploader.upload(target, content, found.location)
            except RegistryError as error:
                raise _upload_failed(error, descriptor, target) from error
        content.progress(descriptor, 0 if found.there else descriptor.size, True)

    def _find(self, target: Target, descriptor: Descriptor, mountable: Reference | None, *, fresh: bool) -> Found:
        location = ""
        if fresh and mountable is None and descriptor.size <= _SMALL_BYTES:
            return Found(there=False)
        if fresh and mountable is not None:
            location = self.uploader.mount(target, descriptor, self.target(mountable).repository)
            if not location:
                return Found(there=True)
        if self.uploader.has(target, descriptor):
            return Found(there=True)
        if mountable is not None and not location:
            location = self.uploader.mount(target, descriptor, self.target(mountable).repository)
            return Found(not location, location)
        return Found(there=False, location=location)


def _upload_failed(error: RegistryError, descriptor: Descriptor, target: Target) -> RegistryError:
    return push_failed(error, f"cannot upload {descriptor.digest} to {target}")


def _mountable(origin: Reference | None, destination: Reference) -> Reference | None:
    """Blobs can only be mounted within one registry."""
    if origin is None or origin.registry != destination.registry or origin.repository == destination.repository:
        return None
    return origin

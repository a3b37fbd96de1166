"""Pulling: references become manifests and configurations, descriptors become verified streams.

Talks to registries through ``registry.transport``. Called by ``registry.client`` (distribution specification, "Pull").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError, UnsupportedError
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Index, Manifest, is_index
from imagewright.oci.mediatypes import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.auth import pull_scope
from imagewright.registry.blob import BlobPlace, BlobReader
from imagewright.registry.endpoints import Endpoint, Endpoints
from imagewright.registry.failures import clean, protocol_error
from imagewright.registry.transport import Request, Transport
from imagewright.streams import read_whole

_T = TypeVar("_T")
_ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of one platform. ``location`` are the addresses to ask for its blobs: where it was found, then others."""

    reference: Reference
    manifest: Manifest
    config: ImageConfig
    location: tuple[Endpoint, ...]


class Puller:
    """Resolves and downloads. Safe to use from several threads."""

    def __init__(self, endpoints: Endpoints, transport: Transport) -> None:
        self._endpoints = endpoints
        self._transport = transport

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image for a platform, from the first address that has it.

        Raises:
            RegistryError: of the registry itself, where the mirrors fail too; its hint says how those did.
        """
        return self._from_first(reference, lambda places: self._resolve_at(places, reference, platform))

    def digest(self, reference: Reference) -> Digest:
        """The digest of what the registry serves for a tag: an image's manifest, or the index of all its platforms.

        Raises:
            RegistryError: as ``resolve``.
        """
        return self._from_first(reference, lambda places: self._digest_at(places, reference))

    def _from_first(self, reference: Reference, ask: Callable[[list[Endpoint]], _T]) -> _T:
        """What ``ask`` gives of the first address that has the image; it is given that and those after it."""
        places = self._endpoints.for_pull(reference)
        failures: list[str] = []
        for position, place in enumerate(places[:-1]):
            try:
                return ask(places[position:])
            except RegistryError as error:  # a mirror need not have it, nor be up
                failures.append(f"mirror {place}: {error.message}")
        try:
            return ask(places[-1:])
        except RegistryError as error:
            # First what the mirrors said: where one is meant to have all images, the registry's own answer misleads.
            error.hint = " ".join(
                [*(f"Asked first, {failure.rstrip('.')}." for failure in failures), error.hint]
            ).strip()
            raise

    def find(self, reference: Reference, *, pulling: bool) -> Manifest | None:
        """An image's manifest, asked of the registry itself and of no mirror; None where there is none.

        ``pulling``: the registry is reached as for pulls, else as for pushes.

        Raises:
            RegistryError
        """
        try:
            with _documents_of(reference):
                return Manifest.parse(*self._document(self._itself(reference, pulling), reference, again=True))
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    def open_found(self, reference: Reference, descriptor: Descriptor, *, pulling: bool) -> BlobReader:
        """A blob of the repository that ``find`` looked in."""
        return self._open((self._itself(reference, pulling),), reference, descriptor)

    def _itself(self, reference: Reference, pulling: bool) -> Endpoint:
        return self._endpoints.for_pull(reference)[-1] if pulling else self._endpoints.for_push(reference)

    def open_blob(self, image: RemoteImage, descriptor: Descriptor) -> BlobReader:
        """A blob as it is stored. Size and digest are verified when ``read`` reaches the end."""
        return self._open(image.location, image.reference, descriptor)

    def _open(self, places: tuple[Endpoint, ...], reference: Reference, descriptor: Descriptor) -> BlobReader:
        return BlobReader(self._transport, [BlobPlace(p, p.repository(reference)) for p in places], descriptor)

    def _resolve_at(self, places: list[Endpoint], reference: Reference, platform: Platform) -> RemoteImage:
        """From the first of ``places``; the others are asked only for blobs that it lacks."""
        with _documents_of(reference):
            manifest = self._manifest_for(places, reference, platform)
            if manifest.config.size > MAX_DOCUMENT_BYTES:
                raise protocol_error(
                    f"the configuration of {reference.familiar()} has {manifest.config.size} bytes, "
                    f"more than {MAX_DOCUMENT_BYTES}"
                )
            with self._open(tuple(places), reference, manifest.config) as stream:
                config = ImageConfig.parse(read_whole(stream))
        return RemoteImage(reference, manifest, config, tuple(places))

    def _digest_at(self, places: list[Endpoint], reference: Reference) -> Digest:
        """Of a document that is a manifest or an index: the digest of a proxy's login page pins nothing."""
        with _documents_of(reference):
            raw, media_type = self._document(places[0], reference, len(places) == 1)
            if is_index(raw, media_type):
                Index.parse(raw, media_type)
            else:
                Manifest.parse(raw, media_type)
        return Digest.of(raw)

    def _manifest_for(self, places: list[Endpoint], reference: Reference, platform: Platform) -> Manifest:
        # Where another address is left to ask, this one gets no second chance: a mirror that is down costs no minutes.
        again = len(places) == 1
        raw, media_type = self._document(places[0], reference, again)
        if not is_index(raw, media_type):
            return Manifest.parse(raw, media_type)
        descriptor = Index.parse(raw, media_type).select(platform)
        if descriptor is None:
            raise RegistryError(
                f"{reference.familiar()} has no image for {platform}",
                reason=Reason.BASE_IMAGE_PULL_FAILED,
                hint="Build for another platform (--custom-platform), or use an image that has this one.",
            )
        raw, media_type = self._document(places[0], replace(reference, digest=descriptor.digest), again)
        if len(raw) != descriptor.size:
            raise protocol_error(
                f"the manifest of {reference.familiar()} for {platform} has {len(raw)} bytes, "
                f"and {descriptor.size} by its index"
            )
        return Manifest.parse(raw, media_type)

    def _document(self, endpoint: Endpoint, reference: Reference, again: bool) -> tuple[bytes, str]:
        """A manifest or index by the reference's digest, else its tag, and the media type it was sent with."""
        repository = endpoint.repository(reference)
        request = Request(
            "GET",
            f"{repository}/manifests/{reference.manifest_key}",
            (pull_scope(repository),),
            frozenset({200}),
            {"Accept": _ACCEPT},
            again=again,
        )
        try:
            headers, raw = self._transport.fetch(endpoint, repository, request, MAX_DOCUMENT_BYTES)
        except RegistryError as error:
            if error.status == 404:
                raise RegistryError(
                    f"{reference.familiar()} is not in {endpoint}",
                    status=404,
                    reason=Reason.BASE_IMAGE_PULL_FAILED,
                    hint="Check the name and the tag.",
                ) from error
            raise
        said = headers.get("Docker-Content-Digest", "")
        expected = reference.digest or (Digest.parse(said) if said else None)
        if expected is not None and not _has_digest(raw, expected):
            raise protocol_error(
                f"{endpoint.host} answers for {reference.familiar()} with a document that does not have the digest {expected}"
            )
        return raw, clean(headers.get("Content-Type", "").partition(";")[0].strip(), 100)


@contextmanager
def _documents_of(reference: Reference) -> Iterator[None]:
    """A document that is none is the registry's fault, and named by the image that was asked for."""
    try:
        yield
    except (RegistryError, UnsupportedError):
        raise
    except ImagewrightError as error:
        if error.reason is Reason.CANCELLED:
            raise
        raise protocol_error(f"{reference.familiar()}: {error.message}", error.hint) from error


def _has_digest(raw: bytes, digest: Digest) -> bool:
    hasher = digest.hasher()
    hasher.update(raw)
    return hasher.hexdigest() == digest.hex

"""Pulls images: references become manifests and configurations, descriptors become verified streams.

Talks to registries through ``transport`` (distribution specification, "Pull").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError, UnsupportedError
from imagewright.http.body import finish
from imagewright.http.failures import clean
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Index, Manifest, is_index
from imagewright.oci.mediatypes import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from imagewright.oci.platform import Platform
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.auth import pull_scope
from imagewright.registry.blob import BlobLocation, BlobReader, read_range
from imagewright.registry.endpoints import Endpoint
from imagewright.registry.failures import Tried, not_found, protocol_error, pull_failed
from imagewright.registry.transport import Request, Transport
from imagewright.streams import read_whole

_T = TypeVar("_T")
_ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of one platform. ``location`` are the addresses of its blobs: where it was found first, then others."""

    reference: Reference
    manifest: Manifest
    config: ImageConfig
    location: tuple[Endpoint, ...]


class Puller:
    """Resolves and downloads. Safe to use from several threads."""

    def __init__(self, transport: Transport) -> None:
        self._endpoints = transport.endpoints
        self._transport = transport

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image for a platform, from the first address that has it.

        Raises:
            RegistryError: what each address said, if none has it.
        """
        return self._from_first(reference, lambda endpoints: self._resolve_at(endpoints, reference, platform))

    def digest(self, reference: Reference) -> Digest:
        """The digest of what a tag names now: an image's manifest, or the index of all its platforms.

        Raises:
            RegistryError: as ``resolve``.
        """
        return self._from_first(reference, lambda endpoints: self._digest_at(endpoints, reference))

    def _from_first(self, reference: Reference, ask: Callable[[list[Endpoint]], _T]) -> _T:
        """What ``ask`` returns for the first address that has the image, given that address and those after it."""
        endpoints = self._endpoints.for_pull(reference)
        tried: list[Tried] = []
        for position, endpoint in enumerate(endpoints):
            try:
                return ask(endpoints[position:])
            except RegistryError as error:  # a mirror may lack the image, or be down
                tried.append(Tried(endpoint, endpoint.label(reference), error))
        raise pull_failed(_action(reference), tried) from tried[-1].error

    def find(self, reference: Reference, *, pulling: bool = False) -> Manifest | None:
        """An image's manifest, from the registry itself and not from a mirror; None if there is none.

        ``pulling``: the registry is reached as for pulls, else as for pushes.

        Raises:
            RegistryError
        """
        try:
            with _documents_of(reference):
                return Manifest.parse(*self._document(self._itself(reference, pulling), reference, retry=True))
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    def has(self, reference: Reference) -> bool:
        """Whether ``find`` would find something where it isn't ``pulling``.

        Raises:
            RegistryError
        """
        endpoint = self._itself(reference, pulling=False)
        repository = endpoint.repository(reference)
        path = f"{repository}/manifests/{reference.manifest_key}"
        scopes = (pull_scope(repository),)
        request = Request("HEAD", path, scopes, frozenset({200, 404}), {"Accept": _ACCEPT})
        response = self._transport.send(endpoint, repository, request)
        finish(response)
        return response.status_code == 200

    def open_found(self, reference: Reference, descriptor: Descriptor, *, pulling: bool = False) -> BlobReader:
        """A blob of an image that ``find`` returned, as it is stored. Verified when ``read`` reaches the end."""
        return self._open((self._itself(reference, pulling),), reference, descriptor)

    def _itself(self, reference: Reference, pulling: bool) -> Endpoint:
        return self._endpoints.for_pull(reference)[-1] if pulling else self._endpoints.for_push(reference)

    def open_blob(self, image: RemoteImage, descriptor: Descriptor) -> BlobReader:
        """One of the image's blobs as it is stored. Size and digest are verified when ``read`` reaches the end."""
        return self._open(image.location, image.reference, descriptor)

    def read_range(self, image: RemoteImage, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Part of one of the image's blobs, as it is stored and not verified, from the first address alone.

        Raises:
            RegistryError: as ``blob.read_range``.
        """
        endpoint = image.location[0]
        place = BlobLocation(endpoint, endpoint.repository(image.reference), endpoint.label(image.reference))
        return read_range(self._transport, place, descriptor, offset, length)

    def _open(self, endpoints: tuple[Endpoint, ...], reference: Reference, descriptor: Descriptor) -> BlobReader:
        locations = [BlobLocation(e, e.repository(reference), e.label(reference)) for e in endpoints]
        return BlobReader(self._transport, locations, descriptor, reference.familiar())

    def _resolve_at(self, endpoints: list[Endpoint], reference: Reference, platform: Platform) -> RemoteImage:
        """From the first of ``endpoints``; the others are only asked for blobs that it lacks."""
        with _documents_of(reference):
            manifest = self._manifest_for(endpoints, reference, platform)
            if manifest.config.size > MAX_DOCUMENT_BYTES:
                raise protocol_error(
                    f"{_action(reference)}: its configuration has {manifest.config.size} bytes, "
                    f"more than {MAX_DOCUMENT_BYTES}"
                )
            with self._open(tuple(endpoints), reference, manifest.config) as stream:
                config = ImageConfig.parse(read_whole(stream))
        return RemoteImage(reference, manifest, config, tuple(endpoints))

    def _digest_at(self, endpoints: list[Endpoint], reference: Reference) -> Digest:
        """The digest of a document that is a manifest or an index, and not the login page of a proxy."""
        with _documents_of(reference):
            raw, media_type = self._document(endpoints[0], reference, len(endpoints) == 1)
            if is_index(raw, media_type):
                Index.parse(raw, media_type)
            else:
                Manifest.parse(raw, media_type)
        return Digest.of(raw)

    def _manifest_for(self, endpoints: list[Endpoint], reference: Reference, platform: Platform) -> Manifest:
        # Only the last address is retried, so that a mirror that is down does not cost minutes.
        retry = len(endpoints) == 1
        raw, media_type = self._document(endpoints[0], reference, retry)
        if not is_index(raw, media_type):
            return Manifest.parse(raw, media_type)
        descriptor = Index.parse(raw, media_type).select(platform)
        if descriptor is None:
            raise RegistryError(
                f"{_action(reference)}: no image for {platform}",
                reason=Reason.BASE_IMAGE_PULL_FAILED,
                hint="Build for another platform with --custom-platform (ImageBuild: spec.platforms), or use an image that has this one.",
            )
        raw, media_type = self._document(endpoints[0], replace(reference, digest=descriptor.digest), retry)
        if len(raw) != descriptor.size:
            raise protocol_error(
                f"{_action(reference)}: its manifest for {platform} has {len(raw)} bytes, "
                f"and {descriptor.size} by its index"
            )
        return Manifest.parse(raw, media_type)

    def _document(self, endpoint: Endpoint, reference: Reference, retry: bool) -> tuple[bytes, str]:
        """A manifest or index by the reference's digest, or else its tag, and the media type of the response."""
        repository = endpoint.repository(reference)
        request = Request(
            "GET",
            f"{repository}/manifests/{reference.manifest_key}",
            (pull_scope(repository),),
            frozenset({200}),
            {"Accept": _ACCEPT},
            repeatable=None if retry else False,
        )
        try:
            headers, raw = self._transport.fetch(endpoint, repository, request, MAX_DOCUMENT_BYTES)
        except RegistryError as error:
            if error.status == 404:
                raise not_found(_action(reference), endpoint.label(reference)) from error
            raise
        said = headers.get("Docker-Content-Digest", "")
        expected = reference.digest or (Digest.parse(said) if said else None)
        if expected is not None and not expected.is_of(raw):
            raise protocol_error(f"{_action(reference)}: what {endpoint.host} sent does not have the digest {expected}")
        return raw, clean(headers.get("Content-Type", "").partition(";")[0].strip(), 100)


def _action(reference: Reference) -> str:
    """What fails, for messages."""
    return f"cannot pull {reference.familiar()}"


@contextmanager
def _documents_of(reference: Reference) -> Iterator[None]:
    """An invalid document is the registry's fault; the error names the image."""
    try:
        yield
    except (RegistryError, UnsupportedError):
        raise
    except ImagewrightError as error:
        if error.reason is Reason.CANCELLED:
            raise
        raise protocol_error(f"{_action(reference)}: {error.message}", error.hint) from error

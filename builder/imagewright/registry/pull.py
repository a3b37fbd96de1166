"""Pulling: references become manifests and configurations, descriptors become verified streams.

Talks to registries through ``registry.transport``. Called by ``registry.client`` (distribution specification, "Pull").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from urllib3.exceptions import HTTPError

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Index, Manifest, is_index
from imagewright.oci.mediatypes import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.endpoints import Endpoint, Endpoints
from imagewright.registry.transport import Request, Transport

_ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
_RESUMES = 8  # of one blob, after cuts
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of one platform, and the address where it was found."""

    reference: Reference
    manifest: Manifest
    config: ImageConfig
    location: Endpoint


class Puller:
    """Resolves and downloads. Safe to use from several threads."""

    def __init__(self, endpoints: Endpoints, transport: Transport) -> None:
        self._endpoints = endpoints
        self._transport = transport

    def resolve(self, reference: Reference, platform: Platform) -> RemoteImage:
        """The image for a platform, from the first address that has it.

        Raises:
            RegistryError: of the registry itself, where the mirrors fail too.
        """
        *mirrors, registry = self._endpoints.for_pull(reference)
        for mirror in mirrors:
            try:
                return self._resolve_at(mirror, reference, platform)
            except RegistryError:
                continue  # a mirror need not have it, nor be up
        return self._resolve_at(registry, reference, platform)

    def _resolve_at(self, endpoint: Endpoint, reference: Reference, platform: Platform) -> RemoteImage:
        raw, media_type = self._manifest(endpoint, reference, reference.manifest_key)
        if reference.digest is not None:
            _verify(raw, reference.digest, f"the manifest of {reference.familiar()}")
        try:
            if is_index(raw, media_type):
                descriptor = Index.parse(raw, media_type).select(platform)
                if descriptor is None:
                    raise RegistryError(
                        f"{reference.familiar()} has no image for {platform}",
                        reason=Reason.BASE_IMAGE_PULL_FAILED,
                        hint="Build for another platform (--custom-platform), or use an image that has this one.",
                    )
                raw, media_type = self._manifest(endpoint, reference, str(descriptor.digest))
                _verify(raw, descriptor.digest, f"the manifest of {reference.familiar()} for {platform}")
            manifest = Manifest.parse(raw, media_type)
            if manifest.config.size > MAX_DOCUMENT_BYTES:
                raise RegistryError(
                    f"the configuration of {reference.familiar()} has {manifest.config.size} bytes, more than {MAX_DOCUMENT_BYTES}",
                    reason=Reason.REGISTRY_PROTOCOL_ERROR,
                )
            with self.open_blob(endpoint, reference, manifest.config) as stream:
                config = ImageConfig.parse(b"".join(iter(lambda: stream.read(65536), b"")))
        except RegistryError:
            raise
        except ImagewrightError as error:
            raise RegistryError(
                f"{reference.familiar()}: {error.message}", reason=error.reason, hint=error.hint
            ) from error
        return RemoteImage(reference, manifest, config, endpoint)

    def _manifest(self, endpoint: Endpoint, reference: Reference, key: str) -> tuple[bytes, str]:
        repository = endpoint.repository(reference)
        request = Request(
            "GET", f"{repository}/manifests/{key}", pull_scope(repository), frozenset({200}), {"Accept": _ACCEPT}
        )
        try:
            response = self._transport.send(endpoint, repository, request)
        except RegistryError as error:
            if error.status == 404:
                raise RegistryError(
                    f"{reference.familiar()} is not in {endpoint}",
                    status=404,
                    reason=Reason.BASE_IMAGE_PULL_FAILED,
                    hint="Check the name and the tag.",
                ) from error
            raise
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return self._transport.read(response, MAX_DOCUMENT_BYTES), media_type

    @contextmanager
    def open_blob(self, endpoint: Endpoint, reference: Reference, descriptor: Descriptor) -> Iterator[BlobReader]:
        """A blob as it is stored. Size and digest are verified when ``read`` reaches the end."""
        reader = BlobReader(self._transport, endpoint, endpoint.repository(reference), descriptor)
        try:
            yield reader
        finally:
            reader.close()


class BlobReader:
    """Reads a blob; after a cut it goes on where it was (Range), a bounded number of times."""

    def __init__(self, transport: Transport, endpoint: Endpoint, repository: str, descriptor: Descriptor) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._repository = repository
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self._position = 0
        self._resumes = 0
        self._verified = False
        self._response: requests.Response | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" once all were read and verified.

        Raises:
            RegistryError: reason ``RegistryProtocolError`` for wrong content, ``RegistryUnavailable`` for cuts.
        """
        size = size if size > 0 else 1 << 20
        while not self._verified:
            try:
                if self._response is None:
                    self._response = self._open()
                data: bytes = self._response.raw.read(size, decode_content=False) or b""
            except (requests.RequestException, HTTPError, OSError) as error:
                self._cut(str(error)[:200])
                continue
            if not data and self._position < self._descriptor.size:
                self._cut("the answer ended too early")
                continue
            if not data:
                self._verify()
                break
            self._position += len(data)
            if self._position > self._descriptor.size:
                raise self._wrong(f"it has more than the {self._descriptor.size} bytes that its descriptor says")
            self._hasher.update(data)
            return data
        return b""

    def close(self) -> None:
        """Give the connection up."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _open(self) -> requests.Response:
        path = f"{self._repository}/blobs/{self._descriptor.digest}"
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        expect = frozenset({200, 206}) if self._position else frozenset({200})
        request = Request("GET", path, pull_scope(self._repository), expect, headers)
        response = self._transport.send(self._endpoint, self._repository, request)
        begin = 0
        if response.status_code == 206:
            match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            begin = int(match[1]) if match else self._position
        if begin > self._position:
            response.close()
            raise self._wrong("it answers with another range than was asked for")
        skip = self._position - begin  # a server without ranges begins anew: what we have is passed over
        while skip:
            data = response.raw.read(min(1 << 20, skip), decode_content=False)
            if not data:
                raise OSError("the answer ended too early")
            skip -= len(data)
        return response

    def _cut(self, why: str) -> None:
        self.close()
        self._resumes += 1
        if self._resumes > _RESUMES:
            raise RegistryError(
                f"{self._endpoint.host} cut off the blob {self._descriptor.digest} {self._resumes} times, "
                f"last at byte {self._position} of {self._descriptor.size}: {why}",
                hint="The network or the registry is in trouble; try again.",
            )

    def _verify(self) -> None:
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            raise self._wrong(
                f"its content has the digest {self._descriptor.digest.algorithm}:{self._hasher.hexdigest()}"
            )
        self._verified = True
        self.close()

    def _wrong(self, why: str) -> RegistryError:
        return RegistryError(
            f"{self._endpoint.host} answers wrongly for the blob {self._descriptor.digest}: {why}",
            reason=Reason.REGISTRY_PROTOCOL_ERROR,
            hint="The registry, or a proxy before it, holds damaged content; push the image again.",
        )


def pull_scope(repository: str) -> tuple[str, ...]:
    """What a login must allow to pull (distribution token specification, "scope")."""
    return (f"repository:{repository}:pull",)


def _verify(raw: bytes, digest: Digest, what: str) -> None:
    hasher = digest.hasher()
    hasher.update(raw)
    if hasher.hexdigest() != digest.hex:
        raise RegistryError(
            f"{what} does not have the digest {digest} that was asked for",
            reason=Reason.REGISTRY_PROTOCOL_ERROR,
            hint="The registry, or a proxy before it, answers with something else.",
        )

"""Pushing: what a repository lacks is uploaded or mounted, then the manifest is put under its tags.

Talks to registries through ``registry.transport``. Called by ``registry.client`` (distribution specification, "Push").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlencode, urljoin

import requests

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest
from imagewright.reference import Reference
from imagewright.registry.endpoints import Endpoint, Endpoints
from imagewright.registry.transport import Body, Request, Transport

_UPLOADS_AT_ONCE = 3
_UPLOAD_TRIES = 3
Progress = Callable[[Descriptor, int, bool], None]  # (blob, bytes sent, finished)


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class BlobSource(Protocol):
    """Where layers come from; asked again for each try."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]: ...


@dataclass(frozen=True, slots=True)
class PushImage:
    """``config`` are the configuration's bytes. ``mount_from`` says in which image a registry may already have a layer."""

    manifest: Manifest
    config: bytes
    mount_from: Mapping[Digest, Reference] = field(default_factory=dict)


class Pusher:
    """Pushes one image to many names."""

    def __init__(self, endpoints: Endpoints, transport: Transport) -> None:
        self._endpoints = endpoints
        self._transport = transport

    def push(self, image: PushImage, destinations: Sequence[Reference], blobs: BlobSource, progress: Progress) -> None:
        """Upload what is missing and put the manifest under every name.

        Raises:
            RegistryError: reasons ``PushFailed``, ``RegistryAuthFailed``, ``RegistryUnavailable``.
        """
        done: list[Reference] = []
        for destination in destinations:
            endpoint = self._endpoints.for_push(destination)
            target = _Target(endpoint, endpoint.repository(destination))
            siblings = [d for d in done if d.registry == destination.registry]
            if not any(d.repository == destination.repository for d in siblings):
                mount_from = dict(image.mount_from)
                if siblings:  # one upload for many destinations: the others mount
                    mount_from.update(dict.fromkeys(self._digests(image), siblings[0]))
                self._blobs(target, image, destination, (blobs, mount_from, progress))
            self._manifest(target, image.manifest, destination)
            done.append(destination)

    def check_push(self, destination: Reference) -> None:
        """Whether we may push there, asked before a long build: an upload is begun and cancelled.

        Raises:
            RegistryError
        """
        endpoint = self._endpoints.for_push(destination)
        target = _Target(endpoint, endpoint.repository(destination))
        response = self._send(target, "POST", f"{target.repository}/blobs/uploads/", {202, 201})
        location = response.headers.get("Location", "")
        response.close()
        if location:
            try:
                # Some registries can't cancel; an upload that is never finished expires.
                self._send(target, "DELETE", urljoin(response.url, location), {204, 202, 200, 404, 405, 400}).close()
            except RegistryError:
                return

    @staticmethod
    def _digests(image: PushImage) -> list[Digest]:
        return [image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers)]

    def _blobs(
        self,
        target: _Target,
        image: PushImage,
        destination: Reference,
        source: tuple[BlobSource, Mapping[Digest, Reference], Progress],
    ) -> None:
        blobs, mount_from, progress = source
        unique = {layer.digest: layer for layer in image.manifest.layers}
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="push") as pool:
            waiting = [
                pool.submit(self._blob, target, layer, _mount(mount_from.get(digest), destination), (blobs, progress))
                for digest, layer in unique.items()
            ]
            try:
                for future in waiting:
                    future.result()
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise
        config = image.manifest.config
        if not self._has(target, config):
            self._upload(target, config, ExitStack, lambda _: image.config)

    def _blob(
        self, target: _Target, layer: Descriptor, mount: Reference | None, source: tuple[BlobSource, Progress]
    ) -> None:
        blobs, progress = source
        if self._has(target, layer):
            progress(layer, layer.size, True)
            return
        location = ""
        if mount is not None:
            location = self._mount(target, layer, mount)
            if not location:
                progress(layer, layer.size, True)
                return
        self._upload(
            target,
            layer,
            lambda: blobs.open(layer),
            lambda stream: _Body(stream, layer, progress),
            location,
        )
        progress(layer, layer.size, True)

    def _has(self, target: _Target, descriptor: Descriptor) -> bool:
        path = f"{target.repository}/blobs/{descriptor.digest}"
        response = self._send(target, "HEAD", path, {200, 404})
        response.close()
        return response.status_code == 200

    def _mount(self, target: _Target, layer: Descriptor, origin: Reference) -> str:
        """Ask for a layer of another repository; "" when it is there now, else where to upload it."""
        name = self._endpoints.for_push(origin).repository(origin)
        query = urlencode({"mount": str(layer.digest), "from": name}, quote_via=quote)
        path = f"{target.repository}/blobs/uploads/?{query}"
        scopes = (*target.scopes, f"repository:{name}:pull")
        try:
            response = self._transport.send(
                target.endpoint, target.repository, Request("POST", path, scopes, frozenset({201, 202}))
            )
        except RegistryError as error:
            if error.status in (401, 403, 404, 405):
                return self._begin(target)  # it may not be read, or the registry can't mount
            raise
        response.close()
        if response.status_code == 201:
            return ""
        return urljoin(response.url, response.headers.get("Location", "")) or self._begin(target)

    def _begin(self, target: _Target) -> str:
        response = self._send(target, "POST", f"{target.repository}/blobs/uploads/", {202})
        response.close()
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryError(
                f"{target.endpoint.host} begins an upload without saying where to",
                reason=Reason.REGISTRY_PROTOCOL_ERROR,
            )
        return urljoin(response.url, location)

    def _upload(
        self,
        target: _Target,
        descriptor: Descriptor,
        opener: Callable[[], AbstractContextManager[Readable | ExitStack]],
        body: Callable[[Readable], Body | bytes],
        location: str = "",
    ) -> None:
        """Upload a blob in one PUT; after a failure from the beginning, a few times."""
        for attempt in range(1, _UPLOAD_TRIES + 1):
            location = location or self._begin(target)
            separator = "&" if "?" in location else "?"
            url = f"{location}{separator}{urlencode({'digest': str(descriptor.digest)}, quote_via=quote)}"
            try:
                with opener() as stream:
                    request = Request(
                        "PUT",
                        url,
                        target.scopes,
                        frozenset({201, 204}),
                        {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)},
                        lambda: body(stream),  # type: ignore[arg-type]
                        again=False,
                    )
                    self._transport.send(target.endpoint, target.repository, request).close()
                return
            except RegistryError as error:
                lasting = error.status in range(400, 500) and error.status not in (408, 416, 429)
                if attempt == _UPLOAD_TRIES or lasting or error.reason is Reason.REGISTRY_PROTOCOL_ERROR:
                    raise _failed(error, f"uploading {descriptor.digest}") from error
                location = ""
                if self._has(target, descriptor):
                    return  # only the answer was lost

    def _manifest(self, target: _Target, manifest: Manifest, destination: Reference) -> None:
        key = destination.tag or str(manifest.digest)
        request = Request(
            "PUT",
            f"{target.repository}/manifests/{key}",
            target.scopes,
            frozenset({200, 201, 202}),
            {"Content-Type": manifest.media_type},
            lambda: manifest.raw,
        )
        try:
            response = self._transport.send(target.endpoint, target.repository, request)
        except RegistryError as error:
            raise _failed(error, f"putting the manifest {destination.familiar()}") from error
        response.close()
        said = response.headers.get("Docker-Content-Digest", "")
        if said and said != str(manifest.digest):
            raise RegistryError(
                f"{target.endpoint.host} stored {destination.familiar()} as {said[:80]}, not as {manifest.digest}",
                reason=Reason.REGISTRY_PROTOCOL_ERROR,
                hint="It changes manifests on their way; nothing that was pushed there can be trusted.",
            )

    def _send(self, target: _Target, method: str, path: str, expect: set[int]) -> requests.Response:
        return self._transport.send(
            target.endpoint, target.repository, Request(method, path, target.scopes, frozenset(expect))
        )


@dataclass(frozen=True, slots=True)
class _Target:
    endpoint: Endpoint
    repository: str

    @property
    def scopes(self) -> tuple[str, ...]:
        return (f"repository:{self.repository}:pull,push",)


class _Body:
    """A layer on its way, of known length, that tells how far it is."""

    def __init__(self, stream: Readable, descriptor: Descriptor, progress: Progress) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._progress = progress
        self._sent = 0

    def __len__(self) -> int:
        return self._descriptor.size - self._sent

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(max(size, 1 << 18))
        self._sent += len(data)
        self._progress(self._descriptor, self._sent, False)
        return data


def _mount(origin: Reference | None, destination: Reference) -> Reference | None:
    """Layers can be mounted within one registry only."""
    if origin is None or origin.registry != destination.registry or origin.repository == destination.repository:
        return None
    return origin


def _failed(error: RegistryError, what: str) -> ImagewrightError:
    if error.reason in (Reason.REGISTRY_AUTH_FAILED, Reason.REGISTRY_UNAVAILABLE) and error.status != 413:
        return error
    return RegistryError(
        f"{what} failed: {error.message}",
        status=error.status,
        reason=Reason.PUSH_FAILED,
        hint=error.hint or "The registry refused it; its words above say why.",
    )

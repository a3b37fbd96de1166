"""Pushing: what a repository lacks is mounted or uploaded, then the manifest is put under its tags.

Talks to registries through ``registry.transport``. Called by ``registry.client`` (distribution specification, "Push").
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason, RegistryError
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import OCI_MANIFEST
from imagewright.reference import Reference
from imagewright.registry.connections import finish
from imagewright.registry.endpoints import Endpoints
from imagewright.registry.failures import clean, protocol_error
from imagewright.registry.transport import Request, Transport
from imagewright.registry.upload import BlobSource, Content, Progress, Target, Uploader

_UPLOADS_AT_ONCE = 3
_IMMUTABLE = (
    "immutab",
    "cannot be overwritten",
    "can't be overwritten",
    "tag_already_exists",
    "tag already exists",
    "disallowed on this registry",
)
# How a registry that knows Docker's manifests alone refuses others: Quay 2, old Amazon ECR, GitLab and Docker's own.
_KNOWS_NO_OCI = frozenset({400, 405, 415, 422})
_KNOWS_NO_OCI_WORDS = (
    "manifest_invalid",
    "manifest invalid",
    "unsupported manifest",
    "imagemanifest",
    "media type",
    "mediatype",
    "schema version",
)
_NOT_ALLOWED = ("forbidden", "denied", "unauthorized")  # what Artifactory says within MANIFEST_INVALID
_DOCKER_HINT = (
    "The registry may not take OCI manifests: build with --image-format=docker (ImageBuild: output.format: Docker)."
)


@dataclass(frozen=True, slots=True)
class PushImage:
    """``config`` are the configuration's bytes. ``mount_from`` says in which image a registry may already have a layer."""

    manifest: Manifest
    config: bytes
    mount_from: Mapping[Digest, Reference] = field(default_factory=dict)


class TagImmutable(RegistryError):
    """The registry doesn't let a tag be moved to another image. All blobs are there, and other names were done."""

    default_reason = Reason.TAG_IMMUTABLE

    def __init__(self, references: Sequence[Reference], message: str) -> None:
        super().__init__(
            message,
            hint="Push under a new tag; or take that for success with --push-ignore-immutable-tag-errors.",
        )
        self.references = tuple(references)


class Pusher:
    """Pushes one image to many names."""

    def __init__(self, endpoints: Endpoints, transport: Transport) -> None:
        self._endpoints = endpoints
        self._transport = transport
        self._uploader = Uploader(transport)

    def push(self, image: PushImage, destinations: Sequence[Reference], blobs: BlobSource, progress: Progress) -> None:
        """Bring what is missing to every repository; only then put the manifest under every name.

        Raises:
            TagImmutable: once all other names are done.
            RegistryError: reasons ``PushFailed``, ``RegistryAuthFailed``, ``RegistryUnavailable``.
        """
        contents = self._contents(image, blobs, progress)
        done: list[Reference] = []
        for destination in destinations:
            siblings = [d for d in done if d.registry == destination.registry]
            if not any(d.repository == destination.repository for d in siblings):
                # One upload for many destinations: the others of a registry mount what the first one got.
                mount_from = image.mount_from if not siblings else {c.descriptor.digest: siblings[0] for c in contents}
                self._bring(destination, contents, mount_from)
            done.append(destination)
        fixed: list[TagImmutable] = []
        for destination in destinations:
            try:
                self._put_manifest(image.manifest, destination)
            except TagImmutable as error:
                fixed.append(error)
        if fixed:
            raise TagImmutable([name for error in fixed for name in error.references], fixed[0].message)

    def check_push(self, destination: Reference) -> None:
        """Whether we may push there, asked before a long build: an upload is begun and cancelled.

        Raises:
            RegistryError
        """
        target = self._target(destination)
        try:
            location = self._uploader.begin(target)
        except RegistryError as error:
            raise _failed(error, f"pushing to {destination.familiar()}") from error
        request = Request("DELETE", location, target.scopes, frozenset(range(200, 500)), again=False)
        try:
            finish(self._transport.send(target.endpoint, target.repository, request))
        except RegistryError:
            return  # some registries can't cancel; an upload that is never finished expires

    def _target(self, destination: Reference) -> Target:
        endpoint = self._endpoints.for_push(destination)
        return Target(endpoint, endpoint.repository(destination))

    @staticmethod
    def _contents(image: PushImage, blobs: BlobSource, progress: Progress) -> list[Content]:
        unique = {layer.digest: layer for layer in image.manifest.layers}
        given_up = threading.Event()
        layers = [Content(layer, partial(blobs.open, layer), progress, given_up) for layer in unique.values()]
        return [*layers, Content.of_bytes(image.manifest.config, image.config)]

    def _bring(
        self, destination: Reference, contents: Sequence[Content], mount_from: Mapping[Digest, Reference]
    ) -> None:
        target = self._target(destination)

        def bring(content: Content) -> None:
            self._bring_one(target, content, _mountable(mount_from.get(content.descriptor.digest), destination))

        with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="push") as pool:
            waiting = [pool.submit(bring, content) for content in contents]
            try:
                for future in as_completed(waiting):
                    future.result()
            except BaseException:  # the first failure, or a signal: uploads under way needn't be waited for
                for content in contents:
                    content.given_up.set()
                for future in waiting:
                    future.cancel()
                raise

    def _bring_one(self, target: Target, content: Content, origin: Reference | None) -> None:
        descriptor = content.descriptor
        try:
            location = ""
            if not self._uploader.has(target, descriptor):
                if origin is not None:
                    location = self._uploader.mount(target, descriptor, self._target(origin).repository)
                if origin is None or location:
                    self._uploader.upload(target, content, location)
        except RegistryError as error:
            raise _failed(error, f"uploading {descriptor.digest} to {target}") from error
        content.progress(descriptor, descriptor.size, True)

    def _put_manifest(self, manifest: Manifest, destination: Reference) -> None:
        target = self._target(destination)
        request = Request(
            "PUT",
            f"{target.repository}/manifests/{destination.tag or manifest.digest}",
            target.scopes,
            frozenset({200, 201, 202}),
            {"Content-Type": manifest.media_type},
            Content.of_bytes(manifest.descriptor, manifest.raw).open_body,
        )
        try:
            response = self._transport.send(target.endpoint, target.repository, request)
        except RegistryError as error:
            failed = _failed(error, f"putting the manifest of {destination.familiar()}")
            if destination.tag and _is_immutable(error):
                raise TagImmutable([destination], failed.message) from error
            if manifest.media_type == OCI_MANIFEST and _knows_no_oci(error):
                failed.hint = _DOCKER_HINT
            raise failed from error
        finish(response)
        said = response.headers.get("Docker-Content-Digest", "")
        if said and said != str(manifest.digest):
            raise protocol_error(
                f"{target.endpoint.host} stored {destination.familiar()} as {clean(said, 80)}, not as {manifest.digest}",
                "It changes manifests on their way; nothing that was pushed there can be trusted.",
            )
        if response.status_code != 201 and not said:
            # Something that answers 200 to everything is no registry.
            raise protocol_error(
                f"{target.endpoint.host} answers the manifest of {destination.familiar()} with status "
                f"{response.status_code} and without its digest: it may not be stored"
            )


def _mountable(origin: Reference | None, destination: Reference) -> Reference | None:
    """Layers can be mounted within one registry only."""
    if origin is None or origin.registry != destination.registry or origin.repository == destination.repository:
        return None
    return origin


def _failed(error: RegistryError, what: str) -> ImagewrightError:
    """The same failure as one of a push. What is wrong with a login or the network is that first of all."""
    lasting = error.reason is Reason.REGISTRY_PROTOCOL_ERROR
    if not lasting and error.status != 413:
        return error
    return RegistryError(
        f"{what} failed: {error.message}", status=error.status, reason=Reason.PUSH_FAILED, hint=error.hint
    )


def _is_immutable(error: RegistryError) -> bool:
    """Whether a manifest was refused since its tag is taken, as Amazon, Google, Azure, Harbor, Quay and others say it."""
    said = error.message.lower()
    return 400 <= error.status < 500 and any(words in said for words in _IMMUTABLE)


def _knows_no_oci(error: RegistryError) -> bool:
    """Whether an OCI manifest may have been refused for being one; a status of 415 says nothing else."""
    said = error.message.lower()
    if error.status not in _KNOWS_NO_OCI or any(words in said for words in _NOT_ALLOWED):
        return False
    return error.status == 415 or any(words in said for words in _KNOWS_NO_OCI_WORDS)

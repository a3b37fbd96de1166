"""Pushes images: blobs that a repository lacks are mounted or uploaded, then the manifest is put under its tags.

Talks to registries through ``transport`` (distribution specification, "Push").
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import field
from functools import partial

from imagewright.digest import Digest
from imagewright.errors import Reason, RegistryError
from imagewright.http.body import finish
from imagewright.http.failures import clean
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import OCI_MANIFEST
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.blobpush import BlobPusher, Origin
from imagewright.registry.early import TRUSTED_S, UPLOADS_AT_ONCE, EarlyUploads
from imagewright.registry.failures import Refused, protocol_error, push_failed
from imagewright.registry.transport import Request, Transport
from imagewright.registry.upload import BlobSource, Content, Progress
from imagewright.workers import Patience, Workers

_IMMUTABLE = (
    "immutab",
    "cannot be overwritten",
    "can't be overwritten",
    "tag_already_exists",
    "tag already exists",
    "disallowed on this registry",
)
# What registries answer that support only Docker's manifests: Quay 2, old Amazon ECR, GitLab and Docker's own.
_NO_OCI = frozenset({400, 405, 415, 422})
_NO_OCI_WORDS = (
    "manifest_invalid",
    "manifest invalid",
    "unsupported manifest",
    "imagemanifest",
    "media type",
    "mediatype",
    "schema version",
)
_NOT_ALLOWED = ("forbidden", "denied", "unauthorized")  # in the words that Artifactory adds to MANIFEST_INVALID
_DOCKER_HINT = "If the registry does not support OCI manifests, build with --image-format=docker (ImageBuild: spec.output.format: Docker)."


@dataclass(frozen=True, slots=True)
class PushImage:
    """``config`` are the configuration's bytes.

    ``mount_from`` names images in which a registry may already have a layer. ``fresh`` are blobs that this build made.
    ``early`` are uploads that have begun.
    """

    manifest: Manifest
    config: bytes
    mount_from: Mapping[Digest, Reference] = field(default_factory=dict)
    fresh: frozenset[Digest] = frozenset()
    early: EarlyUploads | None = None

    def origin(self, digest: Digest) -> Origin:
        """Where a blob comes from."""
        return Origin(self.mount_from.get(digest), digest in self.fresh)


class TagImmutable(RegistryError):
    """The registry does not let a tag be moved. All blobs are stored, and all other names were pushed."""

    default_reason = Reason.TAG_IMMUTABLE

    def __init__(self, references: Sequence[Reference], message: str) -> None:
        super().__init__(
            message,
            hint="Push under a new tag, or ignore such tags with --push-ignore-immutable-tag-errors.",
        )
        self.references = tuple(references)


class Pusher:
    """Pushes one image to many names."""

    def __init__(self, transport: Transport, patience: Patience | None = None) -> None:
        self._transport = transport
        self._patience = patience or Patience()
        self._blobs = BlobPusher(transport)

    def begin(
        self, destinations: Sequence[Reference], report: Callable[[str], None], trusted_s: float = TRUSTED_S
    ) -> EarlyUploads:
        """Uploads for an image that is still being built."""
        return EarlyUploads(self._blobs, destinations, report, trusted_s, self._patience)

    def push(self, image: PushImage, destinations: Sequence[Reference], blobs: BlobSource, progress: Progress) -> None:
        """Upload what is missing to every repository; only then put the manifest under every name.

        Raises:
            TagImmutable: after all other names were pushed.
            RegistryError: reasons ``PushFailed``, ``RegistryAuthFailed``, ``RegistryUnavailable``.
        """
        contents = self._contents(image, blobs, progress)
        done: list[Reference] = []
        for destination in destinations:
            siblings = [d for d in done if d.registry == destination.registry]
            if not siblings:
                self._upload_missing(destination, contents, image.origin, image.early)
            elif not any(d.repository == destination.repository for d in siblings):
                # Blobs are uploaded once: the registry's other repositories mount them from the first one.
                mounted = Origin(siblings[0], fresh=True)
                self._upload_missing(destination, contents, partial(_always, mounted))
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
        """Make sure, before a long build, that it can be pushed: an upload is begun and cancelled.

        Raises:
            RegistryError: what a push would raise for lack of rights.
        """
        target = self._blobs.target(destination)
        try:
            location = self._blobs.uploader.begin(target)
        except RegistryError as error:
            raise push_failed(error, f"cannot push to {destination.familiar()}") from error
        request = Request("DELETE", location, target.scopes, frozenset(range(200, 500)), repeatable=False)
        try:
            finish(self._transport.send(target.endpoint, target.repository, request))
        except RegistryError:
            return  # some registries cannot cancel uploads; unfinished ones expire

    @staticmethod
    def _contents(image: PushImage, blobs: BlobSource, progress: Progress) -> list[Content]:
        unique = {layer.digest: layer for layer in image.manifest.layers}
        cancelled = threading.Event()
        layers = [Content(layer, partial(blobs.open, layer), progress, cancelled) for layer in unique.values()]
        return [*layers, Content.of_bytes(image.manifest.config, image.config)]

    def _upload_missing(
        self,
        destination: Reference,
        contents: Sequence[Content],
        origin: Callable[[Digest], Origin],
        early: EarlyUploads | None = None,
    ) -> None:
        def upload(content: Content) -> None:
            digest = content.descriptor.digest
            found = early.found(digest, destination) if early is not None else None
            if found is None or not found.there:
                self._blobs.push(destination, content, origin(digest), found)

        if early is not None:  # those are waited for first, so that no more uploads run than without them
            contents = sorted(contents, key=lambda content: not early.knows(content.descriptor.digest))
        with Workers(UPLOADS_AT_ONCE, "push", self._patience) as workers:
            waiting = [workers.submit(partial(upload, content)) for content in contents]
            try:
                for future in as_completed(waiting):
                    future.result()
            except BaseException:  # the first failure, or a signal: do not wait for the other uploads
                for content in contents:
                    content.cancelled.set()
                raise

    def _put_manifest(self, manifest: Manifest, destination: Reference) -> None:
        target = self._blobs.target(destination)
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
            failed = push_failed(error, f"cannot push the manifest of {destination.familiar()}")
            if destination.tag and _is_immutable(error):
                raise TagImmutable([destination], failed.message) from error
            if manifest.media_type == OCI_MANIFEST and _lacks_oci(error):
                failed.hint = _DOCKER_HINT
            raise failed from error
        finish(response)
        said = response.headers.get("Docker-Content-Digest", "")
        if said and said != str(manifest.digest):
            raise protocol_error(
                f"{target.endpoint.host} stored {destination.familiar()} as {clean(said, 80)}, not as {manifest.digest}",
                "Find out what changes manifests on the way, a proxy perhaps; do not trust what was pushed.",
            )
        if response.status_code != 201 and not said:
            # A server that answers everything with 200 is not a registry.
            raise protocol_error(
                f"cannot push the manifest of {destination.familiar()}: {target.endpoint.host} answered with status "
                f"{response.status_code} and without a digest, so it may not be stored"
            )


def _always(origin: Origin, digest: Digest) -> Origin:
    return origin


def _is_immutable(error: RegistryError) -> bool:
    """Whether a manifest was refused because its tag is immutable, in the words of Amazon, Google, Azure, Harbor, …"""
    said = _words(error)
    return 400 <= error.status < 500 and any(words in said for words in _IMMUTABLE)


def _lacks_oci(error: RegistryError) -> bool:
    """Whether an OCI manifest may have been refused for being one; status 415 has no other meaning."""
    said = _words(error)
    if error.status not in _NO_OCI or any(words in said for words in _NOT_ALLOWED):
        return False
    return error.status == 415 or any(words in said for words in _NO_OCI_WORDS)


def _words(error: RegistryError) -> str:
    return error.words.lower() if isinstance(error, Refused) else ""

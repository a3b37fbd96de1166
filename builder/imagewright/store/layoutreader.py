"""Reads an image from an OCI image layout (image-layout.md).

Reads a directory. A layout is not trusted: sizes and digests are verified.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Index, Manifest, is_index, load_document
from imagewright.oci.mediatypes import INDEXES
from imagewright.oci.platform import Platform
from imagewright.store.files import open_regular
from imagewright.store.layout import REF_NAME, blob_path
from imagewright.streams import Readable


class LayoutReader:
    """The layout in the directory ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self, tag: str, digest: str, platform: Platform) -> tuple[Manifest, ImageConfig]:
        """The image with this digest, else this tag, else the only one; for one platform, if it has several.

        Raises:
            ImagewrightError: reason ``FileNotFound`` if there is none, ``LayerInvalid`` for a damaged layout.
        """
        descriptor = self._entry(tag, digest)
        if descriptor.media_type in INDEXES:
            chosen = Index.parse(self._document(descriptor), descriptor.media_type).select(platform)
            if chosen is None:
                raise self._error(f"no image for {platform}", "Build for another platform, or use another image.")
            descriptor = chosen
        raw = self._document(descriptor)
        if is_index(raw, descriptor.media_type):
            raise self._error("its index contains another index", "Use the digest of the image.")
        manifest = Manifest.parse(raw, descriptor.media_type)
        return manifest, ImageConfig.parse(self._document(manifest.config))

    def manifest(self, tag: str) -> Manifest | None:
        """The image of this tag; None if there is none, or no layout.

        Raises:
            ImagewrightError: reason ``LayerInvalid`` for a damaged layout.
        """
        if not os.path.exists(os.path.join(self._path, "index.json")):
            return None
        entries = [
            e for e in self._index() if isinstance(e, dict) and (e.get("annotations") or {}).get(REF_NAME) == tag
        ]
        if not entries:
            return None
        descriptor = Descriptor.from_json(entries[-1])
        return Manifest.parse(self._document(descriptor), descriptor.media_type)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """A blob. It is not verified here: readers verify the layer's diff ID."""
        try:
            file = open_regular(blob_path(self._path, descriptor.digest))
        except OSError as error:
            raise self._error(f"no blob {descriptor.digest}: {error.strerror}", "Copy the image again.") from error
        with file:
            yield file

    def _entry(self, tag: str, digest: str) -> Descriptor:
        entries = [entry for entry in self._index() if isinstance(entry, dict)]
        if digest:
            found = [entry for entry in entries if entry.get("digest") == digest]
        elif tag:
            found = [entry for entry in entries if (entry.get("annotations") or {}).get(REF_NAME) == tag]
        else:
            found = entries
        if len(found) != 1:
            names = sorted((entry.get("annotations") or {}).get(REF_NAME, "") for entry in entries)
            what = f"{len(found)} images" if found else "no image"
            wanted = f" called {tag}" * bool(tag and not digest) + f" {digest}" * bool(digest)
            listed = (
                f"Its tags are {', '.join(filter(None, names))}." if any(names) else "It has no tags; use a digest."
            )
            raise self._error(
                what + wanted, f"Use oci-layout://DIRECTORY:TAG or oci-layout://DIRECTORY@DIGEST. {listed}"
            )
        return Descriptor.from_json(found[0])

    def _index(self) -> list[Any]:
        try:
            with open_regular(os.path.join(self._path, "index.json")) as file:
                value = load_document(file.read(MAX_DOCUMENT_BYTES))
        except OSError as error:
            raise self._error(
                f"index.json: {error.strerror}", "Use the directory that contains index.json and blobs."
            ) from error
        manifests = value.get("manifests")
        return manifests if isinstance(manifests, list) else []

    def _document(self, descriptor: Descriptor) -> bytes:
        try:
            with open_regular(blob_path(self._path, descriptor.digest)) as file:
                data = file.read(MAX_DOCUMENT_BYTES)
        except OSError as error:
            raise self._error(f"no blob {descriptor.digest}: {error.strerror}", "Copy the image again.") from error
        if len(data) != descriptor.size or Digest.of(data) != descriptor.digest:
            raise self._error(
                f"the content of {descriptor.digest} has another digest or size",
                "Copy the image again: it is damaged.",
                Reason.LAYER_INVALID,
            )
        return data

    def _error(self, what: str, hint: str, reason: Reason = Reason.FILE_NOT_FOUND) -> ImagewrightError:
        return ImagewrightError(f'cannot read the OCI layout "{self._path}": {what}', reason=reason, hint=hint)

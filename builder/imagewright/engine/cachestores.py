"""Where the layer cache keeps its entries: a repository of a registry, or an OCI image layout in a folder.

Talks to a registry through the client it is given, or reads and writes a folder. Made by ``engine.build`` for
``cache.layers``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from imagewright.cache.entry import EMPTY_LAYER
from imagewright.cache.layers import EntryStore
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, UsageError
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.manifest import Manifest
from imagewright.reference import Reference
from imagewright.registry.client import PushImage, RegistryClient
from imagewright.store.layout import write_layout
from imagewright.store.layoutreader import LayoutReader
from imagewright.streams import Readable

_LAYOUT = "oci:"  # kaniko's way to write a folder


def open_store(repository: str, client: RegistryClient) -> EntryStore:
    """The store that ``--cache-repo`` names.

    Raises:
        UsageError: it names no repository, or one with a tag or a digest, or no folder.
    """
    if repository.startswith(_LAYOUT):
        folder = repository.removeprefix(_LAYOUT).removeprefix("//")
        if not folder:
            raise UsageError(f"the cache {repository} names no folder", hint="Write oci:FOLDER.")
        return LayoutStore(folder)
    try:
        reference = Reference.parse(f"{repository}:cache")  # which fails where there is a tag or a digest already
    except ImagewrightError as error:
        raise UsageError(
            f"the cache {repository[:300]!r} is no repository",
            hint="Write registry.example.com/team/app/cache without a tag, or oci:FOLDER.",
        ) from error
    return RepositoryStore(client, reference)


@dataclass(frozen=True, slots=True)
class RepositoryStore:
    """Entries as tags of a repository."""

    client: RegistryClient
    repository: Reference

    @property
    def name(self) -> str:
        return f"{self.repository.registry}/{self.repository.repository}"

    @property
    def found_at(self) -> Reference | None:
        return self.repository

    def reference(self, key: str) -> Reference:
        return replace(self.repository, tag=key)

    def get(self, key: str) -> Manifest | None:
        return self.client.find(self.reference(key))

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self.client.open_found(self.reference(key), descriptor)

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None:
        image = PushImage(manifest, config)
        self.client.push(image, [self.reference(key)], _Blobs(open_blob), lambda *_: None)


@dataclass(frozen=True, slots=True)
class LayoutStore:
    """Entries as images of an OCI image layout."""

    folder: str

    @property
    def name(self) -> str:
        return f"{_LAYOUT}{self.folder}"

    @property
    def found_at(self) -> Reference | None:
        return None

    def get(self, key: str) -> Manifest | None:
        return LayoutReader(self.folder).manifest(key)

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return LayoutReader(self.folder).open(descriptor)

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None:
        write_layout(self.folder, manifest, config, _Blobs(open_blob).open, key)


@dataclass(frozen=True, slots=True)
class _Blobs:
    """The layer of an entry, or the one that stands for none."""

    open_layer: OpenBlob

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        if descriptor.digest == Digest.of(EMPTY_LAYER):
            yield io.BytesIO(EMPTY_LAYER)
        else:
            with self.open_layer(descriptor) as stream:
                yield stream

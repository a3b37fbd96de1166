"""The layer cache of a build: what the request asks for, where entries are stored, and what is logged at the end.

Entries are in a repository of a registry, reached through the client it is given, or in an OCI image layout in a folder.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from imagewright.cache.entry import EMPTY_LAYER
from imagewright.cache.layers import EntryStore, LayerCache, Settings
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import StepResult
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


def open_cache(request: BuildRequest, client: RegistryClient, warn: Callable[[str], None]) -> LayerCache | None:
    """The cache that a request asks for, None without one.

    Raises:
        UsageError: it names no repository and no folder.
    """
    wanted = request.cache
    if wanted is None:
        return None
    if request.image.ignore_paths:
        # Later steps see what is there, and no layer has it: neither does a key.
        warn(
            "with --ignore-path nothing is cached: what a RUN leaves at such a path is in no layer, and later steps see it"
        )
        return None
    # A build is explained by the last one of the same target for the same destinations.
    names = [Reference.parse(text).name for text in request.output.destinations]
    build = json.dumps([names, request.plan.target, request.plan.dockerfile, request.context.directory])
    return LayerCache(open_store(wanted.repository, client), Settings(wanted.ttl_s, wanted.push, build), warn)


def tell_of_cache(name: str, results: Sequence[StepResult], say: Callable[[str], None], *, each: bool) -> None:
    """How many steps were cached; with ``each``, every step with why it was not (``--explain-cache``)."""
    asked = [step for step in results if step.cached or step.cache_miss]
    if not asked:
        return
    say(f"{sum(step.cached for step in asked)} of {len(asked)} steps were in the cache {name}")
    for step in asked if each else ():
        say(f"  {step.name}: {'cached' if step.cached else step.cache_miss}")

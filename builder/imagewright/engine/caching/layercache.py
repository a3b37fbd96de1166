"""The layer cache of a build: opened for a request, where its entries are stored, and the log of its use.

Entries are in a repository of a registry, reached through the given registries, or in an OCI image layout in a folder.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from imagewright.cache.entry import EMPTY_LAYER
from imagewright.cache.indexes import IndexCache
from imagewright.cache.layers import LayerCache
from imagewright.cache.sources import EntryStore, Sources
from imagewright.cache.target import Target
from imagewright.contract.request import BuildRequest, CacheSettings
from imagewright.contract.result import StepResult
from imagewright.digest import Digest
from imagewright.engine.events import Reporter
from imagewright.engine.registries import Registries
from imagewright.errors import ImagewrightError, UsageError
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.oci.manifest import Manifest
from imagewright.records import dataclass
from imagewright.reference import Reference
from imagewright.registry.push import PushImage
from imagewright.store.layout import write_layout
from imagewright.store.layoutreader import LayoutReader
from imagewright.streams import Readable
from imagewright.workers import Patience

_LAYOUT = "oci:"  # kaniko's prefix for a folder
_INDEXES = "indexes"  # a layout in the cache folder, next to the cache mounts


def open_store(repository: str, registries: Registries) -> EntryStore:
    """The store that a flag such as ``--cache-repo`` names.

    Raises:
        UsageError: neither a repository without tag and digest nor a folder.
    """
    if repository.startswith(_LAYOUT):
        folder = repository.removeprefix(_LAYOUT).removeprefix("//")
        if not folder:
            raise UsageError(f'invalid cache "{repository}": no folder', hint="Use, for example, oci:/cache.")
        return LayoutStore(folder)
    try:
        reference = Reference.parse(f"{repository}:cache")  # fails if there is a tag or a digest already
    except ImagewrightError as error:
        raise UsageError(
            f'invalid cache "{repository[:300]}": neither a repository without a tag nor a folder',
            hint="Use, for example, registry.example.com/team/app/cache, or oci:/cache.",
        ) from error
    return RepositoryStore(registries, reference)


@dataclass(frozen=True, slots=True)
class RepositoryStore:
    """Entries as tags of a repository."""

    registries: Registries
    repository: Reference

    @property
    def name(self) -> str:
        return f"{self.repository.registry}/{self.repository.repository}"

    @property
    def found_at(self) -> Reference | None:
        return self.repository

    def reference(self, key: str) -> Reference:
        return replace(self.repository, tag=key)

    def has(self, key: str) -> bool:
        return self.registries.puller.has(self.reference(key))

    def get(self, key: str) -> Manifest | None:
        return self.registries.puller.find(self.reference(key))

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self.registries.puller.open_found(self.reference(key), descriptor)

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None:
        image = PushImage(manifest, config)
        self.registries.pusher.push(image, [self.reference(key)], _Blobs(open_blob), lambda *_: None)


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

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Manifest | None:
        return LayoutReader(self.folder).manifest(key)

    def open(self, key: str, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return LayoutReader(self.folder).open(descriptor)

    def put(self, key: str, manifest: Manifest, config: bytes, open_blob: OpenBlob) -> None:
        write_layout(self.folder, manifest, config, _Blobs(open_blob).open, key)


@dataclass(frozen=True, slots=True)
class _Blobs:
    """The layer of an entry, or the empty one of an entry without."""

    open_layer: OpenBlob

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        if descriptor.digest == Digest.of(EMPTY_LAYER):
            yield io.BytesIO(EMPTY_LAYER)
        else:
            with self.open_layer(descriptor) as stream:
                yield stream


@dataclass(frozen=True, slots=True)
class Caches:
    """The cache of layers, and that of their indexes; None without one."""

    layers: LayerCache | None = None
    indexes: IndexCache | None = None

    def close(self) -> None:
        """Store no more."""
        for cache in (self.layers, self.indexes):
            if cache is not None:
                cache.close()


def open_caches(request: BuildRequest, registries: Registries, reporter: Reporter) -> Caches:
    """The caches of a request: indexes are kept with the layers, without a cache of these in the ``--cache-dir``.

    Raises:
        UsageError: neither a repository nor a folder.
    """
    wanted, warn = request.cache, reporter.warning
    if wanted is None:
        return Caches(indexes=_local_indexes(request.run.cache_dir, reporter, registries.patience))
    if request.image.ignore_paths:
        # Later steps see files at these paths that neither layers nor cache keys contain.
        warn("layer cache is off: with --ignore-path later steps see files that no layer contains")
        return Caches()
    # Cache misses are explained by the last build with the same target and destinations.
    names = [Reference.parse(text).name for text in request.output.destinations]
    build = json.dumps([names, request.plan.target, request.plan.dockerfile, request.context.directory])
    stores = {name: open_store(name, registries) for name in (*wanted.sources, *filter(None, (wanted.target,)))}
    sources = Sources([stores[name] for name in wanted.sources], wanted.ttl_s, warn)
    target = Target(stores[wanted.target], warn, registries.patience) if wanted.target else None
    return Caches(LayerCache(sources, target, build, warn), IndexCache(sources, target, reporter.debug))


def _local_indexes(cache_dir: str, reporter: Reporter, patience: Patience) -> IndexCache | None:
    """Those in a folder of this machine, which are only read if it cannot be written."""
    if not cache_dir:
        return None
    store = LayoutStore(os.path.join(cache_dir, _INDEXES))
    try:
        os.makedirs(store.folder, mode=0o700, exist_ok=True)
        writable = os.access(store.folder, os.W_OK) and not os.path.islink(store.folder)
    except OSError:
        writable = False
    warn = reporter.warning
    target = Target(store, warn, patience) if writable else None
    return IndexCache(Sources([store], 0, warn), target, reporter.debug)


def repositories_of(cache: CacheSettings | None) -> list[Reference]:
    """The repositories that a cache is read from and written to; none for folders."""
    names = dict.fromkeys((*cache.sources, cache.target)) if cache is not None else {}
    return [Reference.parse(f"{name}:cache") for name in names if name and not name.startswith(_LAYOUT)]


def log_cache_use(name: str, results: Sequence[StepResult], log: Callable[[str], None], *, each: bool) -> None:
    """Log how many steps were cached; with ``each`` every step and why it was not (``--explain-cache``)."""
    looked_up = [step for step in results if step.cached or step.cache_miss]
    if not looked_up:
        return
    log(f"{sum(step.cached for step in looked_up)} of {len(looked_up)} steps were cached in {name}")
    for step in looked_up if each else ():
        log(f"  {step.name}: {'cached' if step.cached else step.cache_miss}")

"""Layers of the image that is being built, and what becomes one.

No I/O.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from imagewright.contract import timestamp
from imagewright.contract.request import BuildRequest
from imagewright.digest import Digest
from imagewright.fs.layer.chunked import table_of
from imagewright.fs.layer.compress import PackOptions
from imagewright.oci.descriptor import Descriptor, OpenBlob
from imagewright.plan.steps import CopyStep, RunStep, Step, WorkdirStep
from imagewright.records import dataclass
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """Where a layer is stored. ``found_at`` names its repository, None where it is a folder.

    ``cache_key`` is its entry of the layer cache, ``""`` for a layer of a base image. ``read_range`` reads a range of
    its blob, by offset and length, None where only the whole can be read.
    """

    open: OpenBlob
    found_at: Reference | None
    cache_key: str = ""
    read_range: Callable[[Descriptor, int, int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the image that is being built. ``origin`` is None where this build made it.

    ``made_of`` is the key of the COPY or WORKDIR that made it, ``""`` for others: it stands for files whose times are
    those of the moment.
    """

    descriptor: Descriptor
    diff_id: Digest
    origin: LayerOrigin | None = None
    made_of: str = ""

    @property
    def identity(self) -> str:
        """How cache keys of later steps refer to it.

        Where its table of contents may be read instead of the layer, nothing proves the diff ID that an image claims.
        """
        return self.made_of or f"{self.diff_id} {table_of(self.descriptor)}".rstrip()

    @property
    def name(self) -> str:
        """A short name for messages."""
        return f"sha256:{self.descriptor.digest.hex[:12]}"


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """What becomes a layer, how it is packed, and the time that it carries.

    ``single``: everything that the last stage changes is one layer. ``ignored`` are root-relative paths that are left
    out of the layers of RUNs. ``cached_kinds`` are the steps whose layers are cached, where there is a cache.
    ``epoch_s`` is SOURCE_DATE_EPOCH, None without.
    """

    pack: PackOptions
    single: bool = False
    ignored: tuple[bytes, ...] = ()
    cached_kinds: frozenset[type[Step]] = frozenset()
    epoch_s: int | None = None

    def created(self) -> str:
        """The time for configuration and history."""
        if self.epoch_s is None:
            return timestamp(datetime.now(UTC))
        return datetime.fromtimestamp(self.epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def layer_options(request: BuildRequest, epoch_s: int | None) -> LayerOptions:
    """What a request says of layers."""
    kinds: set[type[Step]] = {WorkdirStep}
    if request.cache is not None:
        kinds |= {RunStep} if request.cache.run_layers else set()
        kinds |= {CopyStep} if request.cache.copy_layers else set()
    ignored = tuple(os.fsencode(path.strip("/")) for path in request.image.ignore_paths if path.strip("/"))
    pack = PackOptions(request.image.compression, request.image.compression_level, epoch_s)
    return LayerOptions(pack, request.image.single_layer, ignored, frozenset(kinds), epoch_s)

"""An entry of the cache: an image with the layer of a step, or without one, and annotations that identify the step.

No I/O. Entries are ordinary OCI images (manifest.md), which every registry stores, garbage-collects and lists. A lookup
needs only the annotations of the manifest, so it takes one request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from imagewright.digest import Digest
from imagewright.oci.config import HistoryEntry, ImageConfig
from imagewright.oci.descriptor import Descriptor, document_error
from imagewright.oci.manifest import Manifest
from imagewright.oci.mediatypes import OCI_LAYER, ImageFormat
from imagewright.oci.platform import Platform
from imagewright.records import dataclass

_VERSION = "1"
_PREFIX = "dev.imagewright.cache"
_CREATED = "org.opencontainers.image.created"
_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_STEP = 500  # characters of the instruction; for people
# Some registries refuse images without layers: this one is an empty tar, and stands for no change.
EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")
EMPTY_LAYER_DIFF_ID = Digest.parse("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")


@dataclass(frozen=True, slots=True)
class Entry:
    """``layer`` is None if the step changed no file. ``created_s`` is in seconds since 1970.

    ``made_of`` identifies the layer in keys of later steps, ``""`` for its diff ID.
    """

    key: str
    created_s: float
    step: str
    layer: Descriptor | None = None
    diff_id: Digest | None = None
    made_of: str = ""

    def image(self, platform: Platform) -> tuple[Manifest, bytes]:
        """The manifest and configuration to store."""
        created = datetime.fromtimestamp(self.created_s, UTC).isoformat().replace("+00:00", "Z")
        history = HistoryEntry(self.step[:_MAX_STEP], created, comment="layer cache of imagewright")
        config = ImageConfig.scratch(platform).with_layers([self.diff_id or EMPTY_LAYER_DIFF_ID], [history])
        annotations = {
            _CREATED: created,
            f"{_PREFIX}.version": _VERSION,
            f"{_PREFIX}.key": self.key,
            f"{_PREFIX}.step": self.step[:_MAX_STEP],
        }
        if self.diff_id is not None:
            annotations[f"{_PREFIX}.diff-id"] = str(self.diff_id)
        if self.made_of:
            annotations[f"{_PREFIX}.made-of"] = self.made_of
        return as_image(config.with_created(created), self.layer, annotations)


def as_image(
    config: ImageConfig, layer: Descriptor | None = None, annotations: Mapping[str, str] | None = None
) -> tuple[Manifest, bytes]:
    """The manifest and the bytes of a configuration with one layer, by default the empty one."""
    raw = config.dump()
    layer = layer.of_family(ImageFormat.OCI) if layer else Descriptor.of(ImageFormat.OCI.layer("gzip"), EMPTY_LAYER)
    return Manifest.build(ImageFormat.OCI, Descriptor.of(ImageFormat.OCI.config, raw), [layer], annotations), raw


def read_entry(manifest: Manifest, key: str) -> Entry:
    """Parse the entry that is stored under a key.

    Raises:
        ImagewrightError: it is not an entry, or that of another key.
    """
    annotations = manifest.annotations
    if annotations.get(f"{_PREFIX}.version") != _VERSION or annotations.get(f"{_PREFIX}.key") != key:
        raise document_error("not an entry of this cache")
    try:
        created = datetime.fromisoformat(annotations.get(_CREATED, ""))
    except ValueError:
        raise document_error("missing or invalid creation time") from None
    if created.tzinfo is None or len(manifest.layers) != 1:
        raise document_error("not an entry of this cache")
    layer, step = manifest.layers[0], annotations.get(f"{_PREFIX}.step", "")
    diff_id = annotations.get(f"{_PREFIX}.diff-id")
    if diff_id is None:
        if layer.digest != Digest.of(EMPTY_LAYER):
            raise document_error("the diff ID of its layer is missing")
        return Entry(key, created.timestamp(), step)
    if not layer.media_type.startswith(OCI_LAYER):
        raise document_error(f'unexpected media type "{layer.media_type}" of its layer')
    made_of = annotations.get(f"{_PREFIX}.made-of", "")
    if made_of and not _KEY.fullmatch(made_of):
        raise document_error("invalid made-of annotation")
    return Entry(key, created.timestamp(), step, layer, Digest.parse(diff_id), made_of)

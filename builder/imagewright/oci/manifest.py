"""Image manifests (manifest.md) and indexes (image-index.md), of the OCI and the Docker family.

No I/O. Both keep the bytes they were made from: their digest is that of what was received or sent, not of JSON that
was serialised again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Self

from imagewright import jsontext
from imagewright.digest import Digest
from imagewright.oci.descriptor import Descriptor, document_error
from imagewright.oci.mediatypes import INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, ImageFormat
from imagewright.oci.platform import Platform
from imagewright.records import dataclass

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024  # distribution-spec: registries limit manifests to 4 MiB
_MAX_DEPTH = 100  # of nested JSON: it is walked by recursive functions later
_MAX_LAYERS = 1000  # far above what runtimes mount; limits what a hostile manifest makes the engine fetch


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image's manifest. ``layers`` are in order, base first."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Self:
        """Read a manifest; ``media_type`` is the response's Content-Type, used if the document has none.

        Raises:
            ImagewrightError: reason ``RegistryProtocolError``.
        """
        value = load_document(raw)
        media_type = str(value.get("mediaType") or media_type or OCI_MANIFEST)
        if media_type not in MANIFESTS:
            raise document_error(f'the media type "{media_type}" is not that of an image manifest')
        layers = value.get("layers")
        if not isinstance(layers, list):
            raise document_error("the manifest has no list of layers")
        if len(layers) > _MAX_LAYERS:
            raise document_error(f"the manifest has {len(layers)} layers, more than {_MAX_LAYERS}")
        annotations = value.get("annotations") or {}
        if not isinstance(annotations, dict):
            raise document_error("the manifest's annotations are not an object")
        return cls(
            raw,
            media_type,
            Descriptor.from_json(value.get("config")),
            tuple(Descriptor.from_json(layer) for layer in layers),
            {str(k): str(v) for k, v in annotations.items()},
        )

    @classmethod
    def build(
        cls,
        image_format: ImageFormat,
        config: Descriptor,
        layers: Sequence[Descriptor],
        annotations: Mapping[str, str] | None = None,
    ) -> Self:
        """A new manifest. Only OCI manifests have annotations."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": image_format.manifest,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
        if annotations:
            value["annotations"] = dict(sorted(annotations.items()))
        return cls(dump_document(value), image_format.manifest, config, tuple(layers), dict(annotations or {}))

    @property
    def digest(self) -> Digest:
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def size(self) -> int:
        """Bytes of the configuration and all layers as they are stored, compressed."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """An image index (Docker: manifest list): manifests by platform."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "") -> Self:
        """Read an index.

        Raises:
            ImagewrightError: reason ``RegistryProtocolError``.
        """
        value = load_document(raw)
        media_type = str(value.get("mediaType") or media_type or OCI_INDEX)
        if media_type not in INDEXES:
            raise document_error(f'the media type "{media_type}" is not that of an image index')
        manifests = value.get("manifests")
        if not isinstance(manifests, list):
            raise document_error("the index has no list of manifests")
        return cls(raw, media_type, tuple(Descriptor.from_json(m) for m in manifests))

    def select(self, platform: Platform) -> Descriptor | None:
        """The manifest that fits ``platform`` best (the first of equals), or None. Attestations are skipped."""
        best: tuple[int, Descriptor] | None = None
        for descriptor in self.manifests:
            if descriptor.media_type not in MANIFESTS or descriptor.platform is None:
                continue
            preference = platform.preference(descriptor.platform)
            if preference and (best is None or preference > best[0]):
                best = (preference, descriptor)
        return best[1] if best else None

    @property
    def digest(self) -> Digest:
        return Digest.of(self.raw)


def is_index(raw: bytes, media_type: str) -> bool:
    """Whether a document is an index: by its own mediaType, else the response's, else its keys."""
    value = load_document(raw)
    named = str(value.get("mediaType") or media_type)
    return named in INDEXES if named in INDEXES | MANIFESTS else "manifests" in value


def load_document(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object from a registry, with bounds.

    Raises:
        ImagewrightError: reason ``RegistryProtocolError``.
    """
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise document_error(f"it has {len(raw)} bytes, more than {MAX_DOCUMENT_BYTES}")
    try:
        value = jsontext.loads(raw)
    except (ValueError, RecursionError) as error:
        raise document_error(f"it is not JSON ({str(error)[:100]})") from error
    if not isinstance(value, dict):
        raise document_error("it is not a JSON object")
    if _is_deeper(value, _MAX_DEPTH):
        raise document_error(f"it is nested more than {_MAX_DEPTH} levels deep")
    return value


def _is_deeper(value: object, levels: int) -> bool:
    level: list[object] = [value]
    for _ in range(levels):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def dump_document(value: Mapping[str, Any]) -> bytes:
    """JSON in the one form that this engine takes digests of: compact, keys in their given order."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

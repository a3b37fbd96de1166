"""Content descriptors (descriptor.md): media type, digest and size of some content.

No I/O. Parsed from registries' answers, so every field is checked here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, Self

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.mediatypes import ImageFormat, layer_compression
from imagewright.oci.platform import Platform
from imagewright.records import dataclass
from imagewright.streams import Readable


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed pointer to content. ``size`` is in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read and check a descriptor from parsed JSON.

        Raises:
            ImagewrightError: reason ``RegistryProtocolError``, naming the field that is wrong.
        """
        if not isinstance(value, dict):
            raise document_error(f"a descriptor is not an object but {type(value).__name__}")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not media_type:
            raise document_error("a descriptor has no mediaType")
        if not isinstance(digest, str):
            raise document_error("a descriptor has no digest")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise document_error(f"the descriptor of {digest[:80]} has the invalid size {size!r}")
        platform = value.get("platform")
        annotations = value.get("annotations") or {}
        if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
            raise document_error(f"the descriptor of {digest[:80]} has annotations that are not strings")
        return cls(
            media_type,
            Digest.parse(digest),
            size,
            annotations,
            Platform.from_json(platform) if isinstance(platform, dict) else None,
        )

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Self:
        """The descriptor of some bytes."""
        return cls(media_type, Digest.of(data), len(data))

    def of_family(self, image_format: ImageFormat) -> Descriptor:
        """The same layer with the media type of a family, and without annotations.

        Raises:
            ValueError: Docker has no media type for zstd.
        """
        return Descriptor(image_format.layer(layer_compression(self.media_type)), self.digest, self.size)

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        return value


OpenBlob = Callable[[Descriptor], AbstractContextManager[Readable]]  # opens the content of a descriptor


def document_error(why: str) -> ImagewrightError:
    """The error for a manifest, index or configuration that violates the specification."""
    return ImagewrightError(
        f"invalid document from the registry: {why}",
        reason=Reason.REGISTRY_PROTOCOL_ERROR,
        hint="Check that the name is that of an image, and that no proxy answers in the registry's place.",
    )

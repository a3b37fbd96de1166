"""Media types of the OCI image specification (media-types.md) and of Docker's schema 2, and how they pair up.

No I/O. The manifest, configuration and layers of an image all belong to one family.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

Compression = Literal["none", "gzip", "zstd"]


class ImageFormat(StrEnum):
    """The family of media types that an image is written in."""

    OCI = "oci"
    DOCKER = "docker"

    @property
    def manifest(self) -> str:
        return OCI_MANIFEST if self is ImageFormat.OCI else DOCKER_MANIFEST

    @property
    def config(self) -> str:
        return OCI_CONFIG if self is ImageFormat.OCI else DOCKER_CONFIG

    def layer(self, compression: Compression) -> str:
        """The layer media type. Docker has none for zstd: asking for it is a programming error."""
        if self is ImageFormat.OCI:
            return OCI_LAYER if compression == "none" else f"{OCI_LAYER}+{compression}"
        if compression == "zstd":
            raise ValueError("Docker's media types have no zstd layer")
        return DOCKER_LAYER if compression == "none" else f"{DOCKER_LAYER}.gzip"


def format_of(manifest_media_type: str) -> ImageFormat:
    """The family of a manifest's media type."""
    return ImageFormat.DOCKER if manifest_media_type == DOCKER_MANIFEST else ImageFormat.OCI


def layer_compression(media_type: str) -> Compression:
    """The compression of a layer of this media type, by its suffix; unknown types count as uncompressed."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if media_type.endswith("+zstd"):
        return "zstd"
    return "none"

"""Reads an image out of a docker-archive, as ``store.archive`` and ``docker save`` write it.

Reads one file. An archive is not trusted: its content is hashed.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from imagewright import jsontext
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.config import ImageConfig
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import MAX_DOCUMENT_BYTES, Manifest
from imagewright.oci.mediatypes import Compression, ImageFormat
from imagewright.records import dataclass
from imagewright.streams import Readable

_CHUNK_BYTES = 1 << 20
_MAGIC: Mapping[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """The image of an archive. An archive has no manifest, so that a new one is built."""

    path: str
    manifest: Manifest
    config: bytes
    names: Mapping[Digest, str]  # of layers in the archive

    @classmethod
    def read(cls, path: str) -> Self:
        """Read an archive of one image; layers are hashed.

        Raises:
            ImagewrightError: reason ``LayerInvalid``: it is not a docker-archive, has several images, or is incomplete.
        """
        try:
            with tarfile.open(path, "r:*") as tar:
                entry = _entry(path, tar)
                raw = _document(path, tar, str(entry.get("Config", "")))
                config = ImageConfig.parse(raw)
                listed = entry.get("Layers")
                if not isinstance(listed, list) or len(listed) != len(config.diff_ids):
                    raise _bad(path, "its layers do not match its configuration")
                layers = [_layer(path, tar, str(name)) for name in listed]
        except (tarfile.TarError, EOFError) as error:
            raise _bad(path, str(error) or "it is not a tar archive") from error
        except OSError as error:
            raise _bad(path, error.strerror or str(error)) from error
        zstd = any(compression == "zstd" for _, _, compression in layers)
        kind = ImageFormat.OCI if zstd else ImageFormat.DOCKER
        described = [Descriptor(kind.layer(compression), digest, size) for digest, size, compression in layers]
        manifest = Manifest.build(kind, Descriptor.of(kind.config, raw), described)
        names = {digest: str(name) for (digest, _, _), name in zip(layers, listed, strict=True)}
        return cls(path, manifest, raw, names)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """A layer, as it is stored."""
        with tarfile.open(self.path, "r:*") as tar:
            yield _member(self.path, tar, self.names[descriptor.digest])


def _entry(path: str, tar: tarfile.TarFile) -> dict[str, Any]:
    try:
        listing = jsontext.loads(_document(path, tar, "manifest.json"))
    except (ValueError, RecursionError):
        raise _bad(path, "its manifest.json is not JSON") from None
    if not isinstance(listing, list) or len(listing) != 1 or not isinstance(listing[0], dict):
        count = len(listing) if isinstance(listing, list) else 0
        raise _bad(path, f"it has {count} images instead of one")
    return listing[0]


def _document(path: str, tar: tarfile.TarFile, name: str) -> bytes:
    data = _member(path, tar, name).read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _bad(path, f"{name} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return data


def _member(path: str, tar: tarfile.TarFile, name: str) -> Readable:
    try:
        file = tar.extractfile(name)
    except KeyError:
        raise _bad(path, f"it does not contain {name or 'a configuration'}") from None
    if file is None:
        raise _bad(path, f"{name} is not a file")
    return file


def _layer(path: str, tar: tarfile.TarFile, name: str) -> tuple[Digest, int, Compression]:
    stream = _member(path, tar, name)
    hasher, size, head = hashlib.sha256(), 0, b""
    while data := stream.read(_CHUNK_BYTES):
        head = head or data[:4]
        hasher.update(data)
        size += len(data)
    compression: Compression = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "none")
    return Digest("sha256", hasher.hexdigest()), size, compression


def _bad(path: str, why: str) -> ImagewrightError:
    return ImagewrightError(
        f'cannot read "{path}" as a docker-archive: {why[:300]}',
        reason=Reason.LAYER_INVALID,
        hint="Use an archive or a layout from --tar-path or --oci-layout-path of a build, or from docker save of one image.",
    )

"""Writes an image as an OCI image layout (image-layout.md).

Writes a folder. Called by ``engine.output``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.manifest import Manifest, dump_document
from imagewright.oci.mediatypes import OCI_INDEX

_REF_NAME = "org.opencontainers.image.ref.name"


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


OpenBlob = Callable[[Descriptor], AbstractContextManager[Readable]]


def write_layout(path: str, manifest: Manifest, config: bytes, open_blob: OpenBlob, ref_name: str = "") -> None:
    """Write or complete the layout at ``path``; an entry of the same name or digest in its index is replaced.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    try:
        folder = os.path.join(path, "blobs", "sha256")
        os.makedirs(folder, exist_ok=True)
        for layer in manifest.layers:
            target = _blob_path(path, layer.digest)
            if not (os.path.exists(target) and os.path.getsize(target) == layer.size):
                with open_blob(layer) as stream, _replacing(target) as temporary, open(temporary, "wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 20)
        _write(_blob_path(path, manifest.config.digest), config)
        _write(_blob_path(path, manifest.digest), manifest.raw)
        _write(os.path.join(path, "oci-layout"), dump_document({"imageLayoutVersion": "1.0.0"}))
        entry = manifest.descriptor.to_json()
        if ref_name:
            entry["annotations"] = {_REF_NAME: ref_name}
        kept = [e for e in _entries(path) if e.get("digest") != entry["digest"] and _name(e) != (ref_name or None)]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*kept, entry]}
        _write(os.path.join(path, "index.json"), dump_document(index))
    except OSError as error:
        raise ImagewrightError(
            f"the OCI layout {path} can't be written: {error.strerror}",
            reason=Reason.OUTPUT_FAILED,
            hint="Name a folder that can be written with --oci-layout-path.",
        ) from error


def _entries(path: str) -> list[dict[str, object]]:
    file = os.path.join(path, "index.json")
    if not os.path.exists(file):
        return []
    try:
        with open(file, "rb") as stream:
            return [e for e in json.load(stream)["manifests"] if isinstance(e, dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise ImagewrightError(
            f"{file} is no OCI index", reason=Reason.OUTPUT_FAILED, hint="Name an empty folder, or an OCI layout."
        ) from error


def _name(entry: dict[str, object]) -> object:
    annotations = entry.get("annotations")
    return annotations.get(_REF_NAME) if isinstance(annotations, dict) else None


def _blob_path(path: str, digest: Digest) -> str:
    return os.path.join(path, "blobs", digest.algorithm, digest.hex)


def _write(target: str, data: bytes) -> None:
    with _replacing(target) as temporary, open(temporary, "wb") as out:
        out.write(data)


class _replacing(AbstractContextManager[str]):
    """A temporary name beside ``target`` that takes its place when all went well."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._temporary = f"{target}.{os.getpid()}.partial"

    def __enter__(self) -> str:
        return self._temporary

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            os.replace(self._temporary, self._target)
        elif os.path.exists(self._temporary):
            os.unlink(self._temporary)

"""Writes an image as an OCI image layout (image-layout.md).

Writes a directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import BinaryIO

from imagewright import jsontext
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.descriptor import OpenBlob
from imagewright.oci.manifest import Manifest, dump_document
from imagewright.oci.mediatypes import OCI_INDEX
from imagewright.store.copying import copy_blob, is_whole
from imagewright.store.files import open_regular, replacing, write_error

REF_NAME = "org.opencontainers.image.ref.name"


def write_layout(path: str, manifest: Manifest, config: bytes, open_blob: OpenBlob, ref_name: str = "") -> None:
    """Write the layout at ``path``, or add to it: an entry of the same name is replaced, others are kept.

    Several processes may do this at the same time.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    try:
        folder = os.path.join(path, "blobs", "sha256")
        os.makedirs(folder, exist_ok=True)
        for layer in manifest.layers:
            target = blob_path(path, layer.digest)
            if not is_whole(target, layer):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open_blob(layer) as stream, _replacing(target) as out:
                    copy_blob(stream, out, layer)
        _write(blob_path(path, manifest.config.digest), config)
        _write(blob_path(path, manifest.digest), manifest.raw)
        _write(os.path.join(path, "oci-layout"), dump_document({"imageLayoutVersion": "1.0.0"}))
        entry = manifest.descriptor.to_json()
        if ref_name:
            entry["annotations"] = {REF_NAME: ref_name}
        with _locked(path):
            kept = [e for e in _entries(path) if not _is_replaced(e, str(manifest.digest), ref_name)]
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*kept, entry]}
            _write(os.path.join(path, "index.json"), dump_document(index))
    except OSError as error:
        raise write_error(f'the OCI layout "{path}"', error, "--oci-layout-path") from error


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Locks the directory (flock(2)), so that no build loses the entries that another adds. Without locks in the file
    system, the last one wins."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _entries(path: str) -> list[dict[str, object]]:
    file = os.path.join(path, "index.json")
    if not os.path.exists(file):
        return []
    try:
        with open_regular(file) as stream:
            return [e for e in jsontext.loads(stream.read())["manifests"] if isinstance(e, dict)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImagewrightError(
            f'cannot read the OCI index "{file}": it is invalid',
            reason=Reason.OUTPUT_FAILED,
            hint="Use an empty directory or an OCI layout.",
        ) from error


def _is_replaced(entry: dict[str, object], digest: str, ref_name: str) -> bool:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name == ref_name if name else entry.get("digest") == digest


def blob_path(path: str, digest: Digest) -> str:
    """The path of a blob in the layout at ``path``."""
    return os.path.join(path, "blobs", digest.algorithm, digest.hex)


def _write(target: str, data: bytes) -> None:
    with _replacing(target) as out:
        out.write(data)


def _replacing(target: str) -> AbstractContextManager[BinaryIO]:
    """As ``replacing``, which would write into a FIFO, and wait for its reader."""
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EINVAL, "not a regular file", target)
    return replacing(target)

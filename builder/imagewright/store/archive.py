"""Writes an image as a docker-archive: what ``docker load`` reads, and ``docker save`` wrote before it wrote layouts.

Writes a file. The writer of tar headers is an argument, since ``store`` must not import ``fs``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import BinaryIO

from imagewright.oci.descriptor import OpenBlob
from imagewright.oci.manifest import Manifest, dump_document
from imagewright.oci.mediatypes import layer_compression
from imagewright.reference import Reference
from imagewright.store.copying import copy_blob
from imagewright.store.files import replacing, write_error

FileHeader = Callable[[str, int], bytes]  # (name, size in bytes) -> the header blocks of a regular file
_BLOCK = 512


def write_docker_archive(
    path: str, manifest: Manifest, config: bytes, references: Sequence[Reference], parts: tuple[OpenBlob, FileHeader]
) -> None:
    """Write the archive, and its folder if that is missing. ``parts`` provide blobs and tar headers.

    Layers are stored compressed, as they are.

    Raises:
        ImagewrightError: reason ``OutputFailed``.
    """
    open_blob, file_header = parts
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with replacing(path) as out:
            names = []
            seen = set()
            for layer in manifest.layers:
                suffix = {"gzip": ".tar.gz", "zstd": ".tar.zst"}.get(layer_compression(layer.media_type), ".tar")
                name = layer.digest.hex + suffix
                names.append(name)
                if name in seen:
                    continue
                seen.add(name)
                out.write(file_header(name, layer.size))
                with open_blob(layer) as stream:
                    copy_blob(stream, out, layer)
                out.write(bytes(-layer.size % _BLOCK))
            config_name = f"{manifest.config.digest.hex}.json"
            _add(out, config_name, config, file_header)
            # docker load names the image by its tags; a digest cannot be chosen.
            tags = list(dict.fromkeys(replace(r, digest=None).familiar() for r in references if r.tag))
            listing = [{"Config": config_name, "RepoTags": tags, "Layers": names}]
            _add(out, "manifest.json", b"[" + dump_document(listing[0]) + b"]", file_header)
            out.write(bytes(2 * _BLOCK))
    except OSError as error:
        raise write_error(f'the archive "{path}"', error, "--tar-path") from error


def _add(out: BinaryIO, name: str, data: bytes, file_header: FileHeader) -> None:
    out.write(file_header(name, len(data)) + data + bytes(-len(data) % _BLOCK))

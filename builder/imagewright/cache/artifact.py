"""The index of a layer as the cache stores it: an OCI artifact (manifest.md, "Guidelines for Artifact Usage").

No I/O. Its tag is a hash of the layer's diff ID. Most indexes are also embedded in the manifest (descriptor.md,
"Embedded Content"), so that a lookup takes one request.
"""

from __future__ import annotations

import base64
import binascii

from imagewright.digest import Digest, FramedHash
from imagewright.oci.descriptor import Descriptor, document_error
from imagewright.oci.manifest import Manifest, dump_document, load_document
from imagewright.oci.mediatypes import OCI_MANIFEST

ARTIFACT_TYPE = "application/vnd.imagewright.layer.index.v1"
MEDIA_TYPE = f"{ARTIFACT_TYPE}+zstd"
MAX_INDEX_BYTES = 16 << 20  # a virtual root has no room for what is larger
_MAX_EMBEDDED_BYTES = 1 << 20  # 100,000 entries or more; registries limit manifests to 4 MiB
_EMPTY_TYPE, EMPTY_CONFIG = "application/vnd.oci.empty.v1+json", b"{}"
_DIFF_ID = "dev.imagewright.index.diff-id"
_VERSION = 1  # raise it with that of the index's form


def index_key(diff_id: Digest) -> str:
    """The key of a layer's index (config.md, "Layer DiffID"), as of an entry."""
    return FramedHash("layer index", _VERSION, str(diff_id)).hexdigest()


def index_artifact(diff_id: Digest, index: bytes) -> Manifest:
    """The manifest to store, whose configuration is ``EMPTY_CONFIG``. The same index gives the same manifest."""
    layer = Descriptor.of(MEDIA_TYPE, index).to_json()
    if len(index) <= _MAX_EMBEDDED_BYTES:
        layer["data"] = base64.b64encode(index).decode()
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": Descriptor.of(_EMPTY_TYPE, EMPTY_CONFIG).to_json(),
        "layers": [layer],
        "annotations": {_DIFF_ID: str(diff_id)},
    }
    return Manifest.parse(dump_document(value))


def read_artifact(manifest: Manifest, diff_id: Digest) -> tuple[Descriptor, bytes | None]:
    """The index that was found for a layer, and its content if the manifest has it, to be verified by ``verified``.

    Raises:
        ImagewrightError: it is something else, that of another layer, or too large.
    """
    if len(manifest.layers) != 1 or manifest.layers[0].media_type != MEDIA_TYPE:
        raise document_error("not the index of a layer")
    if manifest.annotations.get(_DIFF_ID) != str(diff_id):
        raise document_error("the index of another layer")
    layer = manifest.layers[0]
    if layer.size > MAX_INDEX_BYTES:
        raise document_error(f"the index has {layer.size} bytes, more than {MAX_INDEX_BYTES}")
    data = load_document(manifest.raw)["layers"][0].get("data")
    if data is None:
        return layer, None
    try:
        return layer, base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise document_error("the embedded index is not base64") from error


def verified(layer: Descriptor, index: bytes) -> bytes:
    """The content of an index, if it is that of its descriptor.

    Raises:
        ImagewrightError
    """
    hasher = layer.digest.hasher()
    hasher.update(index)
    if len(index) != layer.size or hasher.hexdigest() != layer.digest.hex:
        raise document_error("the content of the index has another digest or size")
    return index

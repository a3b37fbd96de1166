"""Images as the registry has them, for the bench itself.

Reads from the registry, over plain HTTP.
"""

from __future__ import annotations

import json
import urllib.request
from typing import IO, Any

_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def layers(host: str, repository: str, tag: str) -> list[dict[str, Any]]:
    """The descriptors of an image's layers, base first."""
    with _open(f"http://{host}/v2/{repository}/manifests/{tag}", {"Accept": _ACCEPT}) as response:
        found: list[dict[str, Any]] = json.load(response)["layers"]
    return found


def open_blob(host: str, repository: str, digest: str) -> IO[bytes]:
    """To be closed by the caller."""
    return _open(f"http://{host}/v2/{repository}/blobs/{digest}", {})


def _open(url: str, headers: dict[str, str]) -> IO[bytes]:
    response: IO[bytes] = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    return response

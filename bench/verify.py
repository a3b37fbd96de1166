"""Whether a pushed image has the large file of w6: its last layer is read whole.

Reads from the registry.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from typing import IO

from bench import remote

_LINE = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n"
_CHUNK = _LINE * (1 << 14)  # 1 MiB


def large_file(host: str, repository: str, tag: str, size: int) -> str:
    """What is wrong with the file ``new`` of ``size`` bytes in the last layer; "" if nothing is."""
    layer = remote.layers(host, repository, tag)[-1]
    with remote.open_blob(host, repository, layer["digest"]) as response:
        raw: IO[bytes] = gzip.GzipFile(fileobj=response) if "gzip" in layer["mediaType"] else response  # type: ignore[assignment]
        with tarfile.open(fileobj=raw, mode="r|") as tar:
            for member in tar:
                if member.name.lstrip("./") == "new":
                    content = tar.extractfile(member)
                    assert content is not None
                    if member.size != size:
                        return f"the file has {member.size} bytes, not {size}"
                    return "" if _digest(content) == expected_digest(size) else "the file has other content"
    return "the last layer lacks the file"


def _digest(content: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while chunk := content.read(1 << 20):
        hasher.update(chunk)
    return hasher.hexdigest()


def expected_digest(size: int) -> str:
    """SHA-256 of what ``large_file_command`` writes."""
    hasher = hashlib.sha256()
    for _ in range(size // len(_CHUNK)):
        hasher.update(_CHUNK)
    hasher.update(_CHUNK[: size % len(_CHUNK)])
    return hasher.hexdigest()

"""Searches for secrets, in every likely encoding, in everything that a build leaves behind.

Reads files.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"


def _base64_forms(secret: bytes) -> Iterator[bytes]:
    """The middle of the secret's base64, wherever in a longer text it stands: the text decides about the edges."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret)
        whole = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4]
        yield whole
        yield whole.translate(bytes.maketrans(b"+/", b"-_"))


def forms(secret: bytes) -> dict[str, tuple[bytes, ...]]:
    """The byte strings to search for, by the name of the encoding."""
    return {
        "raw": (secret,),
        "reversed": (secret[::-1],),
        "base64": tuple(_base64_forms(secret)),
        "base32": (base64.b32encode(secret)[: len(secret) // 5 * 8],),
        "hex": (secret.hex().encode(), secret.hex().upper().encode()),
        "UTF-16": (secret.decode().encode("utf-16-le"),),
        "JSON": (json.dumps(secret.decode())[1:-1].encode(),),
        "URL": (urllib.parse.quote(secret, safe="").encode(),),
    }


class Needles:
    """Secrets that must be found nowhere.

    Each is long enough to be nowhere by chance; a text is looked for by lines.
    """

    def __init__(self, *secrets: str) -> None:
        lines = [line.encode() for secret in secrets for line in secret.splitlines() if len(line) >= 12]
        assert len(lines) >= len(secrets), "a secret is too short to be looked for"
        self._forms = [(name, needle) for line in lines for name, needles in forms(line).items() for needle in needles]

    def in_bytes(self, data: bytes) -> set[str]:
        """The names of the forms that are in ``data``."""
        return {name for name, needle in self._forms if needle in data}

    def in_text(self, text: str) -> set[str]:
        return self.in_bytes(text.encode("utf-8", "surrogateescape"))

    def in_files(self, directories: Iterable[Path]) -> list[str]:
        """``path: forms`` of every file, name and link below the directories that has one; compressed files are
        looked into.
        """
        return [
            f"{path}: {', '.join(sorted(found))}"
            for directory in directories
            for path in sorted([directory, *directory.rglob("*")])
            if (found := self._in_path(path))
        ]

    def _in_path(self, path: Path) -> set[str]:
        found = self.in_bytes(os.fsencode(path.name))
        if path.is_symlink():
            return found | self.in_bytes(os.fsencode(os.readlink(path)))
        if path.is_dir():
            return found
        data = path.read_bytes() if path.is_file() else b""
        plain = gzip.decompress(data) if data.startswith(_GZIP) else b""
        if data.startswith(_ZSTD):
            plain = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        for name in os.listxattr(path, follow_symlinks=False):
            found |= self.in_bytes(os.fsencode(name) + os.getxattr(path, name, follow_symlinks=False))
        return found | self.in_bytes(data) | self.in_bytes(plain)

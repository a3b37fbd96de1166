"""Content digests as the OCI image specification defines them (descriptor.md, "Digests"), and hashes of fields.

No I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Self

from imagewright.errors import ImagewrightError, Reason, quoted
from imagewright.records import dataclass

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<hex>[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Digest:
    """``algorithm:hex``; only the registered algorithms sha256 and sha512 are accepted."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``sha256:…``.

        Raises:
            ImagewrightError: reason ``DigestInvalid``, when the text is not a digest of a registered algorithm.
        """
        match = _DIGEST.fullmatch(text)
        if match is None or len(match["hex"]) != _HEX_LENGTH.get(match["algorithm"], 0):
            raise ImagewrightError(
                f"invalid digest {quoted(text)}",
                reason=Reason.DIGEST_INVALID,
                hint="A digest is sha256: and 64 lower-case hexadecimal digits.",
            )
        return cls(match["algorithm"], match["hex"])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The sha256 digest of ``data``."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> hashlib._Hash:
        """A new hash object of this digest's algorithm, to verify a stream with."""
        return hashlib.new(self.algorithm)

    def is_of(self, data: bytes) -> bool:
        """Whether this is the digest of ``data``, which is hashed by its algorithm."""
        hasher = self.hasher()
        hasher.update(data)
        return hasher.hexdigest() == self.hex

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


Field = bytes | str | int | bool | None


class FramedHash:
    """SHA-256 of any number of fields, each with its type and length before it: no two lists look the same."""

    def __init__(self, *fields: Field) -> None:
        self._hasher = hashlib.sha256()
        self.add(*fields)

    def add(self, *fields: Field) -> None:
        """Add fields, in order. Text is hashed as UTF-8; bytes of file names that are not valid UTF-8 as they are."""
        for field in fields:
            match field:
                case bytes():
                    kind, data = b"b", field
                case str():
                    kind, data = b"s", field.encode("utf-8", "surrogateescape")
                case None:
                    kind, data = b"n", b""
                case _:
                    kind, data = b"i", str(int(field)).encode()
            self._hasher.update(kind + len(data).to_bytes(8, "big"))
            self._hasher.update(data)

    def add_list(self, items: Iterable[Field]) -> None:
        """Add a list as one field: where it ends is part of it."""
        fields = list(items)
        self.add(len(fields), *fields)

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()

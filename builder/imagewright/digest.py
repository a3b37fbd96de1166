"""Content digests as the OCI image specification defines them (descriptor.md, "Digests").

No I/O. Called by everything that names content: ``oci``, ``registry``, ``store`` and ``fs``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from imagewright.errors import ImagewrightError, Reason

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<hex>[0-9a-f]+)")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``algorithm:hex``; only the registered algorithms sha256 and sha512 are accepted."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``sha256:…``.

        Raises:
            ImagewrightError: reason ``DigestInvalid``, when the text is no digest of a registered algorithm.
        """
        match = _DIGEST.fullmatch(text)
        if match is None or len(match["hex"]) != _HEX_LENGTH.get(match["algorithm"], 0):
            raise ImagewrightError(
                f"{text[:200]!r} is not a digest",
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

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

"""Masks a login's values in the messages of others: a server may echo what it was sent, as it is or encoded.

No I/O.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

_MASK = "***"
_SHORTEST = 4  # shorter values occur in any text
# Shared access signatures, presigned URLs, tokens: anyone who reads them can use them.
_SIGNED = re.compile(
    r"(?i)\b(sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature)(=|%3D)[^&\s'\"<>]+"
)
_HEADER = re.compile(r"(?i)\b(basic|bearer|sharedkey)\s+[A-Za-z0-9+/=_:.~-]{8,}")


def hidden(text: str, secrets: Iterable[str]) -> str:
    """``text`` with ``***`` for each of ``secrets``, plain, percent-encoded or in base64, and for signatures."""
    text = _HEADER.sub(rf"\1 {_MASK}", _SIGNED.sub(rf"\1\2{_MASK}", text))
    for secret in sorted({form for each in secrets for form in _forms(each)}, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return text


def _forms(secret: str) -> Iterable[str]:
    if len(secret) < _SHORTEST:
        return
    raw = secret.encode("utf-8", "surrogateescape")
    yield secret
    yield from (quote(raw, safe=""), quote(raw), quote_plus(raw))
    yield from (quote(raw, safe="").lower(), quote(raw).lower())
    # Wherever it is in the encoded text, only the characters at its ends depend on what surrounds it.
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        inner = encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        if len(inner) >= _SHORTEST:
            yield from (inner, inner.replace("+", "-").replace("/", "_"))

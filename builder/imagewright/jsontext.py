"""JSON of strangers, read as Go's decoder reads it, whose results others compare ours with. No I/O."""

from __future__ import annotations

import json
from typing import Any


def loads(data: bytes | str) -> Any:
    """Parse a JSON text. What is not Unicode becomes U+FFFD: bytes that are not UTF-8, halves of surrogate pairs.

    Python's own decoder keeps such halves, written as they are or as an escape, and no system call takes a string with
    one in it, nor can it be written as JSON again.

    Args:
        data: bytes, or a text in which surrogates stand for bytes that are not UTF-8 (``surrogateescape``).

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else _characters(data)
    value = json.loads(text)
    if "\\u" not in text:
        return value
    again = json.dumps(value, ensure_ascii=False)
    cleaned = _characters(again)
    return value if cleaned == again else json.loads(cleaned)


def _characters(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

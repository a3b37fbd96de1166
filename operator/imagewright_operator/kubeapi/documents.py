"""JSON of the API server, of which anyone may have written a part: it is never nested deeper than MAX_DEPTH.

No I/O. The API server accepts and stores objects that are nested 10,000 deep, wherever their schema is open, and always
in ``metadata.managedFields``. Python's parser and whatever follows it (copies, comparisons, encoders) is recursive, so
that one such object would stop everything that reads it, among others. What is nested deeper is null here; an
ImageBuild of which a part is, is refused (``reconcile.validation``).
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 200  # the deepest that pydantic's parser reads
_TOKEN = re.compile(rb'\\.|["{}[\]]', re.DOTALL)  # the quote that an escape has does not end a string


def parse(data: str | bytes) -> Any:
    """The value of a JSON document, with null in place of what is deeper than MAX_DEPTH.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return from_json(data)
    except ValueError:
        return json.loads(_cut(data.encode() if isinstance(data, str) else data))


def shallow(data: bytes) -> bytes:
    """The same document for another parser, with null in place of what is deeper than MAX_DEPTH."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return data
    try:
        from_json(data)
    except ValueError:
        return _cut(data)
    return data


def _cut(data: bytes) -> bytes:
    kept, depth, done, in_string = bytearray(), 0, 0, False
    for token in _TOKEN.finditer(data):
        bracket = token[0]
        if bracket == b'"':
            in_string = not in_string
        elif in_string:
            continue
        elif bracket in (b"{", b"["):
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += data[done : token.start()] + b"null"
        elif bracket in (b"}", b"]"):
            if depth == MAX_DEPTH + 1:
                done = token.end()
            depth -= 1
    return bytes(kept + data[done:])

"""JSON of the API server is never nested deeper than Python's parsers bear, whoever wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagewright_operator.kubeapi.documents import MAX_DEPTH, parse, shallow

DEEPEST = 10_000  # that the API server reads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)


def nested(depth: int, opening: str = '{"a":', closing: str = "}", inmost: str = "1") -> bytes:
    return (opening * depth + inmost + closing * depth).encode()


def depth_of(data: bytes) -> int:
    depth = deepest = 0
    for byte in data:
        depth += {0x7B: 1, 0x5B: 1, 0x7D: -1, 0x5D: -1}.get(byte, 0)
        deepest = max(deepest, depth)
    return deepest


@settings(max_examples=30)
@given(VALUES)
def test_a_document_that_is_not_deep_is_left_as_it_is(value: Any) -> None:
    data = json.dumps(value).encode()
    assert shallow(data) == data
    assert parse(data) == value


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('[{"b":[],"a":', "}]")])
@pytest.mark.parametrize("more", [0, 1, 2, DEEPEST])
def test_what_is_deeper_is_null(opening: str, closing: str, more: int) -> None:
    per_level = opening.count("[{") + 1
    data = nested(MAX_DEPTH // per_level + more, opening, closing)
    assert depth_of(shallow(data)) <= MAX_DEPTH + 1  # pydantic's parser does not count one that is empty
    value, depth = parse(data), 0
    while isinstance(value, (dict, list)):
        value, depth = value["a"] if isinstance(value, dict) else value[0], depth + 1
    assert (value, depth) == ((None, MAX_DEPTH) if more else (1, MAX_DEPTH))


@settings(max_examples=20)
@given(VALUES, VALUES)
def test_what_stands_next_to_it_is_kept(before: Any, after: Any) -> None:
    """Also texts that look like brackets, quotes or escapes."""
    for text in ("", "[" * 300, '"', "\\", '\\"{[', '}]"}'):
        sides = [json.dumps([before, text]).encode() + b",", b"," + json.dumps([text, after]).encode()]
        data = b'{"items": [' + nested(2 * MAX_DEPTH, "[", "]").join(sides) + b"]}"
        first, _, last = parse(data)["items"]
        assert (first, last) == ([before, text], [text, after])


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a"', b"nonsense", b'"' + b"[" * DEEPEST, b"[" * DEEPEST, b"]" * DEEPEST]
)
def test_what_is_no_json_is_an_error_and_no_other(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(data)
    shallow(data)

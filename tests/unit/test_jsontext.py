"""JSON of strangers: what is not Unicode is replaced as in Go, so that nothing fails on it later."""

from __future__ import annotations

import json
import os

import pytest

from imagewright import jsontext
from imagewright.dockerfile.words import parse_json
from imagewright.oci.config import ImageConfig
from imagewright.oci.manifest import load_document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"a\udfffb"', "a\ufffdb"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        (b'"\xff"', "\ufffd"),
        (rb'"\\ud800 \u0041"', "\\ud800 A"),
        (rb'{"\ud800": ["\udc00", 1, null]}', {"\ufffd": ["\ufffd", 1, None]}),
        ('"\udcff"', "\ufffd"),
    ],
)
def test_what_is_no_unicode_is_replaced(text: bytes | str, expected: object) -> None:
    assert jsontext.loads(text) == expected


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(json.JSONDecodeError):
        jsontext.loads(b"{")


def test_the_configuration_of_an_image_can_be_written_again() -> None:
    raw = rb'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":{"a":"\ud800"}}}'
    assert json.loads(ImageConfig.parse(raw).dump())["config"]["Labels"] == {"a": "\ufffd"}
    assert load_document(rb'{"a":"\udc80"}') == {"a": "\ufffd"}


def test_words_of_a_dockerfile_can_be_executed() -> None:
    words = parse_json(r'["\ud800", "\udc80", "é"]')
    assert words == ("\ufffd", "\ufffd", "é")
    assert [os.fsencode(word) for word in words]

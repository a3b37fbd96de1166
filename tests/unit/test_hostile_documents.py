"""Hostile JSON of registries and bases: refused by name, however deep it is nested, in work linear in its length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hostile.work import lines

from imagewright.errors import ImagewrightError, Reason
from imagewright.oci.config import ImageConfig
from imagewright.oci.manifest import Index, Manifest, is_index

READERS: list[Callable[[bytes], object]] = [
    ImageConfig.parse,
    Manifest.parse,
    Index.parse,
    lambda raw: is_index(raw, ""),
]
NESTED = [b'{"a":' * 200 + b"1" + b"}" * 200, b'{"a":' + b"[" * 700 + b"]" * 700 + b"}", b"[" * 50_000]
CONFIG = b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"diff_ids":[]},"x":%s}'


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("raw", NESTED, ids=["objects", "lists", "not closed"])
def test_deep_documents(read: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(ImagewrightError) as caught:
        read(raw)
    assert caught.value.reason is Reason.REGISTRY_PROTOCOL_ERROR


def test_what_is_not_too_deep_can_be_copied() -> None:
    config = ImageConfig.parse(CONFIG % (b"[" * 98 + b"]" * 98))
    assert ImageConfig.parse(config.dump()) == config
    with pytest.raises(ImagewrightError, match="nested more than 100 levels"):
        ImageConfig.parse(CONFIG % (b"[" * 100 + b"]" * 100))


def test_wide_documents() -> None:
    half, whole = (
        lines(lambda count=count: ImageConfig.parse(CONFIG % (b"[%s0]" % (b"[]," * count))), 2_000_000)  # type: ignore[misc]
        for count in (5000, 10_000)
    )
    assert 0 < whole < half * 2.4

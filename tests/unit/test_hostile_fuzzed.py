"""The fuzzer's corpora, replayed: only documented errors come out, after an amount of work that the length explains."""

from __future__ import annotations

import pytest
from fuzz.corpus import kept
from fuzz.targets import TARGETS, run
from hostile.work import lines

LINES, LINES_PER_BYTE = 20_000, 300


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus(target: str) -> None:
    inputs = kept(target)
    assert inputs
    for data in inputs:
        lines(lambda data=data: run(target, data), LINES + LINES_PER_BYTE * len(data))  # type: ignore[misc]

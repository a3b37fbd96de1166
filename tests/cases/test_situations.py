"""What other builders' tests try is tried here too: every situation of situations.toml has cases, and they are
there.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_LISTS = tomllib.loads((_HERE / "situations.toml").read_text())
_SITUATIONS = [
    pytest.param(each, id=f"{source}-{each['situation']}") for source, found in _LISTS.items() for each in found
]


def test_both_builders_have_a_list() -> None:
    assert sorted(_LISTS) == ["buildah", "kaniko"]


@pytest.mark.parametrize("each", _SITUATIONS)
def test_a_situation_is_shown_by_cases_that_are_built(each: dict[str, object]) -> None:
    assert set(each) == {"situation", "result", "cases"}
    cases = each["cases"]
    assert isinstance(cases, list)
    assert cases
    for name in cases:
        assert any((_HERE / str(name) / kind).exists() for kind in ("result.txt", "error.txt")), name

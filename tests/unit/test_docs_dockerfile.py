"""docs/dockerfile.md names every instruction, flag and mount option, and every difference to BuildKit that a case
states.
"""

import re
from pathlib import Path

import pytest
from peers.differences import entries

from imagewright.dockerfile.instructions import FLAGS, INSTRUCTIONS
from imagewright.dockerfile.mounts import TYPES, options_of

PAGE = (Path(__file__).parents[2] / "docs" / "dockerfile.md").read_text()


@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_every_instruction_is_there(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("flag", sorted({flag for flags in FLAGS.values() for flag in flags}))
def test_every_flag_is_there(flag: str) -> None:
    assert re.search(rf"--{flag}\b", PAGE)


@pytest.mark.parametrize("kind", TYPES)
def test_every_option_of_a_mount_is_there(kind: str) -> None:
    row = next(item for item in PAGE.split("\n- ") if item.startswith(f"`{kind}` ("))
    short = {"readonly": "ro", "readwrite": "rw"}
    for option in options_of(kind):
        if option != "target" and (kind, option) not in {
            ("secret", "source"),
            ("cache", "readwrite"),
        }:  # other spellings of what is there
            assert f"`{short.get(option, option)}`" in row, option


def test_differences_are_those_of_the_cases() -> None:
    assert PAGE.endswith(entries()), "end docs/dockerfile.md with what `python -m peers.differences` prints"

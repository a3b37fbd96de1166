"""CONTRIBUTING.md names files that are there, and as many as it counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("### What to change\n")[2].partition("\n## ")[0]
PACKAGES = ("builder/imagewright", "operator/imagewright_operator", "operator/imagewright_kubectl", ".")
COUNTS = re.findall(r"^\| ([^|]+) \| (?:[^|]+) \| (\d+) \| ([^|]+) \|$", SECTION, re.MULTILINE)


def named() -> list[str]:
    """Paths in backticks: what ends in .py, or in a slash."""
    return sorted(set(re.findall(r"`([\w/.-]+(?:\.py|/))`", SECTION)))


def test_there_are_files_and_counts() -> None:
    assert len(named()) > 20
    assert len(COUNTS) >= 2


@pytest.mark.parametrize("path", named())
def test_a_file_that_is_named_is_there(path: str) -> None:
    # The list names a file by its path in a package, or after a folder of the same sentence.
    found = [file for package in PACKAGES for file in ((ROOT / package / path),) if file.exists()]
    nested = [file for package in PACKAGES[:3] for file in (ROOT / package).glob(f"*/{path}")]
    assert found or nested, f"CONTRIBUTING.md names {path}"


@pytest.mark.parametrize(("what", "count", "files"), COUNTS, ids=[what for what, _, _ in COUNTS])
def test_as_many_files_are_named_as_are_counted(what: str, count: str, files: str) -> None:
    assert len(re.findall(r"`[\w/.-]+`", files)) == int(count)

"""Code, messages and pages are written in the field's plain English: turns of phrase that mark a sentence to rewrite.

Reads the tracked files of the checkout.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHRASES = {
    "says what a thing is not": r"(?<![Tt]here )\b(is|are) no (?!longer|more|less|better|worse|different|match|use\b)",
    "again, from the start": r"\banew\b",
    "with, next to, in addition to": r"\bbeside\b",
    "available": r"\b(is|are|can(not|'t)?|could(n't)?|to) be had\b",
    "states its subject": r"\b(is|are|was) said\b",
    "is called, is named": r"\bgoes by\b",
    "none of a kind": r"\b(it|that|this|which) (is|are) none\b",
    "a search answers it": r"^(Called|Used|Read|Made|Asked|Filled) by [`a-z]|\. (Called|Used|Read|Made) by [`a-z]",
}
FILES = (
    "*.md",
    "builder/*",
    "operator/*",
    "crds/*",
    "deploy/*",
    "docs/*",
    "examples/*",
    "images/*",
    "scripts/*",
    "bench/*",
    "Dockerfile",
)


def test_the_product_is_read() -> None:
    assert {"README.md", "builder/imagewright/errors.py", "docs/flags.md"} <= set(tracked())


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *FILES], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("better", PHRASES)
def test_nothing_is_written_in_a_phrase_to_rewrite(better: str) -> None:
    phrase = re.compile(PHRASES[better], re.MULTILINE)
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name in tracked()
        for text in [(ROOT / name).read_text(encoding="utf-8", errors="replace")]
        for match in phrase.finditer(text)
    ]
    assert found == [], f"write instead: {better}"

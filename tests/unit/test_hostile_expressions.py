"""No regular expression of the project takes more than linear time: texts that it is given may be hostile.

All expressions of all modules are found, and tried with texts made of their own characters; the steps of a backtracking
matcher are counted.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.backtracking import Counted, attacks

ROOT = Path(__file__).parents[2]
PACKAGES = ("builder/imagewright", "operator/imagewright_operator", "operator/imagewright_kubectl")
LENGTH = 24
DEPTH = 20_000
INLINE = ("match", "fullmatch", "search", "sub", "split", "findall", "finditer")


def expressions() -> Iterator[tuple[str, re.Pattern[Any], bool]]:
    """Where each is, the expression, and whether it is matched at one place only."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.name == "__main__.py":
                continue
            source = file.read_text()
            if not re.search(r"^import re$", source, re.MULTILINE):
                continue
            where = str(file.relative_to(ROOT))
            module = importlib.import_module(".".join(file.relative_to((ROOT / package).parent).with_suffix("").parts))
            for name, value in vars(module).items():
                if isinstance(value, re.Pattern):
                    used = set(re.findall(rf"\b{name}\.(\w+)\(", source))
                    yield f"{where}: {name}", value, used <= {"match", "fullmatch", "pattern"}
            for node in ast.walk(ast.parse(source)):
                match node:
                    case ast.Call(ast.Attribute(ast.Name("re"), called), [ast.Constant(text), *_]) if called in INLINE:
                        yield f"{where}:{node.lineno}", re.compile(text), called in ("match", "fullmatch")


FOUND = list(expressions())


def test_all_are_found() -> None:
    assert len(FOUND) > 70


@pytest.fixture(autouse=True)
def _deep() -> Iterator[None]:
    """The matcher that counts recurses."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(DEPTH)
    yield
    sys.setrecursionlimit(before)


def ways(at_one_place: bool) -> tuple[str, ...]:
    return ("match", "fullmatch") if at_one_place else ("every",)


def growth(pattern: re.Pattern[Any], at_one_place: bool) -> Iterator[tuple[int, int, str]]:
    """The steps for a text, those for one of twice the length, and the latter."""
    items = Counted(pattern).items
    for short, long in zip(attacks(items, LENGTH), attacks(items, 2 * LENGTH), strict=True):
        for way in ways(at_one_place):
            few, many = Counted(pattern), Counted(pattern)
            getattr(few, way)(short)
            getattr(many, way)(long)
            yield few.steps, many.steps, long


def is_linear(few: int, many: int) -> bool:
    return many <= 2.8 * few + 50


@pytest.mark.parametrize(("where", "pattern", "at_one_place"), FOUND, ids=[where for where, _, _ in FOUND])
def test_steps_grow_with_the_length(where: str, pattern: re.Pattern[Any], at_one_place: bool) -> None:
    assert [text for few, many, text in growth(pattern, at_one_place) if not is_linear(few, many)] == [], where


@pytest.mark.parametrize(
    ("expression", "at_one_place"),
    [
        (r"#\s*([a-z]+)\s*=\s*(.+?)\s*", True),
        (r"(?m)^(\[[^\]\n]*\d+/\d+\] .*)$", False),
        (r'([a-z0-9]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', False),
        (r"(@sha256:[0-9a-f]+|:[^/:@]+)+$", False),
        (r"[^/]*a[^/]*a[^/]*b", True),
    ],
)
def test_what_is_not_linear_is_noticed(expression: str, at_one_place: bool) -> None:
    """Those that the project had once."""
    assert not all(is_linear(few, many) for few, many, _ in growth(re.compile(expression), at_one_place))

"""docs/troubleshooting.md has every reason that an ImageBuild can show: the operator's own in full, the executor's by
where to look.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from imagewright.errors import Reason
from imagewright_operator.status import conditions

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
# No ImageBuild has them.
OF_THE_PLUGIN = {Reason.KUBERNETES_API_FAILED, Reason.IMAGE_BUILD_NOT_FOUND, Reason.LOG_NOT_FOUND}
OF_CONDITIONS = {getattr(conditions, name) for name in ("QUEUED", "PENDING", "RUNNING", "RETRYING", "SUSPENDED")}


def explained() -> set[str]:
    """The reasons of all entries that say what to do."""
    return {name for names, text in entries() if "*What to do:*" in text for name in names}


def mentioned() -> set[str]:
    """The reasons of all other entries and of tables."""
    rows = re.findall(r"^\| `([A-Z]\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {*rows, *(name for names, text in entries() if "*What to do:*" not in text for name in names)}


def entries() -> Iterator[tuple[list[str], str]]:
    """List items that begin with reasons, and their text."""
    for names, text in re.findall(
        r"^- ((?:`[A-Z]\w+`(?:, )?)+): (.*(?:\n  .*)*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    ):
        yield re.findall(r"\w+", names), text


def set_by_the_operator() -> set[str]:
    """Every ``Reason.NAME`` in its source, but for sets of them: those are what something is compared with."""
    found = set()
    for file in sorted((ROOT / "operator" / "imagewright_operator").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        sets = [node.elts for node in nodes if isinstance(node, ast.Tuple) and all(map(is_reason, node.elts))]
        compared = {id(element) for elements in sets for element in elements}
        for node in nodes:
            if isinstance(node, ast.Attribute) and is_reason(node) and id(node) not in compared:
                found.add(Reason[node.attr].value)
    return found


def is_reason(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"


def test_what_the_operator_says_is_explained_in_full() -> None:
    assert len(set_by_the_operator()) > 10
    assert set_by_the_operator() - explained() == set()


def test_what_else_an_imagebuild_can_show_has_a_place_to_look_at() -> None:
    shown = {reason.value for reason in set(Reason) - OF_THE_PLUGIN} | OF_CONDITIONS | {conditions.SUCCEEDED}
    assert shown - explained() - mentioned() == set()


def test_no_entry_is_of_a_reason_that_is_gone() -> None:
    assert explained() <= {reason.value for reason in Reason}
    assert mentioned() <= {reason.value for reason in Reason} | OF_CONDITIONS | {conditions.SUCCEEDED}


def test_its_parts_and_the_pages_that_it_names_are_there() -> None:
    """Of every page: links within the checkout lead to a file, and to a heading where they name one."""
    broken = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, heading = target.partition("#")
            file = page.parent / name if name else page
            if not file.exists() or (heading and heading not in headings(file)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def headings(page: Path) -> set[str]:
    """As GitHub makes anchors of them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}

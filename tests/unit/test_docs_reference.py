"""The reference pages say what the code does: every reason has a row, every flag too."""

import re
from pathlib import Path

import pytest

from imagewright.cli.flagdocs import markdown
from imagewright.errors import Reason, exit_code

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"\| `(?P<reason>\w+)` \| (?P<exit>\d+|none) \| (?P<cause>[^|]+) \| (?P<remedy>[^|]+) \|")


def rows() -> dict[str, re.Match[str]]:
    found = [match for line in (DOCS / "errors.md").read_text().splitlines() if (match := ROW.fullmatch(line))]
    assert len({match["reason"] for match in found}) == len(found), "a reason has two rows"
    return {match["reason"]: match for match in found}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_cause_remedy_and_its_exit_code(reason: Reason) -> None:
    assert reason.value in rows(), f"docs/errors.md lacks {reason.value}"
    row = rows()[reason.value]
    assert row["exit"] == "none" or int(row["exit"]) == exit_code(reason)


def test_no_row_is_of_a_reason_that_is_gone() -> None:
    assert set(rows()) == {reason.value for reason in Reason}


def test_every_exit_code_is_explained() -> None:
    explained = {
        int(match[1]) for match in re.finditer(r"^\| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    }
    assert {exit_code(reason) for reason in Reason} | {0} == explained


def test_flags_page_is_what_the_table_of_flags_gives() -> None:
    text = (DOCS / "flags.md").read_text()
    assert text == markdown(), "run `python -m imagewright.cli.flagdocs > docs/flags.md`"

"""The reference pages say what the code does: every reason has an entry, every flag too."""

import re
from pathlib import Path

import pytest

from imagewright.cli.docs import flags_page
from imagewright.errors import Reason, exit_code

DOCS = Path(__file__).parents[2] / "docs"
ENTRY = re.compile(r"`(?P<reason>\w+)` \((?:exit code (?P<exit>\d+)|no exit code)\): .+\n  \*Remedy:\* .+", re.DOTALL)


def entries() -> dict[str, re.Match[str]]:
    """A list item for each reason, with its cause and its remedy."""
    items = (DOCS / "errors.md").read_text().partition("## Reasons\n")[2].split("\n- ")
    found = [match for item in items if (match := ENTRY.fullmatch(item.rstrip()))]
    assert len({match["reason"] for match in found}) == len(found), "a reason has two entries"
    return {match["reason"]: match for match in found}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_cause_remedy_and_its_exit_code(reason: Reason) -> None:
    assert reason.value in entries(), f"docs/errors.md lacks {reason.value}"
    entry = entries()[reason.value]
    assert entry["exit"] is None or int(entry["exit"]) == exit_code(reason)


def test_no_entry_is_of_a_reason_that_is_gone() -> None:
    assert set(entries()) == {reason.value for reason in Reason}


def test_every_exit_code_is_explained() -> None:
    explained = {
        int(match[1]) for match in re.finditer(r"^\| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    }
    assert {exit_code(reason) for reason in Reason} | {0} == explained


def test_flags_page_is_what_the_table_of_flags_gives() -> None:
    text = (DOCS / "flags.md").read_text()
    assert text == flags_page(), "run `python -m imagewright.cli.docs`"

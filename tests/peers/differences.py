"""What differs from BuildKit on purpose, of all cases, as the list of docs/dockerfile.md.

``PYTHONPATH=tests python -m peers.differences`` prints it.
"""

from __future__ import annotations

import textwrap
import tomllib

from peers.case import CASES


def entries() -> str:
    """An entry for each difference, with the reason and the cases that show it."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in sorted(CASES.glob("*/case.toml")):
        for each in tomllib.loads(file.read_text()).get("differs", []):
            found.setdefault((each["what"].rstrip("."), each["because"]), []).append(file.parent.name)
    return "".join(_entry(*difference, names) for difference, names in sorted(found.items()))


def _entry(what: str, because: str, names: list[str]) -> str:
    cases = ", ".join(f"[{name}](../tests/cases/{name})" for name in names)
    paragraphs = [f"- {what}. {because}", f"  Case: {cases}."]
    return "".join(
        textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) + "\n"
        for text in paragraphs
    )


if __name__ == "__main__":
    print(entries(), end="")

"""What differs from BuildKit on purpose, of all cases, as the table of docs/dockerfile.md.

``PYTHONPATH=tests python -m peers.differences`` prints it.
"""

from __future__ import annotations

import tomllib

from peers.case import CASES


def table() -> str:
    """A row for each difference, with the reason and the cases that show it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for file in sorted(CASES.glob("*/case.toml")):
        for each in tomllib.loads(file.read_text()).get("differs", []):
            rows.setdefault((each["what"].rstrip("."), each["because"]), []).append(file.parent.name)
    lines = ["| what | why | case |", "|---|---|---|"]
    for (what, because), names in sorted(rows.items()):
        shown = ", ".join(f"[{name}](../tests/cases/{name})" for name in names)
        lines.append(f"| {_cell(what)} | {_cell(because)} | {shown} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(table(), end="")

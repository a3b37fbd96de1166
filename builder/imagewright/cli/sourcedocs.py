"""The tables of docs/contexts.md, made from the table of source kinds: ``python -m imagewright.cli.sourcedocs``.

Rewrites what stands between the page's markers when run as a program.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from imagewright.contract.sources import KINDS, SourceKind

PAGE = Path("docs/contexts.md")
_BLOCK = re.compile(r"(<!-- made by python -m imagewright\.cli\.sourcedocs: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_WIDTH = 118


def rendered(page: str) -> str:
    """The page with its tables made from the kinds."""
    blocks = {"kinds": _kinds(), "logins": _logins()}
    return _BLOCK.sub(lambda block: f"{block[1]}\n{blocks[block[2]]}\n{block[4]}", page)


def _kinds() -> str:
    rows = [f"| {_code(kind.forms)} | {_code((kind.field,))} | {kind.summary} |\n" for kind in KINDS]
    return "| `--context` | `spec.source` | what it is |\n|---|---|---|\n" + "".join(rows)


def _logins() -> str:
    return "".join(f"{_login(kind)}\n" for kind in KINDS if kind.secret_keys)


def _login(kind: SourceKind) -> str:
    text = f"- `{kind.field}`: Secret keys {_code(kind.secret_keys)}"
    if kind.login_variables:
        text += f"; variables {_code(kind.login_variables)}"
    text += f"; a refused login is `{kind.auth_reason.value}`"
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""docs/flags.md and the tables of docs/contexts.md, made from the tables of flags and of source kinds.

Writes the pages when run as a program: ``python -m imagewright.cli.docs``.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from imagewright.cli.command import Flag, Kind
from imagewright.cli.flags import DOCKER_FLAGS, THEMES
from imagewright.contract.sources import KINDS, SourceKind

FLAGS_PAGE = Path("docs/flags.md")
CONTEXTS_PAGE = Path("docs/contexts.md")

_HEAD = """# Flags of `imagewright build` and `imagewright plan`

Made from the engine's own table by `python -m imagewright.cli.docs`; don't edit.

Names and meanings are those of kaniko's executor, and so are the rules (pflag's): `--flag=value` or `--flag value`; a
boolean is `--flag` or `--flag=false` and never takes the next word; a list flag may be given several times; for other
flags the last one wins. A variable is used if the command line doesn't set the flag.

`imagewright build [CONTEXT] FLAGS` takes the context as an argument too, as `docker build` does. `/kaniko/executor
FLAGS` is the same with kaniko's flags alone, and refuses arguments that aren't flags.

`imagewright plan` prints each instruction as it is written; with `--values` also what is executed and recorded, with
the values of build arguments filled in.

"""
_OF_DOCKER = "Docker's names, not in `/kaniko/executor`"
_WIDTH = 120


def flags_page() -> str:
    """The whole page."""
    return _HEAD + "".join(
        f"\n## {theme}\n\n" + "".join(_item(flag) for flag in flags)
        for theme, flags in (*THEMES, (_OF_DOCKER, DOCKER_FLAGS))
    )


def _item(flag: Flag) -> str:
    name = f"`--{flag.name}" + ("`" if flag.kind is Kind.BOOLEAN else f"={flag.value}`")
    name += f", `-{flag.short}`" if flag.short else ""
    notes = ["repeatable"] * (flag.kind is Kind.LIST)
    notes += [f"variable `{flag.environment}`"] * bool(flag.environment)
    name += f" ({', '.join(notes)})" if notes else ""
    meaning = f"{flag.help}: accepted with a warning, since {flag.no_effect}" if flag.no_effect else flag.help
    meaning += f" (formerly `--{flag.deprecated_name}`)" if flag.deprecated_name else ""
    return _filled(f"- {name}: {meaning}") + "\n"


_BLOCK = re.compile(r"(<!-- made by python -m imagewright\.cli\.docs: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def contexts_page(page: str) -> str:
    """The page with its tables rewritten."""
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
    return _filled(text)


def _code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    FLAGS_PAGE.write_text(flags_page(), encoding="utf-8")
    CONTEXTS_PAGE.write_text(contexts_page(CONTEXTS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")

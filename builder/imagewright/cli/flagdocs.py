"""docs/flags.md, made from the table of flags: ``python -m imagewright.cli.flagdocs > docs/flags.md``.

Prints when run as a program. Read by the test that keeps the file true.
"""

from __future__ import annotations

import textwrap

from imagewright.cli.flags import DOCKER_FLAGS, THEMES, Flag, Kind

_HEAD = """# Flags of `imagewright build` and `imagewright plan`

Made from the engine's own table by `python -m imagewright.cli.flagdocs`; don't edit.

Names and meanings are those of kaniko's executor, and so are the rules (pflag's): `--flag=value` or `--flag value`; a
boolean is `--flag` or `--flag=false` and never takes the next word; a list flag may be given several times; for other
flags the last one wins. A variable is used if the command line doesn't set the flag.

`imagewright build [CONTEXT] FLAGS` takes the context as an argument too, as `docker build` does. `/kaniko/executor
FLAGS` is the same with kaniko's flags alone, and refuses arguments that aren't flags.

`imagewright plan` prints each instruction as it is written; with `--values` also what is executed and recorded, with
the values of build arguments filled in.

"""
_OF_DOCKER = "By docker's name, not in `/kaniko/executor`"
_WIDTH = 120


def markdown() -> str:
    """The whole file."""
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
    meaning = f"{flag.help}: accepted with a warning, since {flag.pointless}" if flag.pointless else flag.help
    meaning += f" (earlier `--{flag.earlier}`)" if flag.earlier else ""
    return (
        textwrap.fill(
            f"- {name}: {meaning}", _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        + "\n"
    )


if __name__ == "__main__":
    print(markdown(), end="")

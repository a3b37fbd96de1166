"""docs/flags.md, made from the table of flags: ``python -m imagewright.cli.flagdocs > docs/flags.md``.

Prints when run as a program. Read by the test that keeps the file true.
"""

from __future__ import annotations

from imagewright.cli.flags import DOCKER_FLAGS, THEMES, Flag, Kind

_HEAD = """# Flags of `imagewright build` and `imagewright plan`

Made from the engine's own table by `python -m imagewright.cli.flagdocs`; don't edit.

The names and meanings are those of kaniko's executor, and so are the rules (pflag's): `--flag=value` or `--flag value`; a
boolean is `--flag` or `--flag=false` and never takes the next word; a list flag may be given many times; of other flags the
last one given wins. A variable serves where the command line doesn't name the flag.

`imagewright build [CONTEXT] FLAGS` takes the context as a word too, as `docker build` does. `/kaniko/executor FLAGS` is the same with
kaniko's flags alone: there a word that is no flag is an error.

`imagewright plan` prints each instruction as it is written; with `--values` also what is executed and recorded, with the values
of build arguments filled in.

"""
_OF_DOCKER = "By docker's name, not in `/kaniko/executor`"
_TABLE = """
## {theme}

| flag | value | meaning | variable |
|---|---|---|---|
"""


def markdown() -> str:
    """The whole file."""
    return _HEAD + "".join(
        _TABLE.format(theme=theme) + "".join(_row(flag) for flag in flags)
        for theme, flags in (*THEMES, (_OF_DOCKER, DOCKER_FLAGS))
    )


def _row(flag: Flag) -> str:
    name = f"`--{flag.name}`" + (f", `-{flag.short}`" if flag.short else "")
    shown = flag.value.replace("|", "\\|")  # a bar ends a table's cell, in code too
    value = "" if flag.kind is Kind.BOOLEAN else f"`{shown}`" + (", repeatable" if flag.kind is Kind.LIST else "")
    variable = f"`{flag.environment}`" if flag.environment else ""
    meaning = f"{flag.help}: accepted with a warning, since {flag.pointless}" if flag.pointless else flag.help
    meaning += f" (earlier `--{flag.earlier}`)" if flag.earlier else ""
    return f"| {name} | {value} | {meaning} | {variable} |\n"


if __name__ == "__main__":
    print(markdown(), end="")

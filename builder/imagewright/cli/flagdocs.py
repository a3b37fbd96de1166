"""docs/flags.md, made from the table of flags: ``python -m imagewright.cli.flagdocs > docs/flags.md``.

Prints when run as a program. Read by the test that keeps the file true.
"""

from __future__ import annotations

from imagewright.cli.flags import BUILD_FLAGS, LATER_FLAGS, Flag, Kind

_HEAD = """# Flags of `imagewright build` and `imagewright plan`

Made from the engine's own table by `python -m imagewright.cli.flagdocs`; don't edit.

The names and meanings are those of kaniko's executor, and so are the rules (pflag's): `--flag=value` or `--flag value`; a
boolean is `--flag` or `--flag=false` and never takes the next word; a list flag may be given many times; of other flags the
last one given wins. A variable serves where the command line doesn't name the flag. `/kaniko/executor FLAGS` is
`imagewright build FLAGS`.

| flag | value | meaning | variable |
|---|---|---|---|
"""
_LATER = """
## Not yet

Flags of kaniko's that this release doesn't have. Each is an error that names it, so that nothing you ask for is ignored:

"""


def markdown() -> str:
    """The whole file."""
    rows = "".join(_row(flag) for flag in BUILD_FLAGS)
    later = ", ".join(f"`--{name}`" for name in sorted(LATER_FLAGS))
    return _HEAD + rows + _LATER + later + ".\n"


def _row(flag: Flag) -> str:
    name = f"`--{flag.name}`" + (f", `-{flag.short}`" if flag.short else "")
    shown = flag.value.replace("|", "\\|")  # a bar ends a table's cell, in code too
    value = {Kind.BOOLEAN: "", Kind.TEXT: f"`{shown}`", Kind.LIST: f"`{shown}`, repeatable"}[flag.kind]
    variable = f"`{flag.environment}`" if flag.environment else ""
    return f"| {name} | {value} | {flag.help} | {variable} |\n"


if __name__ == "__main__":
    print(markdown(), end="")

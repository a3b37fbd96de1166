"""``imagewright lint``: the warnings for a Dockerfile, for people and for programs.

Writes to standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imagewright.cli.arguments import Arguments, parse
from imagewright.cli.command import Command, Flag, Kind
from imagewright.cli.commands.version import version
from imagewright.cli.flags import BUILD_FLAGS, PULL_FLAGS
from imagewright.cli.request import build_request, check_environment
from imagewright.engine import build as engine
from imagewright.errors import Reason, UsageError, exit_code
from imagewright.lint.report import as_json, as_sarif, human
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.streams import own_descriptor

WARNINGS_FOUND = exit_code(Reason.LINT_FAILED)

LINT_FLAGS: tuple[Flag, ...] = (
    Flag("format", Kind.TEXT, "FORMAT", "human, json or sarif (default: human)"),
    Flag("resolve", Kind.BOOLEAN, "", "read the base images' configuration from registries, to know their variables"),
    Flag("warn-only", Kind.BOOLEAN, "", "exit with 0 even if there are warnings"),
)
_TAKEN = frozenset(
    "context context-sub-path dockerfile build-arg target custom-platform build-context verbosity".split()
)
FLAGS: tuple[Flag, ...] = (*LINT_FLAGS, *(flag for flag in BUILD_FLAGS if flag.name in _TAKEN | PULL_FLAGS))


def lint(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Lint one Dockerfile; the exit code: 0 without warnings, 3 with some.

    Raises:
        ImagewrightError: invalid arguments, an unreadable Dockerfile.
    """
    arguments = parse(words, environment, FLAGS, takes_words=True)
    request = build_request(_with_path(arguments), environment)
    check_environment(request, environment)
    output_format = arguments.text("format", "human")
    if output_format not in ("human", "json", "sarif"):
        raise UsageError(f'invalid --format value "{output_format}"', hint="Use human, json or sarif.")
    warnings = engine.find_warnings(
        request, environment, PlainReporter(sys.stderr, Level.WARN), resolve=arguments.flag("resolve")
    )
    path = os.path.normpath(os.path.join(arguments.text("context", "."), request.plan.dockerfile))
    # The path as given, so that editors and code scanning find the file; remote Dockerfiles have none.
    warnings = tuple(
        replace(warning, location=replace(warning.location, file=path))
        if warning.location.file == request.plan.dockerfile
        else warning
        for warning in warnings
    )
    match output_format:
        case "json":
            text = as_json(warnings)
        case "sarif":
            text = as_sarif(warnings, version())
        case _:
            text = human(warnings)
    print(text, end="")
    return WARNINGS_FOUND if warnings and not arguments.flag("warn-only") else 0


def _with_path(arguments: Arguments) -> Arguments:
    """``imagewright lint FILE`` is short for --dockerfile; without --context, the file's directory is the context.

    For a stream it is the working directory.
    """
    paths = arguments.words
    if not paths:
        return arguments
    if len(paths) > 1 or arguments.text("dockerfile"):
        raise UsageError(
            "more than one Dockerfile given", hint="Run, for example, imagewright lint path/to/Dockerfile."
        )
    path = Path(paths[0])
    if arguments.text("context") or paths[0] == "-" or own_descriptor(paths[0]) is not None:
        arguments.values["dockerfile"] = [str(path)]
    else:
        arguments.values["context"] = [str(path.parent)]
        arguments.values["dockerfile"] = [path.name]
    return arguments


COMMANDS = {
    "lint": Command("imagewright lint [DOCKERFILE]", FLAGS, lambda words, environment, _: lint(words, environment))
}

"""``imagewright build`` and ``imagewright plan``.

Writes to the terminal; the engine does the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing

from imagewright.cli.arguments import Arguments, deprecation_warnings, parse, parse_build
from imagewright.cli.command import Command, Flag, Kind, Prepare, connecting
from imagewright.cli.display import open_display, with_timings
from imagewright.cli.flags import BUILD_FLAGS, COMMAND_FLAGS
from imagewright.cli.interrupts import Interrupts
from imagewright.cli.request import build_request, check_environment, unused_cache_flags
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult
from imagewright.engine import build as engine
from imagewright.engine.events import Reporter
from imagewright.errors import ImagewrightError, SandboxError, exit_code
from imagewright.plan.render import render
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.sandbox.rootless import enter_user_namespace_if_needed

PLAN_FLAGS: tuple[Flag, ...] = (
    Flag("values", Kind.BOOLEAN, "", "also print what is executed and recorded, with build arguments expanded"),
    *COMMAND_FLAGS,
)


def build(arguments: Arguments, environment: Mapping[str, str], prepare: Prepare) -> int:
    """Build an image, and print its references; the exit code.

    Raises:
        ImagewrightError: before the build starts.
    """
    if arguments.flag("dryrun"):
        prepare()
        return plan(arguments, environment)
    request = build_request(arguments, environment)
    prepare()
    check_environment(request, environment)
    display = open_display(arguments, environment)
    for warning in (*deprecation_warnings(arguments, environment), *unused_cache_flags(arguments)):
        display.warning(warning)
    refusal = enter_user_namespace_if_needed()
    result, error = run_build(request, environment, display, refusal)
    if error is not None:
        display.failed(error)
        return exit_code(error.reason)
    if not result.references:
        print(result.digest)
    for reference in result.references:
        print(reference)
    return 0


def plan(arguments: Arguments, environment: Mapping[str, str]) -> int:
    """Print what a build would execute; the exit code.

    Raises:
        ImagewrightError
    """
    request = build_request(arguments, environment)
    check_environment(request, environment)
    with closing(with_timings(arguments, PlainReporter(sys.stderr, Level.WARN))) as display:
        build_plan = engine.plan(request, environment, display)
    print(render(build_plan, values=arguments.flag("values")), end="")
    return 0


def run_build(
    request: BuildRequest, environment: Mapping[str, str], reporter: Reporter, refusal: SandboxError | None
) -> tuple[BuildResult, ImagewrightError | None]:
    """Build; SIGTERM and SIGINT end the sandbox and remove the work directory.

    ``refusal``: why no RUN can be executed.
    """
    with closing(reporter), Interrupts() as interrupts:
        outcome = engine.build(request, environment, reporter, refusal, interrupts.repeat)
    return outcome.result, outcome.error


COMMANDS = {
    "build": Command(
        "imagewright build [CONTEXT]",
        COMMAND_FLAGS,
        lambda words, environment, prepare: build(parse_build(words, environment), environment, prepare),
    ),
    "plan": Command(
        "imagewright plan [CONTEXT]",
        PLAN_FLAGS,
        connecting(lambda words, environment: plan(parse_build(words, environment, PLAN_FLAGS), environment)),
    ),
    # kaniko's, in the executor's image: its flags alone, and no positional arguments.
    "executor": Command(
        "executor",
        BUILD_FLAGS,
        lambda words, environment, prepare: build(parse(words, environment), environment, prepare),
    ),
}

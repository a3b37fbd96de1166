"""The commands, in a table. Arguments in, an exit code out.

Writes to the terminal; the engine does the rest. Called by ``__main__``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from types import FrameType

from imagewright import contract
from imagewright.cli import lintcommand, logincommand, pincommand, pushcommand, warmcommand
from imagewright.cli.arguments import Arguments, outdated, parse
from imagewright.cli.buildline import parse_build
from imagewright.cli.caching import unused
from imagewright.cli.displays import early_display, open_display
from imagewright.cli.flags import BUILD_FLAGS, COMMAND_FLAGS, Flag, Kind
from imagewright.cli.help import command_help, overview
from imagewright.cli.request import build_request, check_environment, environment_request
from imagewright.cli.trust import trust_in_sdks, trust_mounted_certificates
from imagewright.contract.request import BuildRequest
from imagewright.contract.result import BuildResult, Failure
from imagewright.engine import build as engine
from imagewright.engine.events import Reporter
from imagewright.engine.source.contexts import find_source_commit
from imagewright.errors import ImagewrightError, Interruption, Reason, UsageError, exit_code
from imagewright.plan.render import render
from imagewright.progress.display import Level
from imagewright.progress.plain import PlainReporter
from imagewright.sandbox.rootless import enter_user_namespace_if_needed

_PLAN_FLAGS: tuple[Flag, ...] = (
    Flag("values", Kind.BOOLEAN, "", "also what is executed and recorded, with the values of build arguments"),
    *COMMAND_FLAGS,
)

Prepare = Callable[[], None]  # what has to be done before a build; may raise an ImagewrightError


def main(words: Sequence[str], environment: MutableMapping[str, str], prepare: Prepare = lambda: None) -> int:
    """Run one command; its exit code (docs/errors.md)."""
    return _guarded(_dispatch, words, environment, prepare)


def executor(words: Sequence[str], environment: MutableMapping[str, str]) -> int:
    """The executor image's entry point: kaniko's flags without a command, or one of ours."""

    def prepare() -> None:
        trust_mounted_certificates(environment, environment.get("IMAGEWRIGHT_DIR", "/kaniko"))

    if words and words[0] in (*_COMMANDS, "help", "--help", "-h"):
        return main(words, environment, prepare)
    return _guarded(partial(_call, _EXECUTOR), words, environment, prepare)


def warmer(words: Sequence[str], environment: MutableMapping[str, str]) -> int:
    """The executor image's ``/kaniko/warmer``."""
    return executor(["warm", *words], environment)


def _guarded(
    run: Callable[[list[str], Mapping[str, str], Prepare], int],
    words: Sequence[str],
    environment: MutableMapping[str, str],
    prepare: Prepare,
) -> int:
    """The exit code of what is run; whatever goes wrong is told as an error."""

    def prepare_all() -> None:
        prepare()
        trust_in_sdks(environment)

    try:
        return run(list(words), environment, prepare_all)
    except ImagewrightError as error:
        early_display(words).failed(error)
        return exit_code(error.reason)
    except BrokenPipeError:
        # Nobody reads any more; without this the interpreter complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Interruption):
        return exit_code(Reason.CANCELLED)
    except Exception as failure:  # noqa: BLE001 -- a bug; who reads JSON gets JSON all the same
        traceback.print_exc()
        early_display(words).failed(_bug(failure))
        return exit_code(Reason.INTERNAL_ERROR)


def _dispatch(words: list[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    command = words.pop(0) if words else "help"
    command = {"--help": "help", "-h": "help", "--version": "version"}.get(command, command)
    found = _COMMANDS.get(command)
    if command == "help" or (found is not None and not found.flags and _asks_help(words)):
        print(overview())
        return 0
    if found is None:
        raise UsageError(f"unknown command {command!r}", hint=f"The commands are {', '.join(sorted(_COMMANDS))}.")
    return _call(found, words, environment, prepare)


def _call(command: _Command, words: list[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    if _asks_help(words):
        print(command_help(command.usage, command.flags))
        return 0
    return command.run(words, environment, prepare)


def _asks_help(words: Sequence[str]) -> bool:
    return any(word in ("--help", "-h") for word in words)


def version() -> str:
    """The installed release."""
    return metadata.version("imagewright")


def _build(arguments: Arguments, environment: Mapping[str, str], prepare: Prepare) -> int:
    if arguments.flag("dryrun"):
        prepare()
        return _plan(arguments, environment)
    request = build_request(arguments, environment)
    prepare()
    check_environment(request, environment)
    display = open_display(arguments, environment)
    for warning in (*outdated(arguments, environment), *unused(arguments)):
        display.warning(warning)
    enter_user_namespace_if_needed()
    result, error = _run(request, environment, display)
    if error is not None:
        display.failed(error)
        return exit_code(error.reason)
    if not result.references:
        print(result.digest)
    for reference in result.references:
        print(reference)
    return 0


def _plan(arguments: Arguments, environment: Mapping[str, str]) -> int:
    request = build_request(arguments, environment)
    check_environment(request, environment)
    reporter = PlainReporter(sys.stderr, Level.WARN)
    print(render(engine.plan(request, environment, reporter), values=arguments.flag("values")), end="")
    return 0


def _execute(environment: Mapping[str, str], prepare: Prepare) -> int:
    """What the operator's Pods run: the request from the environment, the result to the termination message."""

    def execute(request: BuildRequest, display: Reporter) -> tuple[BuildResult, ImagewrightError | None]:
        check_environment(request, environment)
        enter_user_namespace_if_needed()
        return _run(request, environment, display)

    return _report(execute, environment, prepare)


def _probe(environment: Mapping[str, str], prepare: Prepare) -> int:
    """The same for a request of which only the source's commit is wanted."""
    return _report(
        lambda request, display: (find_source_commit(request, environment, display), None), environment, prepare
    )


def _report(
    execute: Callable[[BuildRequest, Reporter], tuple[BuildResult, ImagewrightError | None]],
    environment: Mapping[str, str],
    prepare: Prepare,
) -> int:
    display = PlainReporter(sys.stdout, Level.INFO)
    error: ImagewrightError | None
    try:
        prepare()
        result, error = execute(environment_request(environment, contract.REQUEST_ENV), display)
    except ImagewrightError as failure:
        error = failure
        result = _without_build(error)
    except Exception as failure:  # noqa: BLE001 -- the operator must learn of it
        traceback.print_exc()
        error = _bug(failure)
        result = _without_build(error)
    _ignore_signals()  # what was built is pushed: a Pod that ends now must still say its digest
    if error is not None:
        display.failed(error)
    whole = json.dumps({contract.RESULT_LOG_KEY: json.loads(result.to_json())}, separators=(",", ":"))
    print(whole, flush=True)
    _write_termination_message(result.termination_message())
    return exit_code(error.reason) if error is not None else 0


def _bug(failure: Exception) -> ImagewrightError:
    return ImagewrightError(
        f"the engine failed: {type(failure).__name__}: {failure}", hint="This is a bug: report it with the log."
    )


def _without_build(error: ImagewrightError) -> BuildResult:
    return BuildResult(failure=Failure(reason=error.reason.value, message=error.message, hint=error.hint))


def _write_termination_message(text: str) -> None:
    try:
        # The kubelet makes it. Elsewhere it isn't there, and isn't made: /dev is the machine's.
        fd = os.open(contract.TERMINATION_MESSAGE_PATH, os.O_WRONLY | os.O_TRUNC)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"warning: {contract.TERMINATION_MESSAGE_PATH} can't be written: {error.strerror}", file=sys.stderr)


def _run(
    request: BuildRequest, environment: Mapping[str, str], reporter: Reporter
) -> tuple[BuildResult, ImagewrightError | None]:
    """Build, with SIGTERM as good as Ctrl-C: the sandbox is ended and the work folder removed."""
    previous = {number: signal.signal(number, _cancel) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        outcome = engine.build(request, environment, reporter)
        return outcome.result, outcome.error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        reporter.close()


def _cancel(number: int, frame: FrameType | None) -> None:
    _ignore_signals()  # one is enough: tidying up must not be interrupted
    raise Interruption(f"the build was cancelled ({signal.Signals(number).name})")


def _ignore_signals() -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class _Command:
    """``usage`` is how it is typed, without flags; ``run`` is given the words after the command."""

    usage: str
    flags: Sequence[Flag]
    run: Callable[[Sequence[str], Mapping[str, str], Prepare], int]


def _prepared(run: Callable[[Sequence[str], Mapping[str, str]], int]) -> Callable[..., int]:
    """A command that connects: mounted certificates are trusted first."""

    def prepared(words: Sequence[str], environment: Mapping[str, str], prepare: Prepare) -> int:
        prepare()
        return run(words, environment)

    return prepared


def _print_version(words: Sequence[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    print(f"imagewright {version()}")
    return 0


_COMMANDS: Mapping[str, _Command] = {
    "build": _Command(
        "imagewright build [CONTEXT]",
        COMMAND_FLAGS,
        lambda words, env, prepare: _build(parse_build(words, env), env, prepare),
    ),
    "plan": _Command(
        "imagewright plan [CONTEXT]",
        _PLAN_FLAGS,
        _prepared(lambda words, env: _plan(parse_build(words, env, _PLAN_FLAGS), env)),
    ),
    "lint": _Command(
        "imagewright lint [DOCKERFILE]",
        lintcommand.FLAGS,
        lambda words, env, _: lintcommand.lint(words, env, version()),
    ),
    "pin": _Command("imagewright pin [DOCKERFILE…]", pincommand.FLAGS, _prepared(pincommand.run)),
    "push": _Command("imagewright push ARCHIVE|LAYOUT", pushcommand.FLAGS, _prepared(pushcommand.run)),
    "login": _Command(
        "imagewright login [REGISTRY]", logincommand.FLAGS, lambda words, env, _: logincommand.run(words, env)
    ),
    "warm": _Command("imagewright warm", warmcommand.FLAGS, _prepared(warmcommand.run)),
    "execute": _Command("imagewright execute", (), lambda words, env, prepare: _execute(env, prepare)),
    "probe": _Command("imagewright probe", (), lambda words, env, prepare: _probe(env, prepare)),
    "version": _Command("imagewright version", (), _print_version),
}
# kaniko's, in the executor image: its flags and no others, and no word beside them.
_EXECUTOR = _Command("executor", BUILD_FLAGS, lambda words, env, prepare: _build(parse(words, env), env, prepare))

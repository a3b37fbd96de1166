"""The command line's entry points: the table of commands, and what becomes of a failure.

Writes to the terminal.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata

from imagewright.cli.arguments import parse, parse_build
from imagewright.cli.commands import execute, lint, login, pin, push, warm
from imagewright.cli.commands.build import PLAN_FLAGS, Prepare, build, plan
from imagewright.cli.display import early_display
from imagewright.cli.flags import BUILD_FLAGS, COMMAND_FLAGS, Flag
from imagewright.cli.help import command_help, overview
from imagewright.cli.trust import trust_in_sdks, trust_mounted_certificates
from imagewright.errors import ImagewrightError, Interruption, Reason, UsageError, exit_code


def main(words: Sequence[str], environment: MutableMapping[str, str], prepare: Prepare = lambda: None) -> int:
    """Run one command; its exit code (docs/errors.md)."""
    return _guarded(_dispatch, words, environment, prepare)


def executor(words: Sequence[str], environment: MutableMapping[str, str]) -> int:
    """The executor image's entry point: kaniko's flags without a command, or a command of ours."""

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
    """The exit code of ``run``; reports whatever goes wrong as an error."""

    def prepare_all() -> None:
        prepare()
        trust_in_sdks(environment)

    try:
        return run(list(words), environment, prepare_all)
    except ImagewrightError as error:
        early_display(words).failed(error)
        return exit_code(error.reason)
    except BrokenPipeError:
        # The reader is gone; without this, the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Interruption):
        return exit_code(Reason.CANCELLED)
    except Exception as failure:  # noqa: BLE001 -- a bug, in JSON for those who read JSON
        traceback.print_exc()
        early_display(words).failed(execute.internal_error(failure))
        return exit_code(Reason.INTERNAL_ERROR)


def _dispatch(words: list[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    command = words.pop(0) if words else "help"
    command = {"--help": "help", "-h": "help", "--version": "version"}.get(command, command)
    found = _COMMANDS.get(command)
    if command == "help" or (found is not None and not found.flags and _asks_help(words)):
        print(overview())
        return 0
    if found is None:
        raise UsageError(f'unknown command "{command}"', hint=f"Use one of {', '.join(sorted(_COMMANDS))}.")
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


@dataclass(frozen=True, slots=True)
class _Command:
    """``usage`` is how it is typed, without flags; ``run`` gets the words after the command."""

    usage: str
    flags: Sequence[Flag]
    run: Callable[[Sequence[str], Mapping[str, str], Prepare], int]


def _prepared(run: Callable[[Sequence[str], Mapping[str, str]], int]) -> Callable[..., int]:
    """A command that connects to servers: mounted certificates are trusted first."""

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
        lambda words, env, prepare: build(parse_build(words, env), env, prepare),
    ),
    "plan": _Command(
        "imagewright plan [CONTEXT]",
        PLAN_FLAGS,
        _prepared(lambda words, env: plan(parse_build(words, env, PLAN_FLAGS), env)),
    ),
    "lint": _Command(
        "imagewright lint [DOCKERFILE]",
        lint.FLAGS,
        lambda words, env, _: lint.lint(words, env, version()),
    ),
    "pin": _Command("imagewright pin [DOCKERFILE…]", pin.FLAGS, _prepared(pin.run)),
    "push": _Command("imagewright push ARCHIVE|LAYOUT", push.FLAGS, _prepared(push.run)),
    "login": _Command("imagewright login [REGISTRY]", login.FLAGS, lambda words, env, _: login.run(words, env)),
    "warm": _Command("imagewright warm", warm.FLAGS, _prepared(warm.run)),
    "execute": _Command("imagewright execute", (), lambda words, env, prepare: execute.execute(env, prepare)),
    "probe": _Command("imagewright probe", (), lambda words, env, prepare: execute.probe(env, prepare)),
    "runner": _Command("imagewright runner [SOCKET]", (), lambda words, env, _: execute.runner(words)),
    "version": _Command("imagewright version", (), _print_version),
}
# kaniko's, in the executor's image: its flags alone, and no positional arguments.
_EXECUTOR = _Command("executor", BUILD_FLAGS, lambda words, env, prepare: build(parse(words, env), env, prepare))

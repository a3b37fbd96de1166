"""The command line's entry points: the table of commands, and what becomes of a failure.

Writes to the terminal. A command's module is imported when the command runs: all of them together take longer to import
than ``imagewright version`` may take.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial

from imagewright.cli.command import Command, Prepare
from imagewright.errors import ImagewrightError, Interruption, Reason, UsageError, exit_code, internal_error

_OBJECTS_PER_COLLECTION = 10_000  # a build keeps hundreds of thousands, and hardly any of them are garbage in cycles
# By the module of cli.commands that defines it, in COMMANDS.
_MODULES = {
    "build": "build",
    "plan": "build",
    "lint": "lint",
    "pin": "pin",
    "push": "push",
    "login": "login",
    "warm": "warm",
    "execute": "execute",
    "probe": "execute",
    "runner": "runner",
    "version": "version",
}


def main(words: Sequence[str], environment: MutableMapping[str, str], prepare: Prepare = lambda: None) -> int:
    """Run one command; its exit code (docs/errors.md)."""
    return _guarded(_dispatch, words, environment, prepare)


def executor(words: Sequence[str], environment: MutableMapping[str, str]) -> int:
    """The executor image's entry point: kaniko's flags without a command, or a command of ours."""

    def prepare() -> None:
        from imagewright.cli.trust import trust_mounted_certificates  # noqa: PLC0415 -- as the commands

        trust_mounted_certificates(environment, environment.get("IMAGEWRIGHT_DIR", "/kaniko"))

    if words and words[0] in (*_MODULES, "help", "--help", "-h"):
        return main(words, environment, prepare)
    return _guarded(partial(_call, "build", "executor"), words, environment, prepare)


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
        from imagewright.cli.trust import trust_in_sdks  # noqa: PLC0415 -- as the commands

        prepare()
        trust_in_sdks(environment)

    try:
        return run(list(words), environment, prepare_all)
    except ImagewrightError as error:
        _report(words, error)
        return exit_code(error.reason)
    except BrokenPipeError:
        # The reader is gone; without this, the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Interruption):
        return exit_code(Reason.CANCELLED)
    except Exception as failure:  # noqa: BLE001 -- a bug, in JSON for those who read JSON
        traceback.print_exc()
        _report(words, internal_error(failure))
        return exit_code(Reason.INTERNAL_ERROR)


def _report(words: Sequence[str], error: ImagewrightError) -> None:
    from imagewright.cli.display import early_display  # noqa: PLC0415 -- as the commands

    early_display(words).failed(error)


def _dispatch(words: list[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    name = words.pop(0) if words else "help"
    name = {"--help": "help", "-h": "help", "--version": "version"}.get(name, name)
    if name == "help" or (name in _MODULES and _asks_help(words) and not _command(_MODULES[name], name).flags):
        from imagewright.cli.help import overview  # noqa: PLC0415 -- as the commands

        print(overview())
        return 0
    if name not in _MODULES:
        raise UsageError(f'unknown command "{name}"', hint="Run `imagewright --help` for a list of commands.")
    return _call(_MODULES[name], name, words, environment, prepare)


def _call(module: str, name: str, words: list[str], environment: Mapping[str, str], prepare: Prepare) -> int:
    command = _command(module, name)
    if _asks_help(words):
        from imagewright.cli.help import command_help  # noqa: PLC0415 -- as the commands

        print(command_help(command.usage, command.flags))
        return 0
    return command.run(words, environment, prepare)


def _command(module: str, name: str) -> Command:
    gc.disable()  # what modules define stays: looking for garbage in it takes a tenth of the import
    try:
        commands: Mapping[str, Command] = importlib.import_module(f"imagewright.cli.commands.{module}").COMMANDS
    finally:
        gc.enable()
    gc.freeze()  # nor look again during the build
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    return commands[name]


def _asks_help(words: Sequence[str]) -> bool:
    return any(word in ("--help", "-h") for word in words)

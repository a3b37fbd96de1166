"""Executes the command, the last step of every mode.

Changes the calling process, a forked child of the runner.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.processes.child import Parent

# How the lines begin that this process writes instead of the command's output, and of them those about its user.
OUTPUT_PREFIX = "imagewright: "
WRONG_USER = "cannot run as "
CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
NOT_EXECUTABLE = 126
NOT_FOUND = 127


def exec_command(command: RunCommand, kept: frozenset[int], parent: Parent) -> NoReturn:
    """Drop what the command must not have, and execute it. Only descriptors 0 to 2 are open."""
    try:
        os.setsid()
        _reset_signals()
        linux.join_new_session_keyring()
        linux.keep_capabilities(kept)
        _set_user(command)
        parent.bind_lifetime()
        os.umask(0o022)
        os.chdir(command.workdir)
    except OSError as error:
        _fail(describe(error), NOT_EXECUTABLE)
    env = {os.fsencode(k): os.fsencode(v) for k, v in command.env}
    argv = [os.fsencode(a) for a in command.argv]
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError:
        _fail(f"exec {command.argv[0]}: executable or its interpreter not found", NOT_FOUND)
    except OSError as error:
        _fail(f"exec {command.argv[0]}: {error.strerror}", NOT_EXECUTABLE)


def _set_user(command: RunCommand) -> None:
    try:
        try:
            os.setgroups(command.groups)
        except PermissionError:
            if command.groups:  # a namespace with a single id denies setgroups, and has no groups to set
                raise
        os.setresgid(command.gid, command.gid, command.gid)
        os.setresuid(command.uid, command.uid, command.uid)
    except OSError as error:
        raise OSError(error.errno, f"{WRONG_USER}{command.uid}:{command.gid}: {error.strerror}") from error


def describe(error: OSError) -> str:
    """What failed and why, as text."""
    text = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {text}" if isinstance(error.filename, str | bytes) else text


def _reset_signals() -> None:
    """Restore default handlers: ignored signals stay ignored across execve, and Python ignores SIGPIPE."""
    for number in CATCHABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _fail(text: str, code: int) -> NoReturn:
    os.write(2, f"{OUTPUT_PREFIX}{text}\n".encode(errors="surrogateescape"))
    sys.stdout = sys.stderr = None
    os._exit(code)

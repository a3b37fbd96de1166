"""The runner's own side: serves requests of the engine, each in a process of its own.

Runs until the engine has exited. Forks, reaps what commands leave behind, and creates and removes directories in the
work directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import tempfile
from collections.abc import Iterator

from imagewright.contract.request import SandboxKind
from imagewright.descent import remove_tree
from imagewright.errors import SandboxError
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.kernel.ids import map_ids
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.modes import direct, namespace
from imagewright.sandbox.processes.child import FAILED, Parent, spawn
from imagewright.sandbox.processes.command import describe
from imagewright.sandbox.processes.descendants import end_all

_UNSHARED, _MAPPED = b"unshared", b"mapped"


def request(kind: SandboxKind, command: RunCommand) -> bytes:
    """The request for a command; the descriptor for its output is sent along."""
    return kind.value.encode() + b"\n" + command.encode()


def serve(engine: Parent, work_dir: str) -> int:
    """Answer each request as JSON: ``code``, or ``error`` with ``errno`` (null if no call failed) and ``hint``."""
    linux.set_dumpable(False)
    os.setpgid(0, 0)
    linux.become_subreaper()
    os.environ.clear()
    # Ctrl-C is handled by the engine, which stops this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while (asked := engine.receive()) is not None:
        message, (output,) = asked
        kind, _, command = message.partition(b"\n")
        answer = _answer(SandboxKind(kind.decode()), RunCommand.decode(command), output, work_dir)
        with contextlib.suppress(ConnectionError):  # the engine has exited
            engine.send(json.dumps(answer).encode())
    return 0


def _answer(kind: SandboxKind, command: RunCommand, output: int, work_dir: str) -> dict[str, object]:
    try:
        return {"code": _run(kind, command, output, work_dir)}
    except SandboxError as error:
        return {"error": error.message, "errno": None, "hint": error.hint}
    except OSError as error:
        return {"error": describe(error), "errno": error.errno, "hint": ""}
    finally:
        os.close(output)


def _run(kind: SandboxKind, command: RunCommand, output: int, work_dir: str) -> int:
    """Run the command in a child that has the command's descriptors 0 to 2."""
    with (
        _scratch(work_dir) as scratch,
        contextlib.closing(
            spawn(lambda runner: _execute(kind, command, (output, scratch), runner), keep=(output,))
        ) as child,
    ):
        message = child.receive()
        if message == _UNSHARED:
            map_ids(child.pid)
            with contextlib.suppress(ConnectionError):  # it was killed: its exit code says so
                child.send(_MAPPED)
            message = child.receive()
        return child.finish(message)


@contextlib.contextmanager
def _scratch(work_dir: str) -> Iterator[str]:
    """An empty directory for one command. At the end all processes started meanwhile are killed."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        directory = tempfile.mkdtemp(prefix="run-", dir=work_dir)
        try:
            yield directory
        finally:
            end_all(proc)
            remove_tree(directory, ignore_errors=True)
    finally:
        os.close(proc)


def _execute(kind: SandboxKind, command: RunCommand, channels: tuple[int, str], runner: Parent) -> int:
    output, scratch = channels
    try:
        linux.become_subreaper()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(null)
        os.close(output)
        if kind is SandboxKind.NAMESPACE:
            return namespace.run(command, scratch, lambda: _have_ids_mapped(runner))
        if kind is SandboxKind.ROOT:
            return direct.run_in_root(command, scratch)
        return direct.run_in_chroot(command, scratch)
    except OSError as error:
        runner.report(error.errno or 0, describe(error))
    return FAILED


def _have_ids_mapped(runner: Parent) -> None:
    """Request the id map of the user namespace that this process has just created, and wait for it."""
    linux.set_dumpable(True)  # else /proc/PID/uid_map belongs to the machine's root
    runner.send(_UNSHARED)
    if runner.receive() is None:
        raise OSError(errno.EPERM, "cannot map user and group ids into the new user namespace")

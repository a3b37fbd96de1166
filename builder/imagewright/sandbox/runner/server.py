"""The runner's own side: serves requests of the engine, each in a process of its own.

It is a child of the engine, or the first process of a container that has nothing of the engine's. Runs until the engine
has exited. Forks, reaps what commands leave behind, and creates and removes directories in the work directory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict

from imagewright.contract.request import SandboxKind
from imagewright.descent import remove_tree
from imagewright.errors import SandboxError
from imagewright.records import dataclass
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.kernel.ids import map_ids
from imagewright.sandbox.kernel.memory import OomScore, counts
from imagewright.sandbox.kernel.processlimit import bound_processes
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.modes import direct, namespace
from imagewright.sandbox.processes.child import FAILED, Parent, spawn
from imagewright.sandbox.processes.command import CATCHABLE, describe
from imagewright.sandbox.processes.descendants import end_all

_UNSHARED, _MAPPED = b"unshared", b"mapped"
MEMORY = b"memory"  # the request for the counters of this process's control group
# In a runner's container, directories of its own that no image has files in: for a command's scratch files, for the
# sources of its mounts, and as the root of the ``chroot`` mode. The engine creates them when it needs the runner: a
# container with a read-only root can't have them, nor needs them where commands run in namespaces.
CONTAINER_OWN = "imagewright/runner"
SCRATCH, SOURCES, CHROOT = f"/{CONTAINER_OWN}/scratch", f"/{CONTAINER_OWN}/sources", f"/{CONTAINER_OWN}/rootfs"
_CONNECT_INTERVAL_S = 0.02


def request(kind: SandboxKind, command: RunCommand) -> bytes:
    """The request for a command; the descriptor for its output is sent along."""
    return kind.value.encode() + b"\n" + command.encode()


def serve_from_container(socket_path: str) -> int:
    """Serve the engine of another container of this Pod, which listens at ``socket_path``, until it hangs up.

    Sends it a descriptor of this container's ``/`` and its mount table. Waits for the engine however long it takes to
    start: it may lack a Secret that is still to be created. An ordinary user cannot replace ``/``, and gives none:
    the engine of such a Pod runs commands in namespaces of its own, or none.
    """
    linux.set_dumpable(False)
    line = socket.socket(socket.AF_UNIX)
    while True:
        try:
            line.connect(socket_path)
            break
        except FileNotFoundError:
            time.sleep(_CONNECT_INTERVAL_S)
        except ConnectionRefusedError:
            return 0  # the engine has exited
    engine = Parent(line)
    if os.geteuid() != 0:
        with contextlib.suppress(ConnectionError):
            engine.send(b"")
        engine.receive()
        return 0
    with open("/proc/self/mountinfo", "rb") as file:
        table = file.read()
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(ConnectionError):
        engine.send(table, [root])
    os.close(root)
    return serve(engine, SCRATCH, watched=True)


def serve(engine: Parent, work_dir: str, *, watched: bool = False) -> int:
    """Answer each request as JSON: ``code``, or ``error`` with ``errno`` (null if no call failed) and ``hint``.

    ``watched``: end a command when the engine hangs up, whose exit nothing else reports.
    """
    linux.set_dumpable(False)
    with contextlib.suppress(PermissionError):  # the first process of a container leads its session
        os.setpgid(0, 0)
    linux.become_subreaper()
    os.environ.clear()
    # Where a command sees this process, `kill -TERM -1` sends it what is meant for the command's own. Ctrl-C is handled
    # by the engine, which ends this process by a signal that cannot be ignored.
    for number in CATCHABLE - {signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    score = OomScore()
    while (asked := engine.receive()) is not None:
        message, fds = asked
        answer: dict[str, object]
        if message == MEMORY:
            answer = asdict(counts())
        else:
            (output,) = fds
            kind, _, command = message.partition(b"\n")
            job = _Job(SandboxKind(kind.decode()), RunCommand.decode(command), output, work_dir)
            answer = _answer(job, engine.fileno() if watched else -1)
            score.restore()
        with contextlib.suppress(ConnectionError):  # the engine has exited
            engine.send(json.dumps(answer).encode())
    return 0


@dataclass(frozen=True, slots=True)
class _Job:
    kind: SandboxKind
    command: RunCommand
    output: int
    work_dir: str


def _answer(job: _Job, engine: int) -> dict[str, object]:
    try:
        return {"code": _run(job, engine)}
    except SandboxError as error:
        return {"error": error.message, "errno": None, "hint": error.hint}
    except OSError as error:
        return {"error": describe(error), "errno": error.errno, "hint": ""}
    finally:
        os.close(job.output)


def _run(job: _Job, engine: int) -> int:
    """Run the command in a child that has the command's descriptors 0 to 2."""
    with (
        _scratch(job.work_dir) as scratch,
        contextlib.closing(spawn(lambda runner: _execute(job, scratch, runner), keep=(job.output,))) as child,
    ):
        child.end_with(engine)
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


def _execute(job: _Job, scratch: str, runner: Parent) -> int:
    command = job.command
    try:
        linux.become_subreaper()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(job.output, 1)
        os.dup2(job.output, 2)
        os.close(null)
        os.close(job.output)
        bound_processes()
        if job.kind is SandboxKind.NAMESPACE:
            return namespace.run(command, scratch, lambda: _have_ids_mapped(runner))
        if job.kind is SandboxKind.ROOT:
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

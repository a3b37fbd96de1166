"""The engine's side of runners: processes with a single thread that run commands.

unshare(CLONE_NEWUSER) fails in a process with several threads. Runners are forked before the engine starts its first
thread and reads any credential; their memory, which holds the environment, is not dumpable. The engine talks to each
over a socket that nobody else holds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.model import RunCommand, RunnerLost
from imagewright.sandbox.processes.child import spawn
from imagewright.sandbox.processes.connection import Connection
from imagewright.sandbox.processes.descendants import await_end, kill_descendants
from imagewright.sandbox.runner import answers, server


def ask(connection: Connection, request: bytes, output: Callable[[bytes], None]) -> bytes | None:
    """Send a request for a command; the answer, None if the runner has exited."""
    read, write = os.pipe()
    try:
        try:
            connection.send(request, [write])
        except ConnectionError:
            return None
        finally:
            os.close(write)
        return connection.receive(read, output)
    finally:
        os.close(read)


class Runner:
    """One runner, which runs one command at a time."""

    def __init__(self, work_dir: str) -> None:
        self._child = spawn(lambda parent: server.serve(parent, work_dir))
        self._state = threading.Lock()
        self._running = False
        self._closed = False

    @property
    def pid(self) -> int:
        return self._child.pid

    def run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """Run a command in a mode.

        An exception of ``output`` stops the command and this runner.

        Raises:
            SandboxError: it could not be started; the message names the system call. Or ``close`` was called.
        """
        with self._state:
            self._refuse_if_closed()
            self._running = True
        try:
            data = self._ask(kind, command, output)
        except BaseException:
            self.close()  # its answer would be taken for that of the next command
            raise
        finally:
            self._finished()
        with self._state:
            self._refuse_if_closed()  # its answer is only a result of the kill
        if data is None:
            raise RunnerLost("the process that runs commands exited unexpectedly")
        return answers.exit_code(data)

    def _ask(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> bytes | None:
        return ask(self._child, server.request(kind, command), output)

    def _finished(self) -> None:
        with self._state:
            self._running = False
            if self._closed:
                self._child.wait()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise SandboxError("the process that runs commands was stopped")

    def close(self) -> None:
        """Stop the process, and with it a running command. Any thread may call it at any time.

        A thread that waits for a command gets a SandboxError once everything has stopped.
        """
        with self._state:
            if self._closed:
                return
            self._closed = True
            self._kill()
            if not self._running:  # else the thread that waits for it reaps it
                self._child.wait()

    def _kill(self) -> None:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, proc)
                stack.callback(await_end, proc, kill_descendants(proc, self._child.pid))
            self._child.kill()


class RunnerPool:
    """Several runners, for stages that run in parallel; callers wait for a free one."""

    def __init__(self, work_dir: str, count: int) -> None:
        self._all: list[Runner] = []
        try:
            for _ in range(count):
                self._all.append(Runner(work_dir))
        except BaseException:
            self.close()
            raise
        self._free: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for runner in self._all:
            self._free.put(runner)

    def __len__(self) -> int:
        return len(self._all)

    def keep_one(self) -> None:
        """Stop all but one, for modes with one command at a time. To be called before the first command."""
        while len(self._all) > 1:
            self._all.remove(runner := self._free.get())
            runner.close()

    def run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """As ``Runner.run``. A stopped runner raises for every caller, instead of having them wait forever.

        Raises:
            SandboxError
        """
        runner = self._free.get()
        try:
            return runner.run(kind, command, output)
        finally:
            self._free.put(runner)

    def close(self) -> None:
        """Stop all runners and their commands: threads that wait for one get a SandboxError."""
        for runner in self._all:
            runner.close()

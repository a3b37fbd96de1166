"""Talk to the supervisor: start, signal and watch processes by name; start and end the supervisor itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.places import SOURCE, ClusterError, Places

PATIENCE_S = 300.0  # a hang, not a measure of speed


def eventually(check: Callable[[], bool], what: str, patience_s: float = PATIENCE_S, problem: Any = None) -> None:
    """Wait until ``check`` holds; ``problem`` adds to the error what explains that it never did."""
    end = time.monotonic() + patience_s
    while not check():
        if time.monotonic() > end:
            detail = f"\n{problem()}" if problem else ""
            raise ClusterError(f"waited {patience_s:.0f} s in vain: {what}{detail}")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    name: str
    pid: int  # in the cluster's own namespace; 0 when it doesn't run
    state: str  # as in /proc/PID/stat: R, S, D, T (frozen)
    exit_code: int | None  # of the last end; negative is a signal
    starts: int

    @property
    def running(self) -> bool:
        return self.pid != 0

    @property
    def frozen(self) -> bool:
        return self.state in ("T", "t")


class Processes:
    """The processes of one cluster. Holds no state of its own: every call asks the supervisor."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def supervisor_pid(self) -> int:
        """On the machine, not in its namespace; 0 when there is none."""
        try:
            pid = int(self._places.supervisor_pid.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        # A process id is used again one day: what has it now must be a supervisor of this very state.
        return pid if str(self._places.state).encode() in command and b"cluster.supervisor" in command else 0

    def launch(self) -> int:
        """Start the supervisor, wait until it answers, give its process id on the machine."""
        state = self._places.state
        self._places.logs.mkdir(parents=True, exist_ok=True)
        self._places.supervisor_pid.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cluster.supervisor", str(state), self._places.cgroup]
        log_path = self._places.logs / "supervisor.log"
        # Not Popen, which would complain that nobody waits: it is a daemon, and ``end`` collects it.
        child = os.posix_spawn(
            command[0],
            command,
            {**os.environ, "PYTHONPATH": str(SOURCE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

        def answers() -> bool:
            if os.waitpid(child, os.WNOHANG)[0]:
                raise ClusterError(f"the supervisor did not start:\n{log_path.read_text()[-2000:]}")
            return self.supervisor_pid() != 0

        eventually(answers, "the supervisor to start")
        return self.supervisor_pid()

    def end(self) -> None:
        """Kill the supervisor and with it everything in its namespaces."""
        if pid := self.supervisor_pid():
            parent = int(fields_of(pid)[1])
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: self.supervisor_pid() == 0, "the cluster's processes to end")
            if parent != 1:
                eventually(lambda: gone(parent), "the supervisor's parent to end")
        self._places.supervisor_pid.unlink(missing_ok=True)

    def start(self, name: str, argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
        """Start it if it doesn't run; without ``argv`` as it was started before. Gives its process id."""
        request = {"operation": "start", "name": name, "argv": argv and list(argv), "environment": environment}
        pid: int = self._ask(request)["pid"]
        return pid

    def signal(self, name: str, number: signal.Signals) -> None:
        self._ask({"operation": "signal", "name": name, "signal": int(number)})

    def status(self) -> dict[str, ProcessStatus]:
        found = self._ask({"operation": "status"})["processes"]
        return {name: ProcessStatus(name=name, **fields) for name, fields in found.items()}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(str(self._places.socket))
                with connection.makefile("rwb") as stream:
                    stream.write(json.dumps(request).encode() + b"\n")
                    stream.flush()
                    reply: dict[str, Any] = json.loads(stream.readline() or b'{"error": "no answer"}')
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise ClusterError("the cluster isn't up") from error
        if "error" in reply:
            raise ClusterError(reply["error"])
        return reply


def gone(pid: int) -> bool:
    """Whether it ended. It may be this process's own child, and then has to be waited for."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return fields_of(pid)[0] == "Z"
    except OSError:
        return True


def fields_of(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

"""The one process that owns all others of the cluster: first process of namespaces of its own, so that its end is
theirs.

It makes mount, network, process, host name and IPC namespaces, starts what it is told over a Unix socket, reaps what
ends, and never decides anything: order, readiness and restarts are its client's (``processes``, ``lifecycle``). When it
dies, whatever the way, the kernel kills every process in there and takes down every mount and interface.

Run as ``python -m cluster.supervisor STATE_FOLDER CGROUP``, as root.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.mounts import make_cgroups, set_up_mounts

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x20000000,
    0x40000000,
)
PR_SET_PDEATHSIG = 1

Json = dict[str, Any]


@dataclass(slots=True)
class Process:
    """One named process: what it is started with, and how it is."""

    argv: list[str]
    environment: dict[str, str]
    pid: int = 0  # 0 when it doesn't run
    exit_code: int | None = None  # negative: the signal that ended it
    starts: int = 0


class Supervisor:
    """Starts and signals processes by name. One thread; a request is answered at once."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._processes: dict[str, Process] = {}

    def serve(self, ready: int) -> None:
        """Answer requests until killed or told to quit. ``ready`` is a pipe that is closed when it can."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        path = self._state / "supervisor.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(64)
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            os.close(ready)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        self._answer(listener)
                    else:
                        os.read(wake_read, 4096)
                self._reap()

    def _answer(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            try:
                with connection.makefile("rwb") as stream:
                    self._reap()
                    reply = self._handle(json.loads(stream.readline()))
                    stream.write(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError) as error:
                print(f"supervisor: a request failed: {error}", flush=True)

    def _handle(self, request: Json) -> Json:
        name = request.get("name", "")
        match request["operation"]:
            case "start":
                return self._start(name, request.get("argv"), request.get("environment"))
            case "signal":
                process = self._processes.get(name)
                if process is None or not process.pid:
                    return {"error": f"{name} does not run"}
                os.kill(process.pid, request["signal"])
                return {}
            case "status":
                return {"processes": {name: describe(process) for name, process in self._processes.items()}}
        return {"error": f"unknown operation {request['operation']!r}"}

    def _start(self, name: str, argv: list[str] | None, environment: dict[str, str] | None) -> Json:
        process = self._processes.get(name)
        if process is None:
            if argv is None:
                return {"error": f"{name} was never started: its command is not known"}
            process = self._processes[name] = Process(argv, environment or {})
        if process.pid:
            return {"pid": process.pid}
        if argv is not None:
            process.argv, process.environment = argv, environment or {}
        log = str(self._state / "log" / f"{name}.log")
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            process.pid = os.posix_spawn(
                process.argv[0],
                process.argv,
                {**os.environ, **process.environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, append, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigdef=[signal.SIGPIPE],
            )
        except OSError as error:
            return {"error": f"{process.argv[0]}: {error}"}
        process.exit_code = None
        process.starts += 1
        return {"pid": process.pid}

    def _reap(self) -> None:
        """Take the exit of every child, adopted ones too: as the first process it inherits all orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for process in self._processes.values():
                if process.pid == pid:
                    process.pid, process.exit_code = 0, os.waitstatus_to_exitcode(status)


def describe(process: Process) -> Json:
    state = ""
    if process.pid:
        try:
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = ""
    return {"pid": process.pid, "state": state, "exit_code": process.exit_code, "starts": process.starts}


def main(state: Path, cgroup: str) -> None:
    """Enter new namespaces, fork their first process, wait for its end.

    The namespace of processes is only for children, hence the fork. The waiting parent takes the child along when it
    is killed itself, and gives its exit to whoever waits for the parent.
    """
    os.chdir("/")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "new namespaces could not be made: " + os.strerror(ctypes.get_errno()))
    make_cgroups(cgroup)
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready_read)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            first_process(state, ready_write)
        except BaseException as error:  # a forked child must not return into its parent's code
            print(f"supervisor: {error!r}", flush=True)
        finally:
            os._exit(1)
    os.close(ready_write)
    os.read(ready_read, 1)  # until it is closed
    partial = state / "supervisor.pid.partial"
    partial.write_text(f"{pid}\n")
    partial.rename(state / "supervisor.pid")
    os.waitpid(pid, 0)


def first_process(state: Path, ready: int) -> None:
    set_up_mounts(state)
    socket.sethostname("node1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Supervisor(state).serve(ready)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

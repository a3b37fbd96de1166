"""Kills a process of the sandbox at each step of a start, by ptrace(2), and prints the effect on the engine.

usage: stepping.py KIND GENERATION WORK_DIR ROOTFS PROGRAM. A step is what a process does between two system calls of
which others can observe. GENERATION 0 is the engine, 1 its runner, 2 the runner's child and so on. Each time a new
engine runs the program twice, and while it runs it first, the process of that generation that is the next to reach the
step is killed before its system call. Prints a JSON list for each step: its number, that of the system call, and the
results of both runs. The last step is one that was not reached, without a kill.

To be run in a PID namespace of its own, whose /proc has few processes, as there are steps in reading it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.model import RunCommand, SandboxMount, SocketMount
from imagewright.sandbox.runner.client import Runner

LIBC = ctypes.CDLL(None, use_errno=True)
TRACEME, CONT, SYSCALL, SETOPTIONS, GETEVENTMSG, GET_SYSCALL_INFO = 0, 7, 24, 0x4200, 0x4201, 0x420E
OPTIONS = 0x100000 | 1 | 2 | 4 | 8 | 16  # EXITKILL, TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
FORK_EVENTS, EXEC_EVENT = (1, 2, 3), 4
SYSCALL_STOP = signal.SIGTRAP | 0x80
ENTRY = 1
WALL = 0x40000000
PATIENCE_S = 120
# System calls that change nothing but the caller's own memory, by their numbers: x86_64, aarch64.
UNSEEN = {
    "fstat": (5, 80), "newfstatat": (262, 79), "lseek": (8, 62), "getdents64": (217, 61), "readlink": (89, 78),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "madvise": (28, 233),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "sigaltstack": (131, 132), "futex": (202, 98),
    "set_robust_list": (273, 99), "rseq": (334, 293), "getrandom": (318, 278), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
}  # fmt: skip
COLUMN = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)
UNSEEN_NUMBERS = set() if COLUMN is None else {numbers[COLUMN] for numbers in UNSEEN.values()}


def ptrace(request: int, pid: int, address: int = 0, data: object = 0) -> None:
    if LIBC.ptrace(ctypes.c_long(request), pid, ctypes.c_void_p(address), data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace({request}, {pid}): {os.strerror(error)}")


class Engine:
    """What is tested. It stops before, between and after its two runs, so that the tracer knows where it is."""

    def __init__(self, kind: SandboxKind, work_dir: str, command: RunCommand) -> None:
        self.kind, self.work_dir, self.command = kind, work_dir, command

    def live(self, told: int) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        runner = Runner(self.work_dir)
        self._run(runner, told)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._run(runner, told)
        runner.close()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _run(self, runner: Runner, told: int) -> None:
        try:
            result = f"code {runner.run(self.kind, self.command, lambda _: None)}"
        except SandboxError as error:
            result = error.message
        os.write(told, f"{result}\n".encode())


@dataclass
class Trial:
    """One engine with all its descendants, and the one kill among them."""

    generation: int
    step: int
    engine: int = 0
    pauses: int = 0  # of the engine
    ages: dict[int, int] = field(default_factory=dict)  # the generations of those that live
    early: set[int] = field(default_factory=set)  # children that stopped before their parent told of its fork
    steps: int = 0
    seen: bool = True  # whether the last system call was one that others see
    killed_before: int = -1

    def run(self, live: Callable[[int], None]) -> list[str]:
        """What the engine was told; "hangs" or "outlives" with generations where that is so."""
        out, into = os.pipe()
        self.engine = os.fork()
        if self.engine == 0:
            ptrace(TRACEME, 0)
            live(into)
            os._exit(0)
        os.close(into)
        self.ages[self.engine] = 0
        signal.alarm(PATIENCE_S)
        try:
            while self.ages:
                self._next()
        except TimeoutError:
            what = "outlives" if self.pauses == 3 else "hangs"
            return [f"{what}: {self.ages}"]
        finally:
            signal.alarm(0)
            self._end()
        with os.fdopen(out) as file:
            return file.read().splitlines()

    def _next(self) -> None:
        pid, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.ages.pop(pid, None)
        elif pid == self.engine and status >> 8 == signal.SIGSTOP:
            self.pauses += 1
            if self.pauses == 1:
                ptrace(SETOPTIONS, pid, 0, OPTIONS)
            if self.pauses < 3:
                self._go(pid)
        else:
            self._stopped(pid, status)
        if self.pauses == 3 and set(self.ages) == {self.engine}:
            self._go(self.engine)  # it has closed the sandbox, and nothing else lives

    def _stopped(self, pid: int, status: int) -> None:
        event, number = status >> 16, os.WSTOPSIG(status)
        if pid not in self.ages:
            self.early.add(pid)
            return
        if event in FORK_EVENTS:
            message = ctypes.c_ulong()
            ptrace(GETEVENTMSG, pid, 0, ctypes.byref(message))
            self.ages[message.value] = self.ages[pid] + 1
            if message.value in self.early:
                self.early.remove(message.value)
                self._go(message.value)
        elif event == EXEC_EVENT:
            self.ages[pid] = -1  # from here on it is the program
        elif number == SYSCALL_STOP and self._is_step(pid):
            os.kill(pid, signal.SIGKILL)
            return
        self._go(pid, 0 if number in (SYSCALL_STOP, signal.SIGSTOP, signal.SIGTRAP) else number)

    def _go(self, pid: int, number: int = 0) -> None:
        stepped = self.ages[pid] == self.generation and self.killed_before < 0 and self.pauses == 1
        try:
            ptrace(SYSCALL if stepped else CONT, pid, 0, number)
        except ProcessLookupError:
            return  # it was killed meanwhile: its end will be told

    def _is_step(self, pid: int) -> bool:
        info = ctypes.create_string_buffer(88)  # struct ptrace_syscall_info
        try:
            ptrace(GET_SYSCALL_INFO, pid, len(info), info)
        except ProcessLookupError:
            return False  # it was killed meanwhile, as in ``_go``
        if info.raw[0] != ENTRY:
            return False
        (call,) = struct.unpack_from("Q", info.raw, 24)
        here, self.seen = self.seen, call not in UNSEEN_NUMBERS
        self.steps += here
        if not here or self.steps <= self.step:
            return False
        self.killed_before = call
        return True

    def _end(self) -> None:
        for pid in self.ages:
            os.kill(pid, signal.SIGKILL)
        while self.ages:
            pid, status = os.waitpid(-1, WALL)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.ages.pop(pid, None)


def main() -> None:
    kind, generation, work_dir, rootfs, program = sys.argv[1:]
    linux.become_subreaper()  # what outlives its parents comes here
    signal.signal(signal.SIGALRM, give_up)
    # A socket is carried by a process of its own where it can't be mounted.
    mounts: tuple[SandboxMount, ...] = ()
    if kind == SandboxKind.ROOT:
        mounts = (SocketMount(f"{work_dir}/carried", f"{work_dir}/agent"),)
    engine = Engine(SandboxKind(kind), work_dir, RunCommand(rootfs, (program,), (), "/", 1000, 1000, mounts=mounts))
    step = 0
    while True:
        trial = Trial(int(generation), step)
        told = trial.run(engine.live)
        print(json.dumps([step, trial.killed_before, told]), flush=True)
        if trial.killed_before < 0:
            return
        step += 1


def give_up(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()

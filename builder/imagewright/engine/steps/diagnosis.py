"""Why a command failed, beyond its exit code: out of memory, a missing program, a program that Linux cannot start.

No I/O. Exit codes alone say little: a shell and the sandbox both use 126 for whatever cannot be started, and 127 for
whatever is not found. So the command's output is considered, too.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping, Sequence

from imagewright.errors import Reason
from imagewright.plan.steps import RunStep
from imagewright.records import dataclass
from imagewright.sandbox.model import PROCESSES_HINT, Counts
from imagewright.sandbox.processes.command import OUTPUT_PREFIX, WRONG_USER

_SIGKILL = 128 + 9
_MAX_INTERPRETER = 200


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a failure besides the exit code. ``detail`` is appended to the message."""

    reason: Reason = Reason.STEP_FAILED
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MemoryCounts:
    """The kernel's counters before and after a command."""

    before: Counts
    after: Counts

    @property
    def killed(self) -> bool | None:
        """Whether the kernel killed a process of this container for lack of memory; None if it is unknown."""
        before, after = self.before, self.after
        if before.group is not None and after.group is not None:
            return after.group.kills > before.group.kills
        return False if before.machine_kills is not None and before.machine_kills == after.machine_kills else None


def diagnose_exit(
    code: int, step: RunStep, env: Mapping[str, str], output: Sequence[str], memory: MemoryCounts
) -> Diagnosis:
    """Diagnose a command that exited with ``code``. ``env`` are its variables, ``output`` its last lines."""
    if found := _out_of_memory(memory):
        return found
    match code:
        case 126:
            return Diagnosis(hint=_not_started(step, env, output))
        case 127:
            return Diagnosis(hint=_not_found(step, output))
        case _ if code == _SIGKILL:
            return Diagnosis(hint=_KILLED if memory.killed is None else _KILLED_BY_A_PROCESS)
        case _:
            return Diagnosis(hint=_refused(output))


def diagnose_lost_runner(memory: MemoryCounts) -> Diagnosis:
    """Diagnose the loss of the process that starts commands."""
    hint = _LOST if memory.killed is None else _LOST_TO_A_PROCESS
    return _out_of_memory(memory) or Diagnosis(Reason.SANDBOX_UNAVAILABLE, hint=hint)


# --- killed

_KILLED = "It was killed (SIGKILL), most often for lack of memory. Raise the container's memory limit."
_KILLED_BY_A_PROCESS = (
    "It was killed (SIGKILL), but not for lack of memory. Check the command itself (kill, timeout) and other processes."
)
_LOST = (
    "Raise the container's memory limit if memory has run out. If the command killed it, as `kill -9 -1` and `pkill` do, "
    "end processes by the process ID in $!."
)
_LOST_TO_A_PROCESS = (
    "Memory did not run out. If the command killed it, as `kill -9 -1` and `pkill` do, end processes by the process ID "
    "in $!."
)


_TOO_MANY_FILES = (
    "The command reached its limit of open files (`ulimit -n`). Use fewer at once, or raise the limit of the container "
    "runtime."
)
_FORK = re.compile(r"fork|clone|thread|spawn|process|exec", re.I)


def _refused(output: Sequence[str]) -> str:
    """The hint if the last lines show that the kernel refused a file or a process for a limit."""
    if _contains([line.lower() for line in output], errno.EMFILE):
        return _TOO_MANY_FILES
    refused = [line for line in output if os.strerror(errno.EAGAIN) in line or "can't start new thread" in line]
    return PROCESSES_HINT if any(_FORK.search(line) for line in refused) else ""


def _out_of_memory(memory: MemoryCounts) -> Diagnosis | None:
    """Whether the container or the machine ran out, if the kernel killed a process while the command ran."""
    after = memory.after.group
    if after is None or not memory.killed:
        return None
    if after.reached_limit:
        detail = f"; the kernel killed a process at the container's memory limit of {_size(after.limit or 0)}"
        hint = "Raise the limit, or reduce what the command uses, for example with fewer parallel jobs."
        return Diagnosis(Reason.OUT_OF_MEMORY, detail, hint)
    bound = f" of {_size(after.limit)}" if after.limit else ""
    used = f": this container had used at most {_size(after.peak)}{bound}" if after.peak else ""
    detail = f"; the kernel killed a process because the machine ran out of memory{used}"
    return Diagnosis(Reason.NODE_OUT_OF_MEMORY, detail, "Try again, and request as much memory as the build needs.")


def _size(count: int) -> str:
    """In binary units, as in Kubernetes limits."""
    return f"{count / (1 << 30):.1f}Gi" if count >= 10 << 30 else f"{count >> 20}Mi"


# --- not started

# The longest argument or variable that Linux passes to a program, without the terminating zero byte (execve(2)).
LONGEST_BYTES = 32 * os.sysconf("SC_PAGE_SIZE") - 1
_KIB = 1024


def _not_started(step: RunStep, env: Mapping[str, str], output: Sequence[str]) -> str:
    lowered = [line.lower() for line in output]
    if _contains(lowered, errno.E2BIG):
        return _too_long(step, env)
    if f"{OUTPUT_PREFIX}{step.workdir}: ".lower() in "\n".join(lowered):
        return "Let the user of USER enter WORKDIR: chown or chmod it in an earlier step."
    if any(line.startswith(f"{OUTPUT_PREFIX}{WRONG_USER}") for line in lowered):
        return "Add the capabilities SETUID and SETGID to the container, or keep USER root."
    if _contains(lowered, errno.ENOEXEC) or any("cannot execute binary file" in line for line in lowered):
        return "Check that the program is for this architecture, and that a script begins with a #! line."
    if _contains(lowered, errno.EPERM):
        return (
            "The program's file has capabilities (setcap) that the build lacks. Run it when a container starts instead."
        )
    return "The command exists but cannot be executed. Check its mode and its interpreter (the #! line)."


def _contains(lines: Sequence[str], number: int) -> bool:
    return any(os.strerror(number).lower() in line for line in lines)


def _too_long(step: RunStep, env: Mapping[str, str]) -> str:
    """Name the string that is too long, or all of them together."""
    bound = f"Linux allows at most {(LONGEST_BYTES + 1) // _KIB} KiB in one"
    for name, value in env.items():
        if (size := len(os.fsencode(f"{name}={value}"))) > LONGEST_BYTES:
            return f"{bound} variable, and {name} has {size // _KIB} KiB. Put its value into a file."
    if (size := max(len(os.fsencode(word)) for word in step.argv)) > LONGEST_BYTES:
        return (
            f"{bound} argument, and this command has {size // _KIB} KiB. COPY it as a script, or write it as a heredoc "
            "that begins with #!/bin/sh."
        )
    return "The arguments and variables together exceed the limit of Linux. Use xargs or find -exec."


# --- not found


def _not_found(step: RunStep, output: Sequence[str]) -> str:
    program = step.argv[0]
    if any("shared librar" in line for line in output):
        return "The program exists, but a library that it needs does not. Install the library that the output names."
    script = step.script
    if script is not None and any(script.path in line and "not found" in line for line in output):
        return _interpreter(script.content.partition("\n")[0])
    if any(line.startswith(f"{OUTPUT_PREFIX}exec {program}: ") for line in output):
        if step.argv[1:2] == ("-c",):
            return f'The image has no "{program}". Write RUN ["program", "argument"], or set SHELL to its shell.'
        if "/" in program:
            return "Check that it is in the image, and so is its interpreter (#! line) or its loader (glibc, musl)."
    return "Install the command in an earlier step, or check PATH."


def _interpreter(first: str) -> str:
    """A heredoc's script itself exists, so the interpreter in its first line was not found."""
    if first.endswith("\r"):
        return "The #! line ends with a carriage return. Save the Dockerfile with Unix line endings."
    return f'The image has no interpreter "{first[2:].strip()[:_MAX_INTERPRETER]}" (#! line). Install it in an earlier step.'

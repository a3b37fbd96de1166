"""Why a command failed, beside its exit code: memory that ran out, what is not in the image, what Linux doesn't start.

No I/O. Exit codes alone say little: a shell and the sandbox both end with 126 for whatever can't be started, and with 127 for
whatever isn't there. So the words that came with them count, too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagewright.errors import Reason
from imagewright.plan.steps import RunStep
from imagewright.sandbox.kernel.memory import Counts

_SIGKILL = 128 + 9
_LAST_WORDS = 200


@dataclass(frozen=True, slots=True)
class Why:
    """What is known of a failure beside the exit code. ``words`` follow the message."""

    reason: Reason = Reason.STEP_FAILED
    words: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the kernel counted before and after."""

    before: Counts
    after: Counts

    @property
    def killed(self) -> bool | None:
        """Whether the kernel killed for want of memory; None where nobody knows: somewhere on the machine it did."""
        before, after = self.before, self.after
        if before.group is not None and after.group is not None:
            return after.group.kills > before.group.kills
        return False if before.machine_kills is not None and before.machine_kills == after.machine_kills else None


def why_failed(code: int, step: RunStep, env: Mapping[str, str], output: Sequence[str], memory: Memory) -> Why:
    """Of a command that ended with ``code``. ``env`` is what it saw, ``output`` its last lines."""
    if found := _want_of_memory(memory):
        return found
    match code:
        case 126:
            return Why(hint=_not_started(step, env, output))
        case 127:
            return Why(hint=_not_found(step, output))
        case _ if code == _SIGKILL:
            return Why(hint=_KILLED if memory.killed is None else _KILLED_BY_A_PROCESS)
        case _:
            return Why()


def why_lost(memory: Memory) -> Why:
    """Of the process that starts commands, when it is gone."""
    hint = _LOST if memory.killed is None else _LOST_TO_A_PROCESS
    return _want_of_memory(memory) or Why(Reason.SANDBOX_UNAVAILABLE, hint=hint)


# --- killed

_KILLED = "It was killed (SIGKILL): most often for want of memory; raise the container's memory limit."
_KILLED_BY_A_PROCESS = (
    "It was killed (SIGKILL), and not for want of memory: by the command itself (kill, timeout), or from outside."
)
_LOST = (
    "Memory may have run out: raise the container's memory limit. Or the command killed it, as `kill -9 -1` and `pkill` "
    "do: end processes by the number that $! gave."
)
_LOST_TO_A_PROCESS = (
    "It was not for want of memory; most likely the command killed it, as `kill -9 -1` and `pkill` do: end processes by "
    "the number that $! gave."
)


def _want_of_memory(memory: Memory) -> Why | None:
    """Whose memory it was, where the kernel killed while the command ran; with several at once, one of them."""
    after = memory.after.group
    if after is None or not memory.killed:
        return None
    if after.reached_limit:
        words = f"; the kernel killed a process at the container's memory limit of {_size(after.limit or 0)}"
        hint = "Raise the limit, or let the command use less: fewer jobs at once, say."
        return Why(Reason.OUT_OF_MEMORY, words, hint)
    bound = f" of {_size(after.limit)}" if after.limit else ""
    used = f": this container had used at most {_size(after.peak)}{bound}" if after.peak else ""
    words = f"; the kernel killed a process since the machine ran out of memory{used}"
    return Why(Reason.NODE_OUT_OF_MEMORY, words, "Try again, and request as much memory as the build needs.")


def _size(count: int) -> str:
    """In binary units, as Kubernetes writes limits."""
    return f"{count / (1 << 30):.1f}Gi" if count >= 10 << 30 else f"{count >> 20}Mi"


# --- not started

# What Linux passes to a program in one argument or variable, without the zero byte at its end (execve(2)).
LONGEST_BYTES = 32 * os.sysconf("SC_PAGE_SIZE") - 1
_KIB = 1024


def _not_started(step: RunStep, env: Mapping[str, str], output: Sequence[str]) -> str:
    said = [line.lower() for line in output]
    if _says(said, errno.E2BIG):
        return _too_long(step, env)
    if f"imagewright: {step.workdir}: ".lower() in "\n".join(said):
        return "The user that USER names must be able to enter WORKDIR: chown or chmod it in an earlier step."
    if any(line.startswith("imagewright: can't run as ") for line in said):
        return "The container lacks the capabilities SETUID and SETGID: add them, or leave USER root."
    if _says(said, errno.ENOEXEC) or any("cannot execute binary file" in line for line in said):
        return "It is a program for another architecture, or a script without a #! line."
    if _says(said, errno.EPERM):
        return (
            "The program's file has capabilities (setcap) that the build doesn't have: run it when a container starts."
        )
    return "The command was found but can't be executed: look at its mode and its interpreter (the #! line)."


def _says(lines: Sequence[str], number: int) -> bool:
    return any(os.strerror(number).lower() in line for line in lines)


def _too_long(step: RunStep, env: Mapping[str, str]) -> str:
    """Which of the strings it is; the whole of them where each is short enough."""
    bound = f"Linux passes at most {(LONGEST_BYTES + 1) // _KIB} KiB in one"
    for name, value in env.items():
        if (size := len(os.fsencode(f"{name}={value}"))) > LONGEST_BYTES:
            return f"{bound} variable, and {name} has {size // _KIB}: put its value into a file."
    if (size := max(len(os.fsencode(word)) for word in step.argv)) > LONGEST_BYTES:
        return (
            f"{bound} argument, and this command has {size // _KIB}: COPY it as a script, or write it as a heredoc "
            "whose first line is #!/bin/sh."
        )
    return "A program's arguments and variables are together more than Linux passes on: use xargs or find -exec."


# --- not found


def _not_found(step: RunStep, output: Sequence[str]) -> str:
    program = step.argv[0]
    if any("shared librar" in line for line in output):
        return "The program is there, and a library that it needs is not: install what the output names."
    script = step.script
    if script is not None and any(script.path in line and "not found" in line for line in output):
        return _interpreter(script.content.partition("\n")[0])
    if any(line.startswith(f"imagewright: exec {program}: ") for line in output):
        if step.argv[1:2] == ("-c",):
            return f'The image has no {program}: write RUN ["program", "argument"], or name its shell with SHELL.'
        if "/" in program:
            return "It is not in the image, or what starts it is not: the program in its #! line, its loader (glibc, musl)."
    return "The command was not found: install it in an earlier step, or look at PATH."


def _interpreter(first: str) -> str:
    """What was not found: a heredoc's script is there itself, so it was what its first line names."""
    if first.endswith("\r"):
        return "The Dockerfile has Windows line ends, and so has the #! line: save it with line feeds only."
    return f"What the #! line names is not in the image: {first[2:].strip()[:_LAST_WORDS]}."

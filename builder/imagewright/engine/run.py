"""Executes a RUN: who it runs as, what it sees, and what is said of it when it fails.

Runs a command in the sandbox. Called by ``engine.stage``, which finds out what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from imagewright.dockerfile.source import excerpt as source_excerpt
from imagewright.engine.events import StepStarted
from imagewright.engine.mounts import prepared
from imagewright.engine.session import Session
from imagewright.errors import Reason, StepError
from imagewright.fs import users
from imagewright.fs.rootfs import Rootfs
from imagewright.plan import Network, RunStep
from imagewright.sandbox import RunCommand
from imagewright.sandbox.memory import MemoryUse, memory_use
from imagewright.terminal import Lines

_OUTPUT_LINES_KEPT = 20
_LAST_WORDS = 200
_LINE_WIDTH = 500


def run(session: Session, step: RunStep, rootfs: Rootfs, user: users.User, started: StepStarted) -> None:
    """Run the step's command in ``rootfs``, where its work folder exists.

    Raises:
        StepError: with the exit code and the last lines of output.
        SandboxError: when it could not be started.
    """
    env = dict(step.env)
    env.setdefault("HOME", user.home)
    tail = _Tail()
    redacted = session.redaction.stream()

    def show(data: bytes) -> None:
        tail.add(data)
        session.reporter.output(started, data)

    with prepared(session, step) as extra:
        command = RunCommand(
            rootfs.path,
            step.argv,
            tuple((env | extra.env).items()),
            step.workdir,
            user.uid,
            user.gid,
            user.groups,
            tuple(extra.mounts),
            network=step.network is not Network.NONE,
        )
        before = memory_use()
        code = session.sandbox.run(command, lambda data: show(redacted.feed(data)))
        show(redacted.end())
    if code != 0:
        why = _want_of_memory(before, memory_use()) or _Why(hint=_hint(code, step, tail.lines()))
        raise StepError(
            f"{step.title!r} {_how_it_ended(code)}{tail.last_words()}{why.words}",
            exit_code=code,
            reason=why.reason,
            location=step.location,
            excerpt=_excerpt(session.lines, step, tail.lines()),
            hint=why.hint,
        )


@dataclass(frozen=True, slots=True)
class _Why:
    """What is known of a failure beside the exit code."""

    reason: Reason = Reason.STEP_FAILED
    words: str = ""
    hint: str = ""


def _want_of_memory(before: MemoryUse | None, after: MemoryUse | None) -> _Why | None:
    """Whose memory it was, where the kernel killed while the command ran; with several at once, one of them."""
    if before is None or after is None or after.kills <= before.kills:
        return None
    if after.reached_limit:
        words = f"; the kernel killed a process at the container's memory limit of {_size(after.limit or 0)}"
        return _Why(
            Reason.OUT_OF_MEMORY, words, "Raise the limit, or let the command use less: fewer jobs at once, say."
        )
    bound = f" of {_size(after.limit)}" if after.limit else ""
    used = f": this container had used at most {_size(after.peak)}{bound}" if after.peak else ""
    words = f"; the kernel killed a process since the machine ran out of memory{used}"
    return _Why(Reason.NODE_OUT_OF_MEMORY, words, "Try again, and request as much memory as the build needs.")


def _size(count: int) -> str:
    """In binary units, as Kubernetes writes limits."""
    return f"{count / (1 << 30):.1f}Gi" if count >= 10 << 30 else f"{count >> 20}Mi"


def _hint(code: int, step: RunStep, output: Sequence[str]) -> str:
    return _interpreter_hint(step, output) if code == 127 else _HINTS.get(code, "")


class _Tail:
    """The last lines of a command's output, for the error."""

    def __init__(self) -> None:
        self._output = Lines()
        self._kept: deque[str] = deque(maxlen=_OUTPUT_LINES_KEPT)

    def add(self, data: bytes) -> None:
        self._kept.extend(self._output.add(data))

    def last_words(self) -> str:
        """The last line that says something, for places that show one line only."""
        last = next((line.strip() for line in reversed(self.lines()) if line.strip()), "")
        return f": {last[:_LAST_WORDS]}" if last else ""

    def lines(self) -> list[str]:
        unfinished = self._output.unfinished()
        return [line[-_LINE_WIDTH:] for line in [*self._kept, *([unfinished] if unfinished else [])]]


_HINTS = {
    126: "The command was found but can't be executed: look at its mode and its interpreter (the #! line).",
    127: "The command was not found: install it in an earlier step, or look at PATH.",
    137: "It was killed (SIGKILL): most often for want of memory; raise the container's memory limit.",
}


def _interpreter_hint(step: RunStep, output: Sequence[str]) -> str:
    """What was not found: a heredoc's script is there itself, so it was what its first line names."""
    if step.script is None or not any(step.script.path in line and "not found" in line for line in output):
        return _HINTS[127]
    first = step.script.content.partition("\n")[0]
    if first.endswith("\r"):
        return "The Dockerfile has Windows line ends, and so has the #! line: save it with line feeds only."
    return f"What the #! line names is not in the image: {first[2:].strip()[:_LAST_WORDS]}."


def _how_it_ended(code: int) -> str:
    return f"ended with exit code {code}" + (f" (signal {code - 128})" if 128 < code < 193 else "")


def _excerpt(lines: Sequence[str], step: RunStep, output: Sequence[str]) -> list[str]:
    """The Dockerfile's lines with two around them, then the last lines of output."""
    shown = list(source_excerpt(lines, step.location, around=2))
    if output:
        shown += ["", "the last lines of its output:", *(f"    {line}" for line in output), ""]
    return shown

"""Executes a RUN: who it runs as, what it sees, and what is said of it when it fails.

Runs a command in the sandbox. Called by ``engine.stage``, which finds out what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from imagewright.dockerfile.source import excerpt as source_excerpt
from imagewright.engine.events import StepStarted
from imagewright.engine.steps.diagnosis import Memory, why_failed, why_lost
from imagewright.engine.steps.mounts import prepared
from imagewright.engine.steps.session import Session
from imagewright.errors import Reason, SandboxError, StepError
from imagewright.fs.rootfs import users
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.steps import Network, RunStep
from imagewright.sandbox.kernel.memory import counts
from imagewright.sandbox.model import RunCommand, RunnerLost
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

    root = session.build_root
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
            excluded=root.taken if root is not None else frozenset(),
        )
        before = counts()
        try:
            code = session.sandbox.run(command, lambda data: show(redacted.feed(data)))
        except RunnerLost as lost:
            why = why_lost(Memory(before, counts()))
            raise SandboxError(f"{lost.message}{why.words}", reason=why.reason, hint=why.hint) from lost
        show(redacted.end())
    if code != 0:
        why = why_failed(code, step, dict(command.env), tail.lines(), Memory(before, counts()))
        if why.reason is Reason.STEP_FAILED and root is not None and (mounted := root.hint(step, tail.lines())):
            why = replace(why, hint=mounted)
        raise StepError(
            f"{step.title!r} {_how_it_ended(code)}{tail.last_words()}{why.words}",
            exit_code=code,
            reason=why.reason,
            location=step.location,
            excerpt=_excerpt(session.lines, step, tail.lines()),
            hint=why.hint,
        )


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


def _how_it_ended(code: int) -> str:
    return f"ended with exit code {code}" + (f" (signal {code - 128})" if 128 < code < 193 else "")


def _excerpt(lines: Sequence[str], step: RunStep, output: Sequence[str]) -> list[str]:
    """The Dockerfile's lines with two around them, then the last lines of output."""
    shown = list(source_excerpt(lines, step.location, around=2))
    if output:
        shown += ["", "the last lines of its output:", *(f"    {line}" for line in output), ""]
    return shown

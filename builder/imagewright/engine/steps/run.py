"""Executes a RUN: user, environment and mounts of the command, and the error if it fails.

Runs a command in the sandbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from imagewright.dockerfile.source import excerpt as source_excerpt
from imagewright.engine.events import Reporter, StepStarted
from imagewright.engine.source.secrets import hint_of_absent
from imagewright.engine.steps.buildroot import BuildRoot
from imagewright.engine.steps.diagnosis import MemoryCounts, diagnose_exit, diagnose_lost_runner
from imagewright.engine.steps.mounts import MountSources
from imagewright.engine.steps.redaction import Redaction
from imagewright.engine.steps.runnerroot import RunnerRoot
from imagewright.errors import Reason, SandboxError, StepError
from imagewright.fs.rootfs import users
from imagewright.fs.rootfs.root import Rootfs
from imagewright.plan.steps import Network, RunStep
from imagewright.records import dataclass
from imagewright.sandbox.model import RunCommand, RunnerLost, Sandbox
from imagewright.terminal import Lines

Root = BuildRoot | RunnerRoot  # what a sandbox that needs one root for all stages builds in
_OUTPUT_LINES_KEPT = 20
_SUMMARY_LENGTH = 200
_LINE_WIDTH = 500


@dataclass(frozen=True, slots=True)
class RunExecutor:
    """Executes the RUNs of a build. ``build_root`` is where the sandbox builds, None where any folder will do."""

    sandbox: Sandbox
    mounts: MountSources
    reporter: Reporter
    redaction: Redaction
    dockerfile_lines: Sequence[str]
    build_root: Root | None = None

    def execute(self, step: RunStep, rootfs: Rootfs, user: users.User, started: StepStarted) -> None:
        """Run the step's command in ``rootfs``, where its working directory exists.

        Raises:
            StepError: with the exit code and the last lines of output.
            SandboxError: it could not be started.
        """
        env = dict(step.env)
        env.setdefault("HOME", user.home)
        tail = _Tail()
        redacted = self.redaction.stream()

        def show(data: bytes) -> None:
            tail.add(data)
            self.reporter.output(started, data)

        root = self.build_root
        with self.mounts.prepared(step) as extra:
            command = RunCommand(
                root.inside if root is not None else rootfs.path,
                step.argv,
                tuple((env | extra.env).items()),
                step.workdir,
                user.uid,
                user.gid,
                user.groups,
                tuple(extra.mounts),
                network=step.network is not Network.NONE,
                excluded=root.excluded_paths if root is not None else frozenset(),
            )
            before = self.sandbox.memory()
            try:
                code = self._run(command, lambda data: show(redacted.feed(data)))
            except RunnerLost as lost:
                diagnosis = diagnose_lost_runner(MemoryCounts(before, self.sandbox.memory()))
                raise SandboxError(
                    f"{lost.message}{diagnosis.detail}", reason=diagnosis.reason, hint=diagnosis.hint
                ) from lost
            show(redacted.end())
        if code != 0:
            diagnosis = diagnose_exit(
                code, step, dict(command.env), tail.lines(), MemoryCounts(before, self.sandbox.memory())
            )
            if (
                diagnosis.reason is Reason.STEP_FAILED
                and root is not None
                and (mounted := root.hint(step, tail.lines()))
            ):
                diagnosis = replace(diagnosis, hint=mounted)
            absent = hint_of_absent(step, self.mounts.secrets, self.mounts.agents.ids)
            hint = diagnosis.hint or (absent if diagnosis.reason is Reason.STEP_FAILED else "")
            raise StepError(
                f'"{step.title}" {_exit_status(code)}{tail.summary()}{diagnosis.detail}',
                exit_code=code,
                reason=diagnosis.reason,
                location=step.location,
                excerpt=_excerpt(self.dockerfile_lines, step, tail.lines()),
                hint=hint,
            )

    def _run(self, command: RunCommand, output: Callable[[bytes], None]) -> int:
        root = self.build_root
        if root is None:
            return self.sandbox.run(command, output)
        try:
            with root.served(command.mounts) as mounts:
                return self.sandbox.run(replace(command, mounts=tuple(mounts)), output)
        except SandboxError as error:
            if error.reason is Reason.DISK_FULL:
                error.hint = root.rootfs.full_hint  # not the work folder: the command runs elsewhere
            raise


class _Tail:
    """The last lines of a command's output, for the error."""

    def __init__(self) -> None:
        self._output = Lines()
        self._kept: deque[str] = deque(maxlen=_OUTPUT_LINES_KEPT)

    def add(self, data: bytes) -> None:
        self._kept.extend(self._output.add(data))

    def summary(self) -> str:
        """The last non-empty line, for displays of a single line."""
        last = next((line.strip() for line in reversed(self.lines()) if line.strip()), "")
        return f": {last[:_SUMMARY_LENGTH]}" if last else ""

    def lines(self) -> list[str]:
        unfinished = self._output.unfinished()
        return [line[-_LINE_WIDTH:] for line in [*self._kept, *([unfinished] if unfinished else [])]]


def _exit_status(code: int) -> str:
    return f"failed with exit code {code}" + (f" (signal {code - 128})" if 128 < code < 193 else "")


def _excerpt(lines: Sequence[str], step: RunStep, output: Sequence[str]) -> list[str]:
    """The instruction with two lines around it, then the last lines of output."""
    shown = list(source_excerpt(lines, step.location, around=2))
    if output:
        shown += ["", "last lines of output:", *(f"    {line}" for line in output), ""]
    return shown

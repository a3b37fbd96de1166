"""RUN: the command, what it sees, and how the step is recorded (Dockerfile reference, "RUN").

No I/O. Called by ``plan.stage``.
"""

from __future__ import annotations

from imagewright.dockerfile.model import Run
from imagewright.plan.frame import Frame, PlannedInstruction
from imagewright.plan.model import RunStep


def plan_run(frame: Frame, run: Run, item: PlannedInstruction) -> RunStep:
    """The step that a RUN is.

    Raises:
        DockerfileError: an expansion that can't be.
    """
    argv = frame.argv(run.command)
    arguments = [f"{name}={frame.variables.get(name, value)}" for name, value in frame.arguments.items()]
    prefix = [f"|{len(arguments)}", *arguments] if arguments else []
    created_by = f"RUN {' '.join([*prefix, *argv])} # buildkit"
    text = frame.text(run, frame.title(run), created_by, onbuild=item.onbuild)
    environment = tuple({**frame.variables, **frame.scope.proxies}.items())
    return RunStep(text, argv, environment, frame.image.user, frame.workdir)

"""RUN: the command, what it sees, and how the step is recorded (Dockerfile reference, "RUN").

No I/O. Called by ``plan.stage``.
"""

from __future__ import annotations

from imagewright.dockerfile.lexer import parse_heredoc
from imagewright.dockerfile.model import Command, Heredoc, Run, ShellForm
from imagewright.dockerfile.source import did_you_mean
from imagewright.plan.mounts import plan_mounts
from imagewright.plan.scope import PlannedInstruction, StageScope
from imagewright.plan.steps import Network, RunStep, Script

_SCRIPTS = "/dev/pipes"  # BuildKit's place for them


def plan_run(scope: StageScope, run: Run, item: PlannedInstruction) -> RunStep:
    """The step that a RUN is.

    Raises:
        DockerfileError: an expansion that can't be, a mount or network that is none.
        UnsupportedError: a privilege that is asked for.
    """
    _refuse_privilege(scope, run)
    command, script = _with_heredocs(run)
    argv = scope.argv(command)
    arguments = [f"{name}={scope.variables.get(name, value)}" for name, value in scope.arguments.items()]
    prefix = [f"|{len(arguments)}", *arguments] if arguments else []
    created_by = f"RUN {' '.join([*prefix, *argv])} # buildkit"
    note = f" ({_summary(run.heredocs[0])})" if command != run.command and len(run.heredocs) == 1 else ""
    proxies = scope.build.proxies
    environment = tuple({**scope.variables, **proxies}.items())
    mounts = plan_mounts(scope, run, item.origins)
    network = _network(scope, run)
    text = scope.text(item, created_by, note)
    return RunStep(
        text, argv, environment, scope.image.user, scope.workdir, mounts, network, script, frozenset(proxies)
    )


def _refuse_privilege(scope: StageScope, run: Run) -> None:
    """Builds have no privilege by design, so there is none to hand on.

    Raises:
        UnsupportedError: for --security=insecure and --device.
    """
    source, place = scope.build.source, run.location
    if run.security.lower() not in ("", "sandbox", "insecure"):
        hint = "Leave the flag out: sandbox is what every RUN has."
        raise scope.error(run, f"--security={run.security} is not known", f"--security={run.security}", hint)
    if run.security.lower() == "insecure":
        hint = "Leave it out. If the command needs a privilege, run it when a container of the image starts."
        message = "RUN --security=insecure is refused: a build has no privilege, so there is none to give"
        raise source.unsupported(message, place, word=f"--security={run.security}", hint=hint)
    if run.devices:
        hint = "Leave it out. A command that needs a device can be run when a container of the image starts."
        message = f"RUN --device={run.devices[0]} is refused: a build sees no device of its machine"
        raise source.unsupported(message, place, word=f"--device={run.devices[0]}", hint=hint)


def _network(scope: StageScope, run: Run) -> Network:
    name = run.network.lower() or Network.DEFAULT
    if name not in set(Network):
        hint = did_you_mean(name, Network, f"Write one of {', '.join(Network)}.")
        raise scope.error(run, f"--network={run.network} is not known", f"--network={run.network}", hint)
    return Network(name)


def _with_heredocs(run: Run) -> tuple[Command, Script | None]:
    """What the shell is given, and the file that has to be there for it.

    ``RUN <<EOF`` runs the body itself, as a script of its own where it begins with ``#!``. Where the heredoc is one word
    among others, the shell reads it. Whether its name is quoted makes no difference: expansion is the shell's.
    """
    if not run.heredocs or not isinstance(run.command, ShellForm):
        return run.command, None
    first = run.heredocs[0]
    alone = parse_heredoc(run.command.line.strip())
    if alone is None:
        bodies = "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in run.heredocs)
        return ShellForm(run.command.line + bodies), None
    body = first.content
    if not body.startswith("#!"):
        return ShellForm(body), None
    path = f"{_SCRIPTS}/{first.name}"
    return ShellForm(path), Script(path, body)


def _summary(heredoc: Heredoc) -> str:
    """The first line, for the step's title."""
    first, *rest = heredoc.body.strip().splitlines() or [""]
    return first + ("..." if rest else "")

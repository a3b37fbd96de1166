"""Plans RUN: the command, its environment and mounts, and its history entry (Dockerfile reference, "RUN").

No I/O.
"""

from __future__ import annotations

from imagewright.dockerfile.lexer import parse_heredoc
from imagewright.dockerfile.model import Command, Heredoc, Run, ShellForm
from imagewright.dockerfile.source import did_you_mean
from imagewright.plan.mounts import plan_mounts
from imagewright.plan.scope import PlannedInstruction, StageScope
from imagewright.plan.steps import Network, RunStep, Script

_SCRIPTS = "/dev/pipes"  # as in BuildKit


def plan_run(scope: StageScope, run: Run, item: PlannedInstruction) -> RunStep:
    """The step of a RUN.

    Raises:
        DockerfileError: an invalid expansion, mount or network.
        UnsupportedError: a request for privileges.
    """
    _refuse_privilege(scope, run)
    command, script = _with_heredocs(run)
    argv = scope.argv(command)
    arguments = [f"{name}={scope.variables.get(name, value)}" for name, value in scope.arguments.items()]
    prefix = [f"|{len(arguments)}", *arguments] if arguments else []
    created_by = f"RUN {' '.join([*prefix, *argv])} # buildkit"
    note = f" ({_summary(run.heredocs[0])})" if command != run.command and len(run.heredocs) == 1 else ""
    environment = scope.environment(run)
    mounts = plan_mounts(scope, run, item.origins)
    network = _network(scope, run)
    text = scope.text(item, created_by, note)
    return RunStep(
        text,
        argv,
        environment,
        scope.image.user,
        scope.workdir,
        mounts,
        network,
        script,
        frozenset(scope.build.proxies),
    )


def _refuse_privilege(scope: StageScope, run: Run) -> None:
    """Refuse flags that request privileges, which builds don't have by design.

    Raises:
        UnsupportedError: for --security=insecure and --device.
    """
    source, place = scope.build.source, run.location
    if run.security.lower() not in ("", "sandbox", "insecure"):
        hint = "Remove it: every RUN is in a sandbox."
        raise scope.error(run, f'invalid --security value "{run.security}"', f"--security={run.security}", hint)
    if run.security.lower() == "insecure":
        hint = "Remove it. Run a command that needs privileges when a container of the image starts."
        message = "RUN --security=insecure is not supported: builds run without privileges"
        raise source.unsupported(message, place, word=f"--security={run.security}", hint=hint)
    if run.devices:
        hint = "Remove it. Run a command that needs a device when a container of the image starts."
        message = f"RUN --device={run.devices[0]} is not supported: builds have no access to devices"
        raise source.unsupported(message, place, word=f"--device={run.devices[0]}", hint=hint)


def _network(scope: StageScope, run: Run) -> Network:
    name = run.network.lower() or Network.DEFAULT
    if name not in set(Network):
        hint = did_you_mean(name, Network, f"Use one of {', '.join(Network)}.")
        raise scope.error(run, f'invalid --network value "{run.network}"', f"--network={run.network}", hint)
    return Network(name)


def _with_heredocs(run: Run) -> tuple[Command, Script | None]:
    """The command for the shell, and the script file that it needs.

    ``RUN <<EOF`` runs the body itself, as a script file if it begins with ``#!``. If there are other words, the shell
    reads the heredoc. Quotes around the name make no difference: the shell expands variables.
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
    """The first line, for the title of the step."""
    first, *rest = heredoc.body.strip().splitlines() or [""]
    return first + ("..." if rest else "")

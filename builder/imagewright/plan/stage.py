"""One stage: its instructions, with the values of ARG and ENV as they are at each, become steps and a configuration.

No I/O. Called by ``plan.resolve``, for needed stages in the file's order.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from imagewright.dockerfile.duration import format_duration
from imagewright.dockerfile.expand import Expansion, ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    DockerfileWarning,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Located,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from imagewright.dockerfile.source import SourceText, nearest
from imagewright.errors import DockerfileError, UnsupportedError
from imagewright.oci.config import ImageConfig
from imagewright.plan import paths
from imagewright.plan.gotext import plain_list, quote_list
from imagewright.plan.imagedata import ImageData
from imagewright.plan.model import ContextOrigin, CopyStep, MetadataStep, Origin, RunStep, Step, StepText, WorkdirStep
from imagewright.plan.ports import PortError, parse_ports
from imagewright.plan.support import check_instruction, check_sources

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OCTAL = re.compile(r"0*[0-7]{1,4}")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")
_SIGNALS = frozenset(s.name.removeprefix("SIG") for s in signal.Signals) | {
    *(f"RTMIN+{n}" for n in range(1, 16)),
    *(f"RTMAX-{n}" for n in range(1, 15)),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What all stages of a build share."""

    source: SourceText
    escape: str
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    proxies: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlannedInstruction:
    """An instruction that will be executed; ``origin`` is where COPY reads, ``onbuild`` that a trigger brought it."""

    instruction: Instruction
    origin: Origin = field(default_factory=ContextOrigin)
    onbuild: bool = False


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage's steps and configuration, and what a stage that is built on it inherits beside them."""

    steps: tuple[Step, ...]
    config: ImageConfig
    variables: Mapping[str, str]
    arguments: Mapping[str, str]
    warnings: tuple[DockerfileWarning, ...]


def plan_stage(
    scope: Scope, base: ImageConfig, inherited: FinishedStage | None, instructions: Iterable[PlannedInstruction]
) -> FinishedStage:
    """Plan one stage. ``inherited`` is the stage it is built on, None for an image or scratch.

    Raises:
        DockerfileError: an expansion, port, signal or mode that can't be.
        UnsupportedError: what this version does not do.
    """
    planner = _StagePlanner(scope, base, inherited)
    for item in instructions:
        planner.plan(item)
    return planner.finish()


class _StagePlanner:
    """The state of a stage between two instructions.

    ``_variables`` is what expansion and commands see: ARG and ENV in one list, so that the later of the two wins.
    """

    def __init__(self, scope: Scope, base: ImageConfig, inherited: FinishedStage | None) -> None:
        self._scope = scope
        self._image = ImageData(base)
        self._variables = dict(inherited.variables) if inherited else {}
        self._variables |= self._image.env
        self._arguments = dict(inherited.arguments) if inherited else {}
        if self._image.workdir:
            self._image.set("WorkingDir", paths.clean(self._image.workdir))
        self._cmd_is_own = False
        self._steps: list[Step] = []
        self._warnings: list[DockerfileWarning] = []
        self._options = ExpansionOptions(escape=scope.escape)

    def finish(self) -> FinishedStage:
        return FinishedStage(
            tuple(self._steps),
            self._image.finish(),
            self._variables,
            self._arguments,
            tuple(self._warnings),
        )

    def plan(self, item: PlannedInstruction) -> None:
        try:
            self._plan(item)
        except (DockerfileError, UnsupportedError) as error:
            if item.onbuild:  # the line that is shown is the FROM, so the message must say what it is about
                error.message = f"the base's ONBUILD trigger {item.instruction.source[:120]!r}: {error.message}"
                error.args = (error.message,)
            raise

    def _plan(self, item: PlannedInstruction) -> None:
        instruction = item.instruction
        check_instruction(instruction, self._scope.source)
        match instruction:
            case Run():
                self._run(instruction, item.onbuild)
            case Copy() | Add():
                self._copy(instruction, item)
            case Workdir():
                self._workdir(instruction, item.onbuild)
            case Onbuild():
                self._image.add_trigger(instruction.trigger)  # BuildKit gives it no history entry
            case _:
                created_by = self._metadata(instruction)
                self._steps.append(MetadataStep(self._text(instruction, instruction.source, created_by, item.onbuild)))

    def _text(self, instruction: Located, title: str, created_by: str, onbuild: bool) -> StepText:
        name, _, rest = title.partition(" ")
        shown = f"{'ONBUILD ' if onbuild else ''}{name.upper()} {rest}".strip()
        return StepText(shown, created_by, instruction.source, instruction.location, onbuild)

    def _title(self, instruction: Located) -> str:
        """The instruction with its variables expanded; as written where they can't be."""
        options = ExpansionOptions(self._scope.escape, raw_quotes=True, raw_escapes=True, keep_unset=True)
        try:
            return expand(instruction.source, self._variables, options).text
        except ExpansionError:
            return instruction.source

    # --- instructions that change files

    def _run(self, run: Run, onbuild: bool) -> None:
        argv = self._argv(run.command)
        arguments = [f"{name}={self._variables.get(name, value)}" for name, value in self._arguments.items()]
        prefix = [f"|{len(arguments)}", *arguments] if arguments else []
        created_by = f"RUN {' '.join([*prefix, *argv])} # buildkit"
        text = self._text(run, self._title(run), created_by, onbuild)
        environment = tuple({**self._variables, **self._scope.proxies}.items())
        self._steps.append(RunStep(text, argv, environment, self._image.user, self._image.workdir or "/"))

    def _argv(self, command: Command) -> tuple[str, ...]:
        return command.argv if isinstance(command, ExecForm) else (*self._image.shell, command.line)

    def _copy(self, instruction: Copy | Add, item: PlannedInstruction) -> None:
        sources = tuple(self._expand(instruction, source) for source in instruction.sources)
        check_sources(instruction, sources, self._scope.source)
        for written, path in zip(instruction.sources, sources, strict=True):
            if not path:
                raise self._error(instruction, f"the source {written} is empty", written)
        destination = self._expand(instruction, instruction.destination)
        chown = self._expand(instruction, instruction.chown)
        chmod = self._expand(instruction, instruction.chmod)
        self._check_mode(instruction, chmod)
        name = type(instruction).__name__.upper()
        flags = [f"--chown={chown}"] if chown else []
        flags += [f"--chmod={chmod}"] if chmod else []
        created_by = " ".join([name, *flags, *sources, destination, "# buildkit"])
        extract = isinstance(instruction, Add) and instruction.unpack is not False
        self._steps.append(
            CopyStep(
                self._text(instruction, self._title(instruction), created_by, item.onbuild),
                tuple(paths.source(path) for path in sources),
                paths.destination(self._image.workdir, destination),
                item.origin,
                chown,
                chmod,
                extract,
            )
        )

    def _check_mode(self, instruction: Located, chmod: str) -> None:
        if chmod and not _OCTAL.fullmatch(chmod) and not _SYMBOLIC.fullmatch(chmod):
            hint = "Write an octal mode up to 7777, as in --chmod=755, or a symbolic one, as in --chmod=u+x,go=r."
            raise self._error(instruction, f"--chmod={chmod} is no file mode", chmod, hint)

    def _workdir(self, workdir: Workdir, onbuild: bool) -> None:
        path = self._expand(workdir, workdir.path)
        if not path:
            raise self._error(workdir, f"WORKDIR {workdir.path} is empty", workdir.path)
        path = paths.resolve(self._image.workdir, path)
        self._image.set("WorkingDir", path)
        text = self._text(workdir, self._title(workdir), f"WORKDIR {path}", onbuild)
        self._steps.append(MetadataStep(text) if path == "/" else WorkdirStep(text, path, self._image.user))

    # --- instructions that change the configuration only: each returns its history entry

    def _metadata(self, instruction: Instruction) -> str:
        image = self._image
        match instruction:
            case Arg():
                return self._arg(instruction)
            case Env():
                return self._pairs(instruction, "ENV", instruction.pairs, self._set_env)
            case Label():
                return self._pairs(instruction, "LABEL", instruction.pairs, image.add_label)
            case User():
                image.set("User", self._expand(instruction, instruction.user))
                return f"USER {image.user}"
            case Expose():
                return self._expose(instruction)
            case Volume():
                return self._volume(instruction)
            case Cmd():
                argv = self._argv(instruction.command)
                image.set("Cmd", list(argv))
                image.set("ArgsEscaped", True)
                self._cmd_is_own = True
                return f"CMD {quote_list(argv)}"
            case Entrypoint():
                return self._entrypoint(instruction)
            case Shell():
                image.set("Shell", list(instruction.argv))
                return f"SHELL {plain_list(instruction.argv)}"
            case StopSignal():
                return self._stop_signal(instruction)
            case Maintainer():
                image.author = instruction.name
                return f"MAINTAINER {instruction.name}"
            case Healthcheck():
                return self._healthcheck(instruction)
            case Run() | Copy() | Add() | Workdir() | Onbuild():
                raise AssertionError("planned by its own method")

    def _arg(self, arg: Arg) -> str:
        shown: list[str] = []
        for item in arg.items:
            name = self._expand(arg, item.name)
            value: str | None
            if name in self._scope.build_args:
                value = self._scope.build_args[name]
            elif item.value is not None:
                value = self._expand(arg, item.value)
            else:
                value = self._scope.global_args.get(name)
            if value is not None:
                self._variables[name] = value
            self._arguments[name] = value or ""
            shown.append(name if value is None else f"{name}={value}")
        return f"ARG {' '.join(shown)}"

    def _pairs(self, instruction: Located, name: str, pairs: Iterable[Pair], assign: Callable[[str, str], None]) -> str:
        """All values see the state before the instruction, so they are expanded before the first is assigned."""
        expanded = [(self._expand(instruction, p.key), self._expand(instruction, p.value)) for p in pairs]
        for key, value in expanded:
            if not key:
                raise self._error(instruction, f"{name}: a name is empty", "")
            assign(key, value)
        return " ".join([name, *(f"{key}={value}" for key, value in expanded)])

    def _set_env(self, key: str, value: str) -> None:
        self._image.set_env(key, value)
        self._variables[key] = value

    def _expose(self, expose: Expose) -> str:
        ports: list[str] = []
        for written in expose.ports:
            for word in self._expansion(expose, written).words:
                try:
                    ports.extend(parse_ports(word))
                except PortError as error:
                    raise self._error(
                        expose, f"EXPOSE {word}: {error}", written, "Write EXPOSE 8080 or EXPOSE 53/udp."
                    ) from error
        self._image.add("ExposedPorts", tuple(ports))
        return f"EXPOSE {plain_list(ports)}"

    def _volume(self, volume: Volume) -> str:
        expanded = tuple(self._expand(volume, path) for path in volume.paths)
        for written, path in zip(volume.paths, expanded, strict=True):
            if not path:
                raise self._error(volume, f"VOLUME {written} is empty", written)
        self._image.add("Volumes", expanded)
        return f"VOLUME {plain_list(expanded)}"

    def _entrypoint(self, entrypoint: Entrypoint) -> str:
        argv = self._argv(entrypoint.command)
        self._image.set("Entrypoint", list(argv))
        if not self._cmd_is_own:
            self._image.set("Cmd", None)  # an inherited CMD was meant for another program
        return f"ENTRYPOINT {quote_list(argv)}"

    def _stop_signal(self, instruction: StopSignal) -> str:
        text = self._expand(instruction, instruction.signal)
        number = text.isascii() and text.isdigit() and 0 < int(text[:9]) <= signal.NSIG
        name = text.upper().removeprefix("SIG")
        if not number and name not in _SIGNALS:
            near = nearest(name, _SIGNALS)
            hint = f"Did you mean SIG{near}?" if near else "Write a name such as SIGTERM, or a number."
            raise self._error(instruction, f"STOPSIGNAL {text}: there is no such signal", instruction.signal, hint)
        self._image.set("StopSignal", text)
        return f"STOPSIGNAL {text}"

    def _healthcheck(self, check: Healthcheck) -> str:
        match check.command:
            case None:
                test = ["NONE"]
            case ExecForm(argv):
                test = ["CMD", *argv]
            case command:
                test = ["CMD-SHELL", command.line]
        times = {
            "Interval": check.interval_ns,
            "Timeout": check.timeout_ns,
            "StartPeriod": check.start_period_ns,
            "StartInterval": check.start_interval_ns,
        }
        numbers = {key: value for key, value in (times | {"Retries": check.retries}).items() if value}
        self._image.set("Healthcheck", {"Test": test} | numbers)
        shown = " ".join(f"{key}:{format_duration(value)}" for key, value in times.items())
        return f"HEALTHCHECK {{Test:{plain_list(test)} {shown} Retries:{check.retries}}}"

    # --- expansion

    def _expand(self, instruction: Located, word: str) -> str:
        return self._expansion(instruction, word).text

    def _expansion(self, instruction: Located, word: str) -> Expansion:
        try:
            expansion = expand(word, self._variables, self._options)
        except ExpansionError as error:
            raise self._error(instruction, f"can't expand {word[:100]}: {error}", word) from error
        for name in expansion.unset:
            self._warn_undefined(instruction, name)
        return expansion

    def _warn_undefined(self, instruction: Located, name: str) -> None:
        if name in self._arguments or not _NAME.fullmatch(name):
            return
        near = nearest(name, [*self._variables, *self._arguments])
        message = f"${name} is not defined{f'; did you mean ${near}?' if near else ''}"
        place = self._scope.source.narrow(instruction.location, f"${name}")
        if place == instruction.location:
            place = self._scope.source.narrow(instruction.location, f"${{{name}")
        self._warnings.append(DockerfileWarning("UndefinedVar", message, place))

    def _error(self, instruction: Located, message: str, word: str, hint: str = "") -> DockerfileError:
        return self._scope.source.error(message, instruction.location, word=word, hint=hint)

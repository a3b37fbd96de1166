"""Plans the instructions that change only the image configuration, and returns their history entries.

No I/O.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from imagewright.dockerfile.duration import format_duration
from imagewright.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Copy,
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
from imagewright.dockerfile.source import nearest
from imagewright.plan.gotext import plain_list, quote_list
from imagewright.plan.ports import PortError, parse_ports
from imagewright.plan.scope import PER_VALUE, StageScope

_SIGNALS = frozenset(s.name.removeprefix("SIG") for s in signal.Signals) | {
    *(f"RTMIN+{n}" for n in range(1, 16)),
    *(f"RTMAX-{n}" for n in range(1, 15)),
}


def plan_metadata(scope: StageScope, instruction: Instruction) -> str:
    image = scope.image
    match instruction:
        case Arg():
            return _arg(scope, instruction)
        case Env():
            return _pairs(scope, instruction, "ENV", instruction.pairs, scope.set_env)
        case Label():
            return _pairs(scope, instruction, "LABEL", instruction.pairs, image.add_label)
        case User():
            image.set("User", scope.expand(instruction, instruction.user))
            return f"USER {image.user}"
        case Expose():
            return _expose(scope, instruction)
        case Volume():
            return _volume(scope, instruction)
        case Cmd():
            argv = scope.argv(instruction.command)
            image.set("Cmd", list(argv))
            image.set("ArgsEscaped", True)
            scope.has_own_cmd = True
            return f"CMD {quote_list(argv)}"
        case Entrypoint():
            return _entrypoint(scope, instruction)
        case Shell():
            image.set("Shell", list(instruction.argv))
            return f"SHELL {plain_list(instruction.argv)}"
        case StopSignal():
            return _stop_signal(scope, instruction)
        case Maintainer():
            image.author = instruction.name
            return f"MAINTAINER {instruction.name}"
        case Healthcheck():
            return _healthcheck(scope, instruction)
        case Run() | Copy() | Add() | Workdir() | Onbuild():
            raise AssertionError("not a metadata instruction")


def _arg(scope: StageScope, arg: Arg) -> str:
    shown: list[str] = []
    for item in arg.items:
        name = scope.expand(arg, item.name)
        value: str | None
        if name in scope.build.build_args:
            value = scope.build.build_args[name]
        elif item.value is not None:
            value = scope.expand(arg, item.value)
        else:
            value = scope.build.global_args.get(name)
        if value is not None:
            scope.variables[name] = value
        scope.arguments[name] = value or ""
        shown.append(name if value is None else f"{name}={value}")
    return f"ARG {' '.join(shown)}"


def _pairs(
    scope: StageScope, instruction: Located, name: str, pairs: Iterable[Pair], assign: Callable[[str, str], None]
) -> str:
    """All values are expanded before the first is assigned: they see the variables before the instruction."""
    expanded = [(scope.expand(instruction, p.key), scope.expand(instruction, p.value)) for p in pairs]
    for key, value in expanded:
        if not key:
            raise scope.error(instruction, f"{name} name is empty", "")
        assign(key, value)
    return " ".join([name, *(f"{key}={value}" for key, value in expanded)])


def _expose(scope: StageScope, expose: Expose) -> str:
    ports: list[str] = []
    for written in expose.ports:
        for word in scope.expansion(expose, written).words:
            _check_port_format(scope, expose, word, written)
            try:
                numbers = parse_ports(word)
            except PortError as error:
                raise scope.error(
                    expose,
                    f'invalid EXPOSE argument "{written}": {error}',
                    written,
                    "Use EXPOSE 8080 or EXPOSE 53/udp.",
                ) from error
            scope.spend(expose, PER_VALUE * len(numbers))
            ports.extend(numbers)
    scope.image.add("ExposedPorts", tuple(ports))
    return f"EXPOSE {plain_list(ports)}"


def _check_port_format(scope: StageScope, expose: Expose, word: str, written: str) -> None:
    host, _, container = word.rpartition(":")
    protocol = container.partition("/")[2]
    if protocol != protocol.lower():
        message = f"Defined protocol '{written}' in EXPOSE instruction should be lowercase"
        scope.warn("ExposeProtoCasing", message, expose, written)
    if host:
        message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{written}'"
        scope.warn("ExposeInvalidFormat", message, expose, written)


def _volume(scope: StageScope, volume: Volume) -> str:
    expanded = tuple(scope.expand(volume, path) for path in volume.paths)
    for written, path in zip(volume.paths, expanded, strict=True):
        if not path:
            raise scope.error(volume, f'VOLUME path is empty: "{written}" expands to nothing', written)
    scope.image.add("Volumes", expanded)
    return f"VOLUME {plain_list(expanded)}"


def _entrypoint(scope: StageScope, entrypoint: Entrypoint) -> str:
    argv = scope.argv(entrypoint.command)
    scope.image.set("Entrypoint", list(argv))
    if not scope.has_own_cmd:
        scope.image.set("Cmd", None)  # an inherited CMD belongs to another ENTRYPOINT
    return f"ENTRYPOINT {quote_list(argv)}"


def _stop_signal(scope: StageScope, instruction: StopSignal) -> str:
    text = scope.expand(instruction, instruction.signal)
    number = text.isascii() and text.isdigit() and 0 < int(text[:9]) <= signal.NSIG
    name = text.upper().removeprefix("SIG")
    if not number and name not in _SIGNALS:
        near = nearest(name, _SIGNALS)
        hint = f"Did you mean SIG{near}?" if near else "Use a name such as SIGTERM, or a number."
        raise scope.error(instruction, f'unknown signal "{instruction.signal}" in STOPSIGNAL', instruction.signal, hint)
    scope.image.set("StopSignal", text)
    return f"STOPSIGNAL {text}"


def _healthcheck(scope: StageScope, check: Healthcheck) -> str:
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
    scope.image.set("Healthcheck", {"Test": test} | numbers)
    shown = " ".join(f"{key}:{format_duration(value)}" for key, value in times.items())
    return f"HEALTHCHECK {{Test:{plain_list(test)} {shown} Retries:{check.retries}}}"

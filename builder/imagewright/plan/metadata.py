"""The instructions that change the image's configuration only; each gives its history entry.

No I/O. Called by ``plan.stage``.
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
from imagewright.plan.frame import Frame
from imagewright.plan.gotext import plain_list, quote_list
from imagewright.plan.ports import PortError, parse_ports

_SIGNALS = frozenset(s.name.removeprefix("SIG") for s in signal.Signals) | {
    *(f"RTMIN+{n}" for n in range(1, 16)),
    *(f"RTMAX-{n}" for n in range(1, 15)),
}


def plan_metadata(frame: Frame, instruction: Instruction) -> str:
    image = frame.image
    match instruction:
        case Arg():
            return _arg(frame, instruction)
        case Env():
            return _pairs(frame, instruction, "ENV", instruction.pairs, frame.set_env)
        case Label():
            return _pairs(frame, instruction, "LABEL", instruction.pairs, image.add_label)
        case User():
            image.set("User", frame.expand(instruction, instruction.user))
            return f"USER {image.user}"
        case Expose():
            return _expose(frame, instruction)
        case Volume():
            return _volume(frame, instruction)
        case Cmd():
            argv = frame.argv(instruction.command)
            image.set("Cmd", list(argv))
            image.set("ArgsEscaped", True)
            frame.cmd_is_own = True
            return f"CMD {quote_list(argv)}"
        case Entrypoint():
            return _entrypoint(frame, instruction)
        case Shell():
            image.set("Shell", list(instruction.argv))
            return f"SHELL {plain_list(instruction.argv)}"
        case StopSignal():
            return _stop_signal(frame, instruction)
        case Maintainer():
            image.author = instruction.name
            return f"MAINTAINER {instruction.name}"
        case Healthcheck():
            return _healthcheck(frame, instruction)
        case Run() | Copy() | Add() | Workdir() | Onbuild():
            raise AssertionError("planned by its own method")


def _arg(frame: Frame, arg: Arg) -> str:
    shown: list[str] = []
    for item in arg.items:
        name = frame.expand(arg, item.name)
        value: str | None
        if name in frame.scope.build_args:
            value = frame.scope.build_args[name]
        elif item.value is not None:
            value = frame.expand(arg, item.value)
        else:
            value = frame.scope.global_args.get(name)
        if value is not None:
            frame.variables[name] = value
        frame.arguments[name] = value or ""
        shown.append(name if value is None else f"{name}={value}")
    return f"ARG {' '.join(shown)}"


def _pairs(
    frame: Frame, instruction: Located, name: str, pairs: Iterable[Pair], assign: Callable[[str, str], None]
) -> str:
    """All values see the state before the instruction, so they are expanded before the first is assigned."""
    expanded = [(frame.expand(instruction, p.key), frame.expand(instruction, p.value)) for p in pairs]
    for key, value in expanded:
        if not key:
            raise frame.error(instruction, f"{name}: a name is empty", "")
        assign(key, value)
    return " ".join([name, *(f"{key}={value}" for key, value in expanded)])


def _expose(frame: Frame, expose: Expose) -> str:
    ports: list[str] = []
    for written in expose.ports:
        for word in frame.expansion(expose, written).words:
            _warn_of_port(frame, expose, word, written)
            try:
                ports.extend(parse_ports(word))
            except PortError as error:
                raise frame.error(
                    expose, f"EXPOSE {written}: {error}", written, "Write EXPOSE 8080 or EXPOSE 53/udp."
                ) from error
    frame.image.add("ExposedPorts", tuple(ports))
    return f"EXPOSE {plain_list(ports)}"


def _warn_of_port(frame: Frame, expose: Expose, word: str, written: str) -> None:
    host, _, container = word.rpartition(":")
    protocol = container.partition("/")[2]
    if protocol != protocol.lower():
        message = f"Defined protocol '{written}' in EXPOSE instruction should be lowercase"
        frame.warn("ExposeProtoCasing", message, expose, written)
    if host:
        message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{written}'"
        frame.warn("ExposeInvalidFormat", message, expose, written)


def _volume(frame: Frame, volume: Volume) -> str:
    expanded = tuple(frame.expand(volume, path) for path in volume.paths)
    for written, path in zip(volume.paths, expanded, strict=True):
        if not path:
            raise frame.error(volume, f"VOLUME {written} is empty", written)
    frame.image.add("Volumes", expanded)
    return f"VOLUME {plain_list(expanded)}"


def _entrypoint(frame: Frame, entrypoint: Entrypoint) -> str:
    argv = frame.argv(entrypoint.command)
    frame.image.set("Entrypoint", list(argv))
    if not frame.cmd_is_own:
        frame.image.set("Cmd", None)  # an inherited CMD was meant for another program
    return f"ENTRYPOINT {quote_list(argv)}"


def _stop_signal(frame: Frame, instruction: StopSignal) -> str:
    text = frame.expand(instruction, instruction.signal)
    number = text.isascii() and text.isdigit() and 0 < int(text[:9]) <= signal.NSIG
    name = text.upper().removeprefix("SIG")
    if not number and name not in _SIGNALS:
        near = nearest(name, _SIGNALS)
        hint = f"Did you mean SIG{near}?" if near else "Write a name such as SIGTERM, or a number."
        raise frame.error(
            instruction, f"STOPSIGNAL {instruction.signal}: there is no such signal", instruction.signal, hint
        )
    frame.image.set("StopSignal", text)
    return f"STOPSIGNAL {text}"


def _healthcheck(frame: Frame, check: Healthcheck) -> str:
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
    frame.image.set("Healthcheck", {"Test": test} | numbers)
    shown = " ".join(f"{key}:{format_duration(value)}" for key, value in times.items())
    return f"HEALTHCHECK {{Test:{plain_list(test)} {shown} Retries:{check.retries}}}"

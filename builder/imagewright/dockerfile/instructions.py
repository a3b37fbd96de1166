"""Parses one logical line into one instruction; each instruction of the Dockerfile reference has its function here.

No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from imagewright.dockerfile.flags import Flag, flags_of_instruction, read_flags
from imagewright.dockerfile.lexer import parse_heredoc
from imagewright.dockerfile.model import (
    Add,
    Arg,
    ArgItem,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    Shell,
    ShellForm,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from imagewright.dockerfile.source import SourceText, did_you_mean
from imagewright.dockerfile.words import WordsError, parse_json, split_flags, split_name, split_quoted, split_white
from imagewright.errors import DockerfileError, Location
from imagewright.records import dataclass

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_NEVER_IN_ONBUILD = {
    "ONBUILD": "ONBUILD cannot be chained",
    "FROM": "FROM is not allowed as an ONBUILD trigger",
    "MAINTAINER": "MAINTAINER is not allowed as an ONBUILD trigger",
}


@dataclass(frozen=True, slots=True)
class RawInstruction:
    """A logical line with its location, ready to be parsed. ``shown`` is the line as messages show it."""

    source: SourceText
    location: Location
    text: str
    shown: str
    heredocs: tuple[Heredoc, ...]
    escape: str


@dataclass(frozen=True, slots=True)
class _Line:
    """A RawInstruction in parts: name in upper case, the fields that its flags set, and the rest."""

    raw: RawInstruction
    name: str
    flags: Mapping[str, Any]
    rest: str

    @property
    def at(self) -> tuple[Location, str, str]:
        """The first fields of every instruction."""
        return self.raw.location, self.raw.text.strip(), self.raw.shown

    def error(self, message: str, *, word: str = "", hint: str = "") -> DockerfileError:
        return self.raw.source.error(message, self.raw.location, word=word, hint=hint)

    def require(self, example: str) -> str:
        """The rest, which must not be empty."""
        if not self.rest:
            raise self.error(f"{self.name} needs an argument", hint=f"Use {example}.")
        return self.rest

    def array(self) -> tuple[str, ...] | None:
        """The rest as a JSON array of strings, None if it is not an array."""
        try:
            return parse_json(self.rest)
        except WordsError as error:
            hint = "Put every element in double quotes."
            raise self.error(f"invalid {self.name}: {error}", word=self.rest[:40], hint=hint) from error


def read_instruction(raw: RawInstruction) -> From | Instruction:
    """Parse one instruction.

    Raises:
        DockerfileError: with the location and a hint.
    """
    word, rest = split_name(raw.text)
    name = word.upper()
    reader = INSTRUCTIONS.get(name)
    if reader is None:
        hint = did_you_mean(name, INSTRUCTIONS, f"Use one of {', '.join(sorted(INSTRUCTIONS))}.")
        raise raw.source.error(f"unknown instruction {word[:40]}", raw.location, word=word, hint=hint)
    _refuse_unprintable(raw)
    words, rest = split_flags(rest)
    return reader(_Line(raw, name, read_flags(name, FLAGS, words, raw.source, raw.location), rest))


def _refuse_unprintable(raw: RawInstruction) -> None:
    """Refuse characters that neither a command line nor an image configuration can contain."""
    whole = raw.text + "".join(h.body for h in raw.heredocs)
    if "\0" in whole:
        raise raw.source.error("the instruction contains a null byte", raw.location)
    if not whole.isascii() and any("\udc80" <= c <= "\udcff" for c in whole):
        hint = "Save the Dockerfile as UTF-8."
        raise raw.source.error("the instruction is not valid UTF-8", raw.location, hint=hint)


def _from(line: _Line) -> From:
    words = split_white(line.require("FROM image"))
    match words:
        case (image,):
            return From(*line.at, image, **line.flags)
        case (image, keyword, written) if keyword.upper() == "AS":
            name = written.lower()
            if not _STAGE_NAME.fullmatch(name):
                hint = "Use a letter followed by letters, digits, '.', '_' or '-'."
                raise line.error(f'invalid stage name "{written}"', word=written, hint=hint)
            return From(*line.at, image, name, **line.flags)
        case (_, keyword, _):
            raise line.error(
                f'unexpected "{keyword}" in FROM: expected AS', word=keyword, hint="Use FROM image AS name."
            )
        case _:
            extra = words[1] if len(words) > 1 else ""
            raise line.error("FROM requires either one or three arguments", word=extra, hint="Use FROM image AS name.")


def _arg(line: _Line) -> Arg:
    items: list[ArgItem] = []
    for word in split_quoted(line.require("ARG name or ARG name=default"), line.raw.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise line.error("ARG name is empty", word=word, hint="Use ARG name=default.")
        items.append(ArgItem(name, value if equals else None))
    return Arg(*line.at, tuple(items))


def _pairs(line: _Line) -> tuple[Pair, ...]:
    """``name=value`` one or more times, or the legacy form with one name, a space and the rest."""
    example = f"{line.name} name=value"
    words = split_quoted(line.require(example), line.raw.escape)
    if not words:
        raise line.error(f"{line.name} needs an argument", hint=f"Use {example}.")
    if "=" not in words[0]:
        parts = re.split(r"[\t\v\f\r ]+", line.rest, maxsplit=1)
        if len(parts) < 2:
            raise line.error(
                f"{line.name} {parts[0]} needs a value", word=parts[0], hint=f"Use {line.name} {parts[0]}=value."
            )
        return (Pair(parts[0], parts[1], " "),)
    pairs: list[Pair] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            hint = f"Use {example}, and quote a value with spaces."
            raise line.error(f'invalid {line.name} argument "{word}": missing "="', word=word, hint=hint)
        if not key:
            raise line.error(f"{line.name} name is empty", word=word, hint=f"Use {example}.")
        pairs.append(Pair(key, value))
    return tuple(pairs)


def _env(line: _Line) -> Env:
    return Env(*line.at, _pairs(line))


def _label(line: _Line) -> Label:
    return Label(*line.at, _pairs(line))


def _command(line: _Line) -> Command:
    text = line.require(f'{line.name} command, or {line.name} ["program", "argument"]')
    argv = line.array()
    return ShellForm(text) if argv is None else ExecForm(argv)


def _run(line: _Line) -> Run:
    command = _command(line)
    if command == ExecForm(()):
        raise line.error("RUN [] has no command", hint='Use RUN ["program", "argument"].')
    return Run(*line.at, command, line.raw.heredocs, **line.flags)


def _cmd(line: _Line) -> Cmd:
    return Cmd(*line.at, _command(line))


def _entrypoint(line: _Line) -> Entrypoint:
    return Entrypoint(*line.at, _command(line))


def _sources_and_destination(line: _Line) -> tuple[tuple[str, ...], str]:
    example = f"{line.name} source destination"
    line.require(example)
    words = line.array()
    if words is None:
        words = split_white(line.rest)
    if len(words) < 2:
        raise line.error(f"{line.name} requires at least one source and a destination", hint=f"Use {example}.")
    *sources, destination = words
    if not line.raw.heredocs:
        return tuple(sources), destination
    if parse_heredoc(destination) is not None:
        message = f"a heredoc cannot be the destination of {line.name}"
        raise line.error(message, word=destination, hint=f"Use {example}.")
    paths = tuple(s for s in sources if parse_heredoc(s) is None)
    if len(sources) - len(paths) != len(line.raw.heredocs):
        word = next((s for s in sources if s.startswith("<<")), "<<")
        hint = "Use a name without spaces: <<name or <<'name'."
        raise line.error(f"invalid heredoc name in {line.name}: it contains spaces", word=word, hint=hint)
    return paths, destination


def _copy(line: _Line) -> Copy:
    return Copy(*line.at, *_sources_and_destination(line), line.raw.heredocs, **line.flags)


def _add(line: _Line) -> Add:
    return Add(*line.at, *_sources_and_destination(line), line.raw.heredocs, **line.flags)


def _workdir(line: _Line) -> Workdir:
    return Workdir(*line.at, line.require("WORKDIR /path"))


def _user(line: _Line) -> User:
    return User(*line.at, line.require("USER name or USER name:group"))


def _expose(line: _Line) -> Expose:
    # BuildKit sorts them as text before it parses them, which the history shows.
    return Expose(*line.at, tuple(sorted(split_white(line.require("EXPOSE 8080 or EXPOSE 53/udp")))))


def _volume(line: _Line) -> Volume:
    line.require("VOLUME /path")
    array = line.array()
    paths = tuple(p.strip() for p in (split_white(line.rest) if array is None else array))
    if not paths or not all(paths):
        raise line.error("VOLUME path is empty", hint="Use VOLUME /path.")
    return Volume(*line.at, paths)


def _shell(line: _Line) -> Shell:
    example = 'Use SHELL ["/bin/bash", "-c"].'
    line.require('SHELL ["/bin/bash", "-c"]')
    argv = line.array()
    if not argv:
        raise line.error("SHELL requires a JSON array of at least one string", word=line.rest[:40], hint=example)
    return Shell(*line.at, argv)


def _stop_signal(line: _Line) -> StopSignal:
    return StopSignal(*line.at, line.require("STOPSIGNAL SIGTERM"))


def _maintainer(line: _Line) -> Maintainer:
    return Maintainer(*line.at, line.require("MAINTAINER name"))


def _healthcheck(line: _Line) -> Healthcheck:
    example = "HEALTHCHECK CMD command, or HEALTHCHECK NONE"
    kind, rest = split_name(line.require(example))
    if kind.upper() == "NONE":
        if rest or line.flags:
            raise line.error("HEALTHCHECK NONE takes no arguments or flags", word=rest or "--")
        return Healthcheck(*line.at, None)
    if kind.upper() != "CMD":
        raise line.error(f'unknown HEALTHCHECK type "{kind}"', word=kind, hint=f"Use {example}.")
    command = _command(_Line(line.raw, "HEALTHCHECK CMD", line.flags, rest))
    if command == ExecForm(()):
        raise line.error("HEALTHCHECK CMD has no command", hint=f"Use {example}.")
    return Healthcheck(*line.at, command, **line.flags)


def _onbuild(line: _Line) -> Onbuild:
    line.require("ONBUILD RUN command")
    name = split_name(line.rest)[0]
    if reason := _NEVER_IN_ONBUILD.get(name.upper()):
        raise line.error(reason, word=line.rest)
    raw = line.raw
    mistake = ""
    try:
        read_instruction(RawInstruction(raw.source, raw.location, line.rest, raw.shown, raw.heredocs, raw.escape))
    except DockerfileError as error:  # BuildKit stores it all the same; lint reports it to the author of the image
        mistake = error.message
    bodies = "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in raw.heredocs)
    return Onbuild(*line.at, line.rest + bodies, mistake)


# By instruction and by the name of the flag.
FLAGS: Mapping[str, Mapping[str, Flag]] = {
    cls.__name__.upper(): flags_of_instruction(cls.__name__.upper(), cls) for cls in (From, *get_args(Instruction))
}
INSTRUCTIONS: Mapping[str, Callable[[_Line], From | Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}

"""One logical line to one instruction. Every instruction of the Dockerfile reference has its function here.

No I/O. Called by ``dockerfile.parser``, for the lines of a file and for ONBUILD triggers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_NEVER_IN_ONBUILD = {
    "ONBUILD": "ONBUILD can't hold another ONBUILD",
    "FROM": "ONBUILD can't hold a FROM",
    "MAINTAINER": "ONBUILD can't hold a MAINTAINER",
}


@dataclass(frozen=True, slots=True)
class RawInstruction:
    """A logical line and where it stands, ready to be read. ``shown`` is the line as people see it."""

    source: SourceText
    location: Location
    text: str
    shown: str
    heredocs: tuple[Heredoc, ...]
    escape: str


@dataclass(frozen=True, slots=True)
class _Line:
    """A RawInstruction taken apart: upper-case name, the fields that its flags give, the rest."""

    raw: RawInstruction
    name: str
    flags: Mapping[str, Any]
    rest: str

    @property
    def at(self) -> tuple[Location, str, str]:
        """What every instruction begins with."""
        return self.raw.location, self.raw.text.strip(), self.raw.shown

    def error(self, message: str, *, word: str = "", hint: str = "") -> DockerfileError:
        return self.raw.source.error(message, self.raw.location, word=word, hint=hint)

    def need(self, example: str) -> str:
        """The rest, which must not be empty."""
        if not self.rest:
            raise self.error(f"{self.name} needs an argument", hint=f"Write {example}.")
        return self.rest

    def array(self) -> tuple[str, ...] | None:
        """The rest as a JSON array of strings, None where it is none."""
        try:
            return parse_json(self.rest)
        except WordsError as error:
            hint = "Put every element in double quotes."
            raise self.error(f"{self.name}: {error}", word=self.rest[:40], hint=hint) from error


def read_instruction(raw: RawInstruction) -> From | Instruction:
    """Read one instruction.

    Raises:
        DockerfileError: with its place and what to write instead.
    """
    word, rest = split_name(raw.text)
    name = word.upper()
    reader = INSTRUCTIONS.get(name)
    if reader is None:
        hint = did_you_mean(name, INSTRUCTIONS, f"An instruction is one of {', '.join(sorted(INSTRUCTIONS))}.")
        raise raw.source.error(f"there is no instruction {word[:40]}", raw.location, word=word, hint=hint)
    _refuse_unprintable(raw)
    words, rest = split_flags(rest)
    return reader(_Line(raw, name, read_flags(name, FLAGS, words, raw.source, raw.location), rest))


def _refuse_unprintable(raw: RawInstruction) -> None:
    """Neither a command line nor the image configuration can hold these."""
    whole = raw.text + "".join(h.body for h in raw.heredocs)
    if "\0" in whole:
        raise raw.source.error("the instruction holds a zero byte", raw.location)
    if not whole.isascii() and any("\udc80" <= c <= "\udcff" for c in whole):
        hint = "Save the Dockerfile as UTF-8."
        raise raw.source.error("the instruction holds bytes that are not UTF-8", raw.location, hint=hint)


def _from(line: _Line) -> From:
    words = split_white(line.need("FROM image"))
    match words:
        case (image,):
            return From(*line.at, image, **line.flags)
        case (image, keyword, written) if keyword.upper() == "AS":
            name = written.lower()
            if not _STAGE_NAME.fullmatch(name):
                hint = "A stage's name begins with a letter and goes on with letters, digits, '.', '_' and '-'."
                raise line.error(f"{written!r} can't be the name of a stage", word=written, hint=hint)
            return From(*line.at, image, name, **line.flags)
        case (_, keyword, _):
            raise line.error(f"FROM: {keyword!r} stands where AS must", word=keyword, hint="Write FROM image AS name.")
        case _:
            extra = words[1] if len(words) > 1 else ""
            raise line.error(
                "FROM takes an image, or an image, AS and a name", word=extra, hint="Write FROM image AS name."
            )


def _arg(line: _Line) -> Arg:
    items: list[ArgItem] = []
    for word in split_quoted(line.need("ARG name or ARG name=default"), line.raw.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise line.error("ARG: a name is missing before '='", word=word, hint="Write ARG name=default.")
        items.append(ArgItem(name, value if equals else None))
    return Arg(*line.at, tuple(items))


def _pairs(line: _Line) -> tuple[Pair, ...]:
    """``name=value`` one or more times, or the old form with one name, a space and the rest."""
    example = f"{line.name} name=value"
    words = split_quoted(line.need(example), line.raw.escape)
    if not words:
        raise line.error(f"{line.name} needs an argument", hint=f"Write {example}.")
    if "=" not in words[0]:
        parts = re.split(r"[\t\v\f\r ]+", line.rest, maxsplit=1)
        if len(parts) < 2:
            raise line.error(
                f"{line.name} {parts[0]} has no value", word=parts[0], hint=f"Write {line.name} {parts[0]}=value."
            )
        return (Pair(parts[0], parts[1], " "),)
    pairs: list[Pair] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            hint = f"Write {example}; a value with spaces goes in double quotes."
            raise line.error(f"{line.name}: {word!r} has no '='", word=word, hint=hint)
        if not key:
            raise line.error(f"{line.name}: a name is missing before '='", word=word, hint=f"Write {example}.")
        pairs.append(Pair(key, value))
    return tuple(pairs)


def _env(line: _Line) -> Env:
    return Env(*line.at, _pairs(line))


def _label(line: _Line) -> Label:
    return Label(*line.at, _pairs(line))


def _command(line: _Line) -> Command:
    text = line.need(f'{line.name} command, or {line.name} ["program", "argument"]')
    argv = line.array()
    return ShellForm(text) if argv is None else ExecForm(argv)


def _run(line: _Line) -> Run:
    command = _command(line)
    if command == ExecForm(()):
        raise line.error("RUN [] runs nothing", hint='Write RUN ["program", "argument"].')
    return Run(*line.at, command, line.raw.heredocs, **line.flags)


def _cmd(line: _Line) -> Cmd:
    return Cmd(*line.at, _command(line))


def _entrypoint(line: _Line) -> Entrypoint:
    return Entrypoint(*line.at, _command(line))


def _sources_and_destination(line: _Line) -> tuple[tuple[str, ...], str]:
    example = f"{line.name} source destination"
    line.need(example)
    words = line.array()
    if words is None:
        words = split_white(line.rest)
    if len(words) < 2:
        raise line.error(f"{line.name} needs a source and a destination", hint=f"Write {example}.")
    *sources, destination = words
    if not line.raw.heredocs:
        return tuple(sources), destination
    if parse_heredoc(destination) is not None:
        raise line.error(f"{line.name}: a heredoc can't be the destination", word=destination, hint=f"Write {example}.")
    paths = tuple(s for s in sources if parse_heredoc(s) is None)
    if len(sources) - len(paths) != len(line.raw.heredocs):
        word = next((s for s in sources if s.startswith("<<")), "<<")
        hint = "Names are words, quoted or not: <<name or <<'name'."
        raise line.error(f"{line.name}: a heredoc's name can't have blanks in it", word=word, hint=hint)
    return paths, destination


def _copy(line: _Line) -> Copy:
    return Copy(*line.at, *_sources_and_destination(line), line.raw.heredocs, **line.flags)


def _add(line: _Line) -> Add:
    return Add(*line.at, *_sources_and_destination(line), line.raw.heredocs, **line.flags)


def _workdir(line: _Line) -> Workdir:
    return Workdir(*line.at, line.need("WORKDIR /path"))


def _user(line: _Line) -> User:
    return User(*line.at, line.need("USER name or USER name:group"))


def _expose(line: _Line) -> Expose:
    # BuildKit sorts them as text before it reads them; the history shows it.
    return Expose(*line.at, tuple(sorted(split_white(line.need("EXPOSE 8080 or EXPOSE 53/udp")))))


def _volume(line: _Line) -> Volume:
    line.need("VOLUME /path")
    array = line.array()
    paths = tuple(p.strip() for p in (split_white(line.rest) if array is None else array))
    if not paths or not all(paths):
        raise line.error("VOLUME: a path is empty", hint="Write VOLUME /path.")
    return Volume(*line.at, paths)


def _shell(line: _Line) -> Shell:
    example = 'Write SHELL ["/bin/bash", "-c"].'
    line.need('SHELL ["/bin/bash", "-c"]')
    argv = line.array()
    if not argv:
        raise line.error("SHELL takes a JSON array with at least one string", word=line.rest[:40], hint=example)
    return Shell(*line.at, argv)


def _stop_signal(line: _Line) -> StopSignal:
    return StopSignal(*line.at, line.need("STOPSIGNAL SIGTERM"))


def _maintainer(line: _Line) -> Maintainer:
    return Maintainer(*line.at, line.need("MAINTAINER name"))


def _healthcheck(line: _Line) -> Healthcheck:
    example = "HEALTHCHECK CMD command, or HEALTHCHECK NONE"
    kind, rest = split_name(line.need(example))
    if kind.upper() == "NONE":
        if rest or line.flags:
            raise line.error("HEALTHCHECK NONE takes neither arguments nor flags", word=rest or "--")
        return Healthcheck(*line.at, None)
    if kind.upper() != "CMD":
        raise line.error(f"HEALTHCHECK: {kind!r} is neither CMD nor NONE", word=kind, hint=f"Write {example}.")
    command = _command(_Line(line.raw, "HEALTHCHECK CMD", line.flags, rest))
    if command == ExecForm(()):
        raise line.error("HEALTHCHECK CMD has no command", hint=f"Write {example}.")
    return Healthcheck(*line.at, command, **line.flags)


def _onbuild(line: _Line) -> Onbuild:
    line.need("ONBUILD RUN command")
    name = split_name(line.rest)[0]
    if reason := _NEVER_IN_ONBUILD.get(name.upper()):
        raise line.error(reason, word=line.rest)
    raw = line.raw
    mistake = ""
    try:
        read_instruction(RawInstruction(raw.source, raw.location, line.rest, raw.shown, raw.heredocs, raw.escape))
    except DockerfileError as error:  # it is stored all the same (BuildKit); lint shows it to who made it
        mistake = error.message
    bodies = "".join(f"\n{heredoc.body}{heredoc.name}" for heredoc in raw.heredocs)
    return Onbuild(*line.at, line.rest + bodies, mistake)


# The flags of each instruction, by their names.
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

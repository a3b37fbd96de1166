"""A parsed Dockerfile: directives, stages, and a class for each instruction.

No I/O. Words are kept as written, with quotes, escapes and variables: the planner expands them, since that needs the
values of ARG and ENV.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from imagewright.dockerfile.flags import check_mode, flags_in, read_interval, read_retries, switch, value, values
from imagewright.dockerfile.mounts import RunMount, read_mount
from imagewright.errors import Location
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class DockerfileWarning:
    """Valid input that is probably a mistake. ``rule`` is BuildKit's name for the check.

    ``excerpt`` shows the lines in question, with carets.
    """

    rule: str
    message: str
    location: Location
    excerpt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directives:
    """Parser directives at the top of the file.

    The frontend that ``syntax`` names is never fetched; ``check`` is for lint.
    """

    escape: str = "\\"
    syntax: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A ``<<NAME`` with its body. ``expand`` is False for a quoted name, ``strip_tabs`` True for ``<<-``."""

    name: str
    body: str
    expand: bool
    strip_tabs: bool

    @property
    def content(self) -> str:
        """The body as a file or script gets it: ``<<-`` strips leading tabs."""
        return re.sub(r"^\t+", "", self.body, flags=re.MULTILINE) if self.strip_tabs else self.body


@dataclass(frozen=True, slots=True)
class ShellForm:
    """A command line for the shell, as written."""

    line: str


@dataclass(frozen=True, slots=True)
class ExecForm:
    """A JSON array: the program and its arguments."""

    argv: tuple[str, ...]


Command = ShellForm | ExecForm


@dataclass(frozen=True, slots=True)
class Pair:
    """``key=value`` of ENV and LABEL, raw. ``separator`` is ``=``, or a space in the legacy form ``ENV key value``."""

    key: str
    value: str
    separator: str = "="


@dataclass(frozen=True, slots=True)
class Located:
    """The base of all instructions: location, logical line (continuations joined, comments dropped), and the same line
    for messages, with a single space where it was continued.
    """

    location: Location
    source: str
    shown: str


@dataclass(frozen=True, slots=True)
class ArgItem:
    """One name of an ARG. ``value`` is None without a default."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Arg(Located):
    items: tuple[ArgItem, ...]


@dataclass(frozen=True, slots=True)
class From(Located):
    """``name`` is lower case, ``""`` without AS; ``image`` and ``platform`` are raw."""

    image: str
    name: str = ""
    platform: str = value("platform")


@dataclass(frozen=True, slots=True)
class Env(Located):
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Label(Located):
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Run(Located):
    """``devices`` and ``security`` are parsed and refused by the planner."""

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[RunMount, ...] = values("mount", read=read_mount)
    network: str = value("network")
    security: str = value("security")
    devices: tuple[str, ...] = values("device")


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The flags of COPY and ADD that control how files are copied: raw in an instruction, expanded in a ``CopyStep``.

    To add a flag, add a field here and its execution in ``engine.steps.copying``: the parser, the planner, cache keys
    and ``imagewright plan`` iterate over the fields.
    """

    parents: bool = switch("parents", only=("COPY",), in_history=True)
    chown: str = value("chown", in_history=True)
    chmod: str = value(
        "chmod",
        check=check_mode,
        hint="Use an octal mode up to 7777, as in --chmod=755, or a symbolic one, as in --chmod=u+x,go=r.",
        in_history=True,
    )
    excludes: tuple[str, ...] = values("exclude")
    link: bool = switch("link")


@dataclass(frozen=True, slots=True)
class Copy(Located):
    """``sources`` are paths; heredocs are in ``heredocs``."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    options: CopyOptions = field(default_factory=CopyOptions, metadata=flags_in(CopyOptions))
    from_: str = value("from")


@dataclass(frozen=True, slots=True)
class Add(Located):
    """As ``Copy``. ``unpack`` is None without the flag: archives of the context are unpacked then."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    options: CopyOptions = field(default_factory=CopyOptions, metadata=flags_in(CopyOptions))
    checksum: str = value("checksum")
    keep_git_dir: bool | None = switch("keep-git-dir", default=None)
    unpack: bool | None = switch("unpack", default=None)


@dataclass(frozen=True, slots=True)
class Workdir(Located):
    path: str


@dataclass(frozen=True, slots=True)
class User(Located):
    user: str


@dataclass(frozen=True, slots=True)
class Expose(Located):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Located):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cmd(Located):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Located):
    command: Command


@dataclass(frozen=True, slots=True)
class Shell(Located):
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopSignal(Located):
    signal: str


@dataclass(frozen=True, slots=True)
class Maintainer(Located):
    name: str


def _interval(name: str) -> Any:
    hint = f"Use a number with a unit, for example --{name}=30s or --{name}=1m30s."
    return value(name, default=0, read=read_interval, hint=hint)


@dataclass(frozen=True, slots=True)
class Healthcheck(Located):
    """``command`` is None for NONE. Times are in nanoseconds, as in the image configuration; 0 means unset."""

    command: Command | None
    interval_ns: int = _interval("interval")
    timeout_ns: int = _interval("timeout")
    start_period_ns: int = _interval("start-period")
    start_interval_ns: int = _interval("start-interval")
    retries: int = value("retries", default=0, read=read_retries, hint="Use, for example, --retries=3.")


@dataclass(frozen=True, slots=True)
class Onbuild(Located):
    """``trigger`` is the text that the image configuration stores; ``mistake`` is why it can't be parsed, ``""`` if it
    can.
    """

    trigger: str
    mistake: str = ""


Instruction = (
    Arg
    | Env
    | Label
    | Run
    | Copy
    | Add
    | Workdir
    | User
    | Expose
    | Volume
    | Cmd
    | Entrypoint
    | Shell
    | StopSignal
    | Maintainer
    | Healthcheck
    | Onbuild
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One build stage: FROM and what follows it. ``index`` counts from 0."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.from_.name


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed file. ``global_args`` precede the first FROM. ``lines`` are those of the file, for excerpts."""

    name: str
    directives: Directives
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    warnings: tuple[DockerfileWarning, ...] = ()
    lines: tuple[str, ...] = ()

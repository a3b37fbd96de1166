"""The steps of a stage: what is executed, in order, with everything that it needs to know.

No I/O. Made by ``plan.run``, ``plan.copying`` and ``plan.stage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from typing import Any

from imagewright.dockerfile.model import CopyOptions
from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import Location
from imagewright.plan.origins import Origin
from imagewright.plan.remote import RemoteSource

_NOT_IN_KEY = "not in the cache key because"
NOT_EXECUTED = {_NOT_IN_KEY: "it is shown and recorded, not executed"}
BY_CONTENT = {_NOT_IN_KEY: "the hash of the files stands for where they are from"}


def why_not_in_key(one: Field[Any]) -> str:
    """Why a field of a step or mount is no part of its cache key, ``""`` for one that is: any that doesn't say so."""
    return str(one.metadata.get(_NOT_IN_KEY, ""))


def later_fields(record: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a step, its options or a mount that ``RELEASED_FIELDS`` doesn't list, where they aren't the default.

    Cache keys and ``imagewright plan`` have a form of their own for the listed ones and go over all others, by name, so
    that no field is forgotten and steps that don't use it keep their keys.
    """
    for one in fields(record):
        value = getattr(record, one.name)
        if one.name not in released_fields(record) and not why_not_in_key(one) and value != _default(one):
            yield one.name, value


def released_fields(record: Any) -> tuple[str, ...]:
    """Those of ``RELEASED_FIELDS``, in its order."""
    return next((RELEASED_FIELDS[cls] for cls in type(record).__mro__ if cls in RELEASED_FIELDS), ())


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


@dataclass(frozen=True, slots=True)
class StepText:
    """How a step is shown and recorded.

    ``title`` is the instruction as written, which is what people see; ``created_by`` the history entry as BuildKit
    writes it, with the values of variables; ``onbuild`` whether a trigger of the base image brought it. ``substitutions`` are
    the values that the step was made with: errors of the step don't show them.
    """

    title: str
    created_by: str
    location: Location
    onbuild: bool = False
    substitutions: Substitutions = NO_SUBSTITUTIONS


@dataclass(frozen=True, slots=True)
class _Described:
    text: StepText = field(metadata=NOT_EXECUTED)

    @property
    def title(self) -> str:
        return self.text.title

    @property
    def created_by(self) -> str:
        return self.text.created_by

    @property
    def location(self) -> Location:
        return self.text.location

    @property
    def onbuild(self) -> bool:
        return self.text.onbuild


class CacheSharing(StrEnum):
    """Who may use a cache at the same time: everybody, nobody else (another gets one of its own), one after the other."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class BindMount:
    """``--mount=type=bind``. ``source`` is a path in the origin (``/`` its root); what a writable one is changed is lost."""

    target: str
    origin: Origin = field(metadata=BY_CONTENT)
    source: str = "/"
    writable: bool = False


@dataclass(frozen=True, slots=True)
class CacheMount:
    """``--mount=type=cache``. ``origin`` and ``source`` are what a new cache begins with, None an empty folder.

    ``mode``, ``uid`` and ``gid`` are those of a new cache's folder, None as it begins.
    """

    target: str
    id: str
    sharing: CacheSharing = CacheSharing.SHARED
    origin: Origin | None = field(default=None, metadata=BY_CONTENT)
    source: str = "/"
    writable: bool = True
    mode: int | None = 0o755
    uid: int | None = 0
    gid: int | None = 0


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """``--mount=type=tmpfs``. ``size_bytes`` is 0 where none is given."""

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """``--mount=type=secret``: a file at ``target`` (``""``: none), a variable ``env`` (``""``: none), or both."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """``--mount=type=ssh``: the socket of an agent at ``target``, which SSH_AUTH_SOCK names."""

    id: str
    target: str
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Network(StrEnum):
    """``RUN --network``: the build's own, none but loopback, the machine's (here: that of the container)."""

    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Script:
    """A heredoc that begins with ``#!``: a file that is there while its RUN runs. ``path`` is absolute."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class RunStep(_Described):
    """RUN. ``argv`` is complete (the shell is in it); ``env`` is everything the command sees, in order, PATH included.

    ``user`` is ``""`` for root, else ``user[:group]`` as USER gave it; ``workdir`` is absolute. ``mounts`` are in the
    order they were written, targets absolute. ``proxies`` are those variables of ``env`` that only say how the network is
    reached: the predefined proxy arguments.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    mounts: tuple[Mount, ...] = ()
    network: Network = Network.DEFAULT
    script: Script | None = None
    proxies: frozenset[str] = frozenset()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where its mounts read from."""
        return tuple(m.origin for m in self.mounts if isinstance(m, BindMount | CacheMount) and m.origin is not None)


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc of COPY or ADD: a file of this name and content."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class CopyStep(_Described):
    """COPY or ADD. ``sources`` are patterns relative to the origin's root, or (ADD) what is elsewhere; ``destination`` is
    absolute.

    ``files`` come after them. A trailing ``/`` of the destination is kept: it marks a directory. ``extract`` (ADD)
    unpacks local archives.
    """

    sources: tuple[str | RemoteSource, ...]
    destination: str
    origin: Origin = field(metadata=BY_CONTENT)
    options: CopyOptions = field(default_factory=CopyOptions)
    extract: bool = False
    files: tuple[InlineFile, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where it reads from."""
        return (self.origin,)


@dataclass(frozen=True, slots=True)
class WorkdirStep(_Described):
    """WORKDIR with another path than ``/``: missing folders are made, owned by ``user`` (``""`` root)."""

    path: str
    user: str


@dataclass(frozen=True, slots=True)
class MetadataStep(_Described):
    """An instruction that changes only the configuration: its history entry is an empty layer."""


Step = RunStep | CopyStep | WorkdirStep | MetadataStep

# What cache keys were made of when they were first released, in the order in which it is hashed. A field that is added
# to a step or mount later is not listed here.
RELEASED_FIELDS: Mapping[type[Any], tuple[str, ...]] = {
    RunStep: ("argv", "env", "user", "workdir", "mounts", "network", "script", "proxies"),
    CopyStep: ("sources", "destination", "options", "extract", "files"),
    CopyOptions: ("parents", "chown", "chmod", "excludes", "link"),
    WorkdirStep: ("path", "user"),
    BindMount: ("target", "source", "writable"),
    CacheMount: ("target", "id", "sharing", "source", "mode", "uid", "gid", "writable"),
    TmpfsMount: ("target", "size_bytes"),
    SecretMount: ("id", "target", "env", "required", "mode", "uid", "gid"),
    SshMount: ("id", "target", "required", "mode", "uid", "gid"),
}

"""The steps of a stage, in execution order, each with everything that its execution needs.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from enum import StrEnum
from typing import Any

from imagewright.dockerfile.model import CopyOptions
from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import Location
from imagewright.plan.origins import Origin
from imagewright.plan.remote import RemoteSource
from imagewright.records import dataclass

_NOT_IN_KEY = "not in the cache key because"
NOT_EXECUTED = {_NOT_IN_KEY: "it is text for people, not executed"}
BY_CONTENT = {_NOT_IN_KEY: "the key has the hash of the files instead of their origin"}


def why_not_in_key(one: Field[Any]) -> str:
    """Why a field of a step or mount is not part of its cache key, ``""`` if it is, which is the default."""
    return str(one.metadata.get(_NOT_IN_KEY, ""))


def later_fields(record: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a step, options or mount that ``RELEASED_FIELDS`` lacks and that differ from their default.

    Cache keys and ``imagewright plan`` have a special form for the listed fields and include all others by name. So no
    field is forgotten, and steps that don't use it keep their keys.
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
    """The texts of a step for messages and for the history.

    ``title`` is the instruction as written, ``created_by`` the history entry as BuildKit formats it, with the values of
    variables. ``onbuild``: the step comes from a trigger of the base image. ``substitutions`` are the values in the
    step, which its errors must not show.
    """

    title: str
    created_by: str
    location: Location
    onbuild: bool = False
    substitutions: Substitutions = NO_SUBSTITUTIONS


@dataclass(frozen=True, slots=True)
class _TitledStep:
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
    """Concurrent use of a cache: by all, by one while others get a cache of their own, or by one after the other."""

    SHARED = "shared"
    PRIVATE = "private"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class BindMount:
    """``--mount=type=bind``. ``source`` is a path in the origin. Changes to a writable mount are discarded."""

    target: str
    origin: Origin = field(metadata=BY_CONTENT)
    source: str = "/"
    writable: bool = False


@dataclass(frozen=True, slots=True)
class CacheMount:
    """``--mount=type=cache``. A new cache is a copy of ``source`` in ``origin``, or empty without an origin.

    ``mode``, ``uid`` and ``gid`` are those of the directory of a new cache, None for those of ``source``.
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
    """``--mount=type=tmpfs``. ``size_bytes`` is 0 for no limit."""

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """``--mount=type=secret``: a file at ``target``, a variable ``env``, or both; ``""`` stands for neither."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """``--mount=type=ssh``: the socket of an agent at ``target``, to which SSH_AUTH_SOCK is set."""

    id: str
    target: str
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


class Network(StrEnum):
    """``RUN --network``: that of the build, only loopback, or that of the host (here: of the container)."""

    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Script:
    """A heredoc that begins with ``#!``: a file that exists while its RUN runs. ``path`` is absolute."""

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class RunStep(_TitledStep):
    """RUN. ``argv`` includes the shell, ``env`` is the whole environment, in order.

    ``user`` is ``user[:group]`` as in USER, ``""`` for root; ``workdir`` is absolute. ``mounts`` are in the order of
    the flags, targets absolute. ``proxies`` are the predefined proxy arguments in ``env``, which don't affect the
    result.
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
        """The origins of its mounts."""
        return tuple(m.origin for m in self.mounts if isinstance(m, BindMount | CacheMount) and m.origin is not None)


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc of COPY or ADD as a file."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class CopyStep(_TitledStep):
    """COPY or ADD. ``sources`` are patterns below the origin's root or (ADD) remote; ``destination`` is absolute.

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
        """The origin of its sources."""
        return (self.origin,)


@dataclass(frozen=True, slots=True)
class WorkdirStep(_TitledStep):
    """WORKDIR, except ``/``: missing directories are created, owned by ``user`` (``""`` for root)."""

    path: str
    user: str


@dataclass(frozen=True, slots=True)
class MetadataStep(_TitledStep):
    """An instruction that changes only the configuration: its history entry has no layer."""


Step = RunStep | CopyStep | WorkdirStep | MetadataStep

# The fields in cache keys when these were first released, in the order in which mounts hash them. Don't list fields
# that are added later.
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

"""The steps of a stage: what is executed, in order, with everything that it needs to know.

No I/O. Made by ``plan.run``, ``plan.copying`` and ``plan.stage``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from imagewright.dockerfile.substitutions import NO_SUBSTITUTIONS, Substitutions
from imagewright.errors import Location
from imagewright.plan.origins import Origin
from imagewright.plan.remote import RemoteSource


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
    text: StepText

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
    origin: Origin
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
    origin: Origin | None = None
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

    ``files`` come after them. ``parents`` keeps the folders above what a source names, but for those before ``/./`` in it.
    ``excludes`` are patterns of what is left out, relative to each source. ``link`` copies as into an empty image.

    A trailing ``/`` of the destination is kept: it says that a folder is meant. ``chown`` is ``user[:group]`` or ``""``,
    ``chmod`` an octal or symbolic mode or ``""``. ``extract`` (ADD) unpacks local archives.
    """

    sources: tuple[str | RemoteSource, ...]
    destination: str
    origin: Origin
    chown: str = ""
    chmod: str = ""
    extract: bool = False
    files: tuple[InlineFile, ...] = ()
    parents: bool = False
    excludes: tuple[str, ...] = ()
    link: bool = False

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

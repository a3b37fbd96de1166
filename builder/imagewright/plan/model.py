"""What a build will do, as values: stages in execution order, each a base, steps and the finished configuration.

No I/O. Made by ``plan.resolve``, printed by ``plan.render`` and executed by the engine: the plan that is shown is the
plan that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from imagewright.dockerfile.model import DockerfileWarning
from imagewright.errors import Location
from imagewright.oci.config import ImageConfig
from imagewright.oci.platform import Platform, host_platform
from imagewright.plan.remote import RemoteSource
from imagewright.reference import Reference


@dataclass(frozen=True, slots=True)
class ImageContext:
    """``--build-context name=docker-image://…``."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class FolderContext:
    """A ``--build-context`` that is a folder of files, wherever it comes from."""


NamedContext = ImageContext | FolderContext


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line adds to a Dockerfile.

    ``target`` is a stage's name or number, "" for the last stage. ``build_args`` are in the order they were given.
    ``platform`` is what the image is built for, ``build_platform`` what the build runs on; ``platform_asked`` says that
    the first was named, and not taken from the second. ``contexts`` take the place of
    the stages and images of their names.
    """

    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=host_platform)
    build_platform: Platform = field(default_factory=host_platform)
    labels: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    platform_asked: bool = False

    def without_build_args(self) -> PlanOptions:
        """As if none had been given."""
        return replace(self, build_args={})

    def with_build_arg(self, name: str, value: str | None) -> PlanOptions:
        """The same with another value of a build argument, None to take it away."""
        args = {key: given for key, given in self.build_args.items() if key != name}
        return replace(self, build_args=args if value is None else args | {name: value})


@dataclass(frozen=True, slots=True)
class NeedConfig:
    """Asked by ``make_plan``: the configuration of this image for this platform.

    ``location`` is the FROM that names it; ``hint`` is to be shown when there is no such image (a stage's name, mistyped).
    """

    reference: Reference
    platform: Platform
    location: Location | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ImageBase:
    """A stage that starts from an image of a registry."""

    reference: Reference
    platform: Platform


@dataclass(frozen=True, slots=True)
class StageBase:
    """A stage that starts where another stage ended. ``stage`` is that stage's index in the Dockerfile."""

    stage: int


@dataclass(frozen=True, slots=True)
class ScratchBase:
    """A stage that starts from nothing."""


@dataclass(frozen=True, slots=True)
class ContextBase:
    """A stage that starts from the files of a named context."""

    context: str


Base = ImageBase | StageBase | ScratchBase | ContextBase


@dataclass(frozen=True, slots=True)
class ContextOrigin:
    """COPY and ADD from the build context, or from the named context ``context``."""

    context: str = ""


@dataclass(frozen=True, slots=True)
class StageOrigin:
    """``COPY --from`` a stage, by its index in the Dockerfile."""

    stage: int


@dataclass(frozen=True, slots=True)
class ImageOrigin:
    """``COPY --from`` an image of a registry. ``hint`` is to be shown when there is no such image."""

    reference: Reference
    platform: Platform
    hint: str = ""


Origin = ContextOrigin | StageOrigin | ImageOrigin


@dataclass(frozen=True, slots=True)
class StepText:
    """How a step is shown and recorded.

    ``title`` is what people see while it runs, ``created_by`` the history entry as BuildKit writes it,
    ``instruction`` the source text as written, ``onbuild`` whether a trigger of the base image brought it.
    """

    title: str
    created_by: str
    instruction: str
    location: Location
    onbuild: bool = False


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
    def instruction(self) -> str:
        return self.text.instruction

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
    order they were written, targets absolute.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    mounts: tuple[Mount, ...] = ()
    network: Network = Network.DEFAULT
    script: Script | None = None

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


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage. ``index`` is its number in the Dockerfile, ``name`` what AS calls it (``""`` without).

    ``config`` is the finished image's configuration, but for rootfs, history and creation time: those still are the
    base image's own (of a base that is a stage: empty, the engine chains them).
    """

    index: int
    name: str
    base: Base
    platform: Platform
    steps: tuple[Step, ...]
    config: ImageConfig
    location: Location

    @property
    def contexts(self) -> frozenset[str]:
        """The named contexts that it takes files from."""
        names = {origin.context for _, origin in self.origins if isinstance(origin, ContextOrigin)}
        names |= {self.base.context} if isinstance(self.base, ContextBase) else set()
        return frozenset(names - {""})

    @property
    def label(self) -> str:
        """How progress lines call this stage, as BuildKit does: its name, else ``stage-0``."""
        return self.name or f"stage-{self.index}"

    @property
    def needs(self) -> frozenset[int]:
        """Indices of the stages that must be finished before this one."""
        needed = {self.base.stage} if isinstance(self.base, StageBase) else set[int]()
        needed |= {origin.stage for _, origin in self.origins if isinstance(origin, StageOrigin)}
        return frozenset(needed)

    @property
    def origins(self) -> tuple[tuple[Step, Origin], ...]:
        """Every step that reads from somewhere, with where."""
        return tuple((step, o) for step in self.steps if isinstance(step, RunStep | CopyStep) for o in step.origins)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Stages in the order in which they can be executed; those the target does not need are not there, the target is last."""

    stages: tuple[StagePlan, ...]
    warnings: tuple[DockerfileWarning, ...] = ()

    @property
    def target(self) -> StagePlan:
        return self.stages[-1]

    @property
    def ancestry(self) -> frozenset[int]:
        """The target and the stages that it starts from: those whose layers the image has."""
        found = {self.target.index}
        base = self.target.base
        while isinstance(base, StageBase):
            found.add(base.stage)
            base = self.stage(base.stage).base
        return frozenset(found)

    def starts_from_scratch(self, index: int) -> bool:
        """Whether everything in a stage was made by this Dockerfile."""
        base = self.stage(index).base
        return isinstance(base, ScratchBase) or (isinstance(base, StageBase) and self.starts_from_scratch(base.stage))

    def stage_at(self, place: Location) -> int | None:
        """The index of the stage that a line belongs to, None above all."""
        above = [stage.index for stage in self.stages if stage.location.line <= place.line]
        return max(above, default=None)

    def stage(self, index: int) -> StagePlan:
        """The stage with this number in the Dockerfile. Raises KeyError where the plan has none."""
        for stage in self.stages:
            if stage.index == index:
                return stage
        raise KeyError(index)

"""The contract between operator and executor: what is asked (BuildRequest) and what came of it (BuildResult).

No I/O. The operator writes a request into the executor Pod's environment and reads the result from the Pod's
termination message; the command line makes the same request from its flags. Requests hold no secret, only the names
of files and environment variables that secrets are read from.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from imagewright.errors import Reason, UsageError

REQUEST_ENV = "IMAGEWRIGHT_REQUEST"
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
MAX_REQUEST_BYTES = 96 * 1024  # Linux takes 128 KiB for one environment string; base64 is counted
MAX_TERMINATION_BYTES = 4096  # the kubelet keeps no more
MAX_CORE_BYTES = 2048  # of a result, so that at least half of the termination message is left for steps
MAX_SECRET_BYTES = 500 * 1024  # of one secret, as in BuildKit
DEFAULT_SSH_ID = "default"  # of RUN --mount=type=ssh without an id
RESULT_LOG_KEY = "imagewrightResult"  # the last line of an executor's log is {"imagewrightResult": {…}}


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class SandboxKind(StrEnum):
    """The rungs of the ladder of isolation; AUTO is namespace where a probe says that it works, else root."""

    AUTO = "auto"
    NAMESPACE = "namespace"
    ROOT = "root"
    CHROOT = "chroot"


class DirectorySource(_Model):
    """A folder on the executor's file system."""

    kind: Literal["directory"] = "directory"
    path: str


class ConfigMapSource(_Model):
    """A mounted ConfigMap: its keys become plain files, without the kubelet's ``..data`` links."""

    kind: Literal["configMap"] = "configMap"
    path: str


class InlineSource(_Model):
    """A Dockerfile without a context."""

    kind: Literal["inline"] = "inline"
    dockerfile: str


class TarSource(_Model):
    """A tar archive, compressed or not; path ``-`` is standard input."""

    kind: Literal["tar"] = "tar"
    path: str


class GitSource(_Model):
    """A git repository. ``ref`` is a branch, tag or full ref (empty: the remote's HEAD); ``commit`` pins it.

    ``credentials_dir`` is a mounted Secret with the keys Flux and Argo CD use: ``username`` and ``password``,
    ``bearerToken``, or ``identity`` and ``known_hosts``, and ``ca.crt``; the engine also reads GIT_TOKEN and its kin.
    """

    kind: Literal["git"] = "git"
    url: str
    ref: str = ""
    ref_type: Literal["any", "branch", "tag"] = "any"
    commit: str = ""
    subdir: str = ""
    depth: Annotated[int, Field(ge=0)] = 1  # commits; 0 is the whole history
    submodules: bool = False
    credentials_dir: str = ""
    insecure_skip_tls_verify: bool = False


Source = Annotated[
    DirectorySource | ConfigMapSource | InlineSource | TarSource | GitSource, Field(discriminator="kind")
]


class HttpSource(_Model):
    """A file behind an http(s) address; the context is that one file, called ``context``, as in BuildKit."""

    kind: Literal["http"] = "http"
    url: str


class ImageSource(_Model):
    """The files of an image in a registry; as a named context also a base image, with its configuration."""

    kind: Literal["image"] = "image"
    reference: str


class LayoutSource(_Model):
    """An image in an OCI image layout on the executor's file system; without tag and digest, the only one in it."""

    kind: Literal["ociLayout"] = "ociLayout"
    path: str
    tag: str = ""
    digest: str = ""


ContextSource = Annotated[
    DirectorySource | GitSource | HttpSource | ImageSource | LayoutSource, Field(discriminator="kind")
]


class NamedContext(_Model):
    """What takes the place of the stage or image called ``name`` in FROM, COPY --from and RUN --mount=from.

    ``name`` is as in the Dockerfile: a stage's name in lower case, or an image as people write it, ``alpine`` or
    ``alpine:3.20`` (never with ``docker.io/library/`` or ``:latest``).
    """

    name: str
    source: ContextSource


class SecretSource(_Model):
    """Where the secret ``id`` of a RUN --mount=type=secret is read: exactly one of a file and an environment variable."""

    id: str
    file: str = ""
    env: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> SecretSource:
        if bool(self.file) == bool(self.env):
            raise ValueError("a secret is in a file or in an environment variable, not in both")
        return self


class SshSource(_Model):
    """What a RUN --mount=type=ssh of this ``id`` talks to: the socket of an agent, or private keys that are served.

    ``paths`` is one socket, or one or more files of private keys without a passphrase.
    """

    id: str = DEFAULT_SSH_ID
    paths: Annotated[tuple[str, ...], Field(min_length=1)]


class RegistrySettings(_Model):
    """How one registry is reached. ``host`` is as in references; docker.io stands for Docker Hub and its aliases.

    ``endpoint`` replaces the address for pulls and pushes alike while credentials stay those of ``host``;
    ``mirrors`` are tried first, in order, for pulls only and with their own credentials. Both are ``host[:port][/path]``.
    """

    host: str
    endpoint: str = ""
    mirrors: tuple[str, ...] = ()
    insecure: bool = False  # plain HTTP is allowed when HTTPS is not answered
    skip_tls_verify: bool = False
    ca_file: str = ""  # PEM, trusted beside the system's


class BuildArg(_Model):
    """A build argument: its value, or the environment variable of the executor that holds it."""

    name: str
    value: str | None = None
    from_env: str = ""


class BuildRequest(_Model):
    """Everything that a build is made from. Paths are the executor's."""

    version: Literal[1] = 1
    source: Source
    context_dir: str = "."  # relative to the source
    dockerfile: str = "Dockerfile"  # relative to the context; an absolute path is taken as it is
    target: str = ""
    build_args: tuple[BuildArg, ...] = ()
    build_contexts: tuple[NamedContext, ...] = ()  # names are unique
    secrets: tuple[SecretSource, ...] = ()  # ids are unique
    ssh: tuple[SshSource, ...] = ()  # ids are unique
    labels: dict[str, str] = {}
    platform: str = ""  # os/architecture[/variant]; empty is the executor's own
    destinations: tuple[str, ...] = ()
    push: bool = True
    insecure: bool = False  # for the destinations
    insecure_pull: bool = False
    skip_tls_verify: bool = False
    registries: tuple[RegistrySettings, ...] = ()
    docker_config_dir: str = ""  # holds config.json; empty means DOCKER_CONFIG, then ~/.docker
    oci_layout_path: str = ""
    tar_path: str = ""
    digest_file: str = ""
    sandbox: SandboxKind = SandboxKind.AUTO
    cache_dir: str = ""  # where RUN --mount=type=cache lives from build to build; empty: for this build only
    work_dir: str = ""  # where root file systems and blobs are made; empty is chosen by the engine

    def encode(self) -> str:
        """Base64 of the JSON: the kubelet expands ``$(VAR)`` and ``$$`` in plain values.

        Raises:
            UsageError: reason ``InvalidSpec``, when it does not fit into one environment variable.
        """
        text = base64.b64encode(self.model_dump_json(by_alias=True, exclude_defaults=False).encode()).decode()
        if len(text) > MAX_REQUEST_BYTES:
            raise UsageError(
                f"the build request takes {len(text)} bytes, more than the {MAX_REQUEST_BYTES} that an environment variable can hold",
                reason=Reason.INVALID_SPEC,
                hint="Move the Dockerfile into a ConfigMap or a git repository, or use fewer and shorter build arguments.",
            )
        return text

    @classmethod
    def decode(cls, text: str) -> BuildRequest:
        """The reverse of ``encode``.

        Raises:
            UsageError: when it is no request of a version known here.
        """
        try:
            return cls.model_validate_json(base64.b64decode(text, validate=True))
        except (binascii.Error, ValidationError) as error:
            raise UsageError(
                f"the build request can't be read: {error}",
                hint="Operator and executor image should be of the same release.",
            ) from error


def _printable(text: str) -> str:
    """Names of files that aren't UTF-8 are legal, and show up in messages; JSON has no place for them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


_Text = Annotated[str, BeforeValidator(_printable)]


class StepResult(_Model):
    """One executed instruction. Times are UTC, RFC 3339 with milliseconds."""

    name: _Text
    start_time: str
    completion_time: str
    cached: bool = False
    exit_code: int | None = None  # of a RUN


class Failure(_Model):
    """Why a build failed, as the user sees it everywhere."""

    reason: str
    message: _Text
    hint: _Text = ""
    instruction: _Text = ""
    file: _Text = ""
    line: int = 0
    exit_code: int | None = None  # of the RUN that failed


class SourceResult(_Model):
    """What the context was: a git commit, or the digest of an archive."""

    commit: str = ""
    digest: str = ""


class BuildResult(_Model):
    """What came of a build. ``references`` are ``name:tag@digest``, in the order of the destinations."""

    version: Literal[1] = 1
    digest: str = ""
    size: int = 0  # bytes in the registry: configuration and layers
    references: tuple[str, ...] = ()
    sandbox: str = ""
    sandbox_reason: str = ""
    source: SourceResult = SourceResult()
    failure: Failure | None = None
    steps: tuple[StepResult, ...] = ()
    steps_truncated: bool = False

    def to_json(self) -> str:
        """One line of JSON, empty fields left out."""
        return json.dumps(
            self.model_dump(by_alias=True, exclude_defaults=True), separators=(",", ":"), ensure_ascii=False
        )

    def termination_message(self) -> str:
        """At most MAX_TERMINATION_BYTES: the core, cut to MAX_CORE_BYTES, then as many steps as fit, newest kept."""
        core = self.model_copy(update={"steps": (), "steps_truncated": False})
        limit = max(len(core.failure.message), len(core.failure.hint)) if core.failure else 0
        while len(core.to_json().encode()) > MAX_CORE_BYTES and core.failure and limit > 0:
            limit = limit * 3 // 4
            cut = core.failure.model_copy(
                update={
                    "message": _cut(core.failure.message, limit),
                    "hint": _cut(core.failure.hint, limit),
                    "instruction": _cut(core.failure.instruction, 200),
                }
            )
            core = core.model_copy(update={"failure": cut})
        if len(core.to_json().encode()) > MAX_CORE_BYTES:
            core = core.model_copy(update={"references": core.references[:1], "sandbox_reason": ""})
        kept = self.steps
        message = core.model_copy(update={"steps": kept})
        while len(message.to_json().encode()) > MAX_TERMINATION_BYTES and kept:
            kept = kept[1:]
            message = core.model_copy(update={"steps": kept, "steps_truncated": True})
        return message.to_json()

    @classmethod
    def parse(cls, text: str) -> BuildResult | None:
        """A result out of a termination message; None when it is none (the container was killed, say)."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as results carry times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"

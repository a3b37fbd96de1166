"""The request for a build.

No I/O. Requests contain no secrets, only the files and environment variables that secrets are read from.
"""

from __future__ import annotations

import base64
import json
from dataclasses import field
from enum import StrEnum
from typing import Literal

from imagewright.contract import DEFAULT_CACHE_TTL_S, DEFAULT_SSH_ID, MAX_REQUEST_BYTES
from imagewright.contract.coding import read, write
from imagewright.contract.sources import NamedContext, Source
from imagewright.errors import Reason, UsageError
from imagewright.jsontext import loads
from imagewright.records import dataclass


class SandboxKind(StrEnum):
    """How RUN is isolated. AUTO is NAMESPACE if a probe shows that it works, else ROOT."""

    AUTO = "auto"
    NAMESPACE = "namespace"
    ROOT = "root"
    CHROOT = "chroot"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a RUN --mount=type=secret is read from: exactly one of a file and an environment variable."""

    id: str
    file: str = ""
    env: str = ""

    def __post_init__(self) -> None:
        if bool(self.file) == bool(self.env):
            raise ValueError("exactly one of file and env is required")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSource:
    """What a RUN --mount=type=ssh is served with.

    ``paths`` is the socket of an agent, or one or more files of private keys without a passphrase.
    """

    id: str = DEFAULT_SSH_ID
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("at least one path is required")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How one registry is reached. ``host`` is as in references; docker.io stands for Docker Hub and its aliases.

    ``endpoint`` replaces the address for pulls and pushes, with the credentials of ``host``; ``mirrors`` are tried
    first, in order, for pulls only and with their own credentials. Both are ``host[:port][/path]``.
    """

    host: str
    endpoint: str = ""
    mirrors: tuple[str, ...] = ()
    insecure: bool = False  # allow plain HTTP if HTTPS is not answered
    skip_tls_verify: bool = False
    ca_file: str = ""  # PEM, trusted in addition to the system's
    client_cert_file: str = ""  # PEM, for mutual TLS
    client_key_file: str = ""
    mirrors_only: bool = False  # don't fall back to the registry itself


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """A cache of layers: looked up in ``sources`` in their order, stored in ``target``, ``""`` for nowhere.

    Each is a repository of a registry, without a tag, or ``oci:DIR`` for an OCI image layout. ``ttl_s`` is the maximum
    age of an entry in seconds; 0 is any age.
    """

    sources: tuple[str, ...] = ()
    target: str = ""
    ttl_s: int = DEFAULT_CACHE_TTL_S
    copy_layers: bool = True  # of COPY and ADD
    run_layers: bool = True
    explain: bool = False  # tell for each step why it missed

    def __post_init__(self) -> None:
        if self.ttl_s < 0:
            raise ValueError("ttlS is negative")


class Timestamps(StrEnum):
    """The times in an image without SOURCE_DATE_EPOCH: of the build, of the source, or 1970."""

    BUILD = "build"
    SOURCE = "source"
    ZERO = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildArg:
    """A build argument: its value, or the executor's environment variable that has it."""

    name: str
    value: str | None = None
    from_env: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """The files that a build is given."""

    source: Source
    directory: str = "."  # of the source; relative to its root
    named: tuple[NamedContext, ...] = ()  # names are unique


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """Which Dockerfile is read, and what of it is built for which platform."""

    dockerfile: str = "Dockerfile"  # relative to the context; absolute paths and URLs are taken as they are
    target: str = ""  # a stage; empty: the last one
    build_args: tuple[BuildArg, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    platform: str = ""  # os/architecture[/variant]; empty: the executor's own


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How RUN is isolated, and what its mounts are served from."""

    sandbox: SandboxKind = SandboxKind.AUTO
    secrets: tuple[SecretSource, ...] = ()  # ids are unique
    ssh: tuple[SshSource, ...] = ()  # ids are unique
    cache_dir: str = ""  # keeps RUN --mount=type=cache from build to build; empty: for this build only
    runner_socket: str = ""  # where the Pod's other container connects, to run commands outside of user namespaces
    require_isolation: bool = False  # refuse a build whose RUNs could read the credentials of this build


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAccess:
    """How registries are reached, and as whom."""

    insecure: bool = False  # for the destinations
    insecure_pull: bool = False
    skip_tls_verify: bool = False  # for the destinations
    skip_tls_verify_pull: bool = False
    hosts: tuple[RegistrySettings, ...] = ()
    docker_config_dir: str = ""  # holds config.json; empty: DOCKER_CONFIG, then ~/.docker
    credential_helpers: tuple[str, ...] | None = None  # env, google, ecr, acr, gitlab; None: all that are usable
    pull_retries: int = 0  # in addition to the engine's own
    push_retries: int = 0

    def __post_init__(self) -> None:
        if min(self.pull_retries, self.push_retries) < 0:
            raise ValueError("pullRetries or pushRetries is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What the image looks like: formats, times, and what becomes a layer."""

    format: Literal["", "oci", "docker"] = ""  # empty: that of the base image
    compression: Literal["gzip", "zstd"] = "gzip"  # of new layers
    compression_level: int | None = None  # None: the engine's default
    annotations: dict[str, str] = field(default_factory=dict)  # of the manifest
    timestamps: Timestamps = Timestamps.BUILD
    single_layer: bool = False  # everything that the last stage changes becomes one layer
    ignore_paths: tuple[str, ...] = ()  # absolute; RUN's layers leave out everything below them


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """Where the image and its digest are written."""

    destinations: tuple[str, ...] = ()
    push: bool = True
    check_push: bool = True  # before anything is built
    ignore_immutable_tags: bool = False  # a refusal to move the tag does not fail the push
    oci_layout_path: str = ""
    tar_path: str = ""
    digest_file: str = ""
    image_name_with_digest_file: str = ""  # name@digest, one line per destination
    image_name_tag_with_digest_file: str = ""  # name:tag@digest, likewise
    result_file: str = ""  # the BuildResult as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything that a build is made from, grouped by what reads it. Paths are the executor's."""

    version: Literal[1] = 1
    context: ContextSettings
    plan: PlanSettings = field(default_factory=PlanSettings)
    run: RunSettings = field(default_factory=RunSettings)
    registry: RegistryAccess = field(default_factory=RegistryAccess)
    image: ImageSettings = field(default_factory=ImageSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    cache: CacheSettings | None = None  # of layers; None: every step is executed
    work_dir: str = ""  # for root file systems and blobs; empty: chosen by the engine

    def encode(self) -> str:
        """Base64 of the JSON, since the kubelet expands ``$(VAR)`` and ``$$`` in plain values.

        Raises:
            UsageError: reason ``InvalidSpec``: it doesn't fit in an environment variable.
        """
        text = base64.b64encode(json.dumps(write(self, defaults=True), separators=(",", ":")).encode()).decode()
        if len(text) > MAX_REQUEST_BYTES:
            raise UsageError(
                f"build request too large: {len(text)} bytes, and an environment variable holds {MAX_REQUEST_BYTES}",
                reason=Reason.INVALID_SPEC,
                hint="Move the Dockerfile into a ConfigMap or a git repository, or use fewer and shorter build arguments.",
            )
        return text

    @classmethod
    def decode(cls, text: str) -> BuildRequest:
        """The reverse of ``encode``.

        Raises:
            UsageError: not a request of a known version.
        """
        try:
            return read(cls, loads(base64.b64decode(text, validate=True)))
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"cannot read the build request: {error}",
                hint="Use the executor image of the operator's release.",
            ) from error

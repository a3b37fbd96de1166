"""What is asked: everything that a build is made from.

No I/O. Requests hold no secret, only the names of files and environment variables that secrets are read from.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from imagewright.contract import DEFAULT_CACHE_TTL_S, DEFAULT_SSH_ID, MAX_REQUEST_BYTES, Model
from imagewright.contract.sources import NamedContext, Source
from imagewright.errors import Reason, UsageError


class SandboxKind(StrEnum):
    """The rungs of the ladder of isolation; AUTO is namespace where a probe says that it works, else root."""

    AUTO = "auto"
    NAMESPACE = "namespace"
    ROOT = "root"
    CHROOT = "chroot"


class SecretSource(Model):
    """Where the secret ``id`` of a RUN --mount=type=secret is read: exactly one of a file and an environment variable."""

    id: str
    file: str = ""
    env: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> SecretSource:
        if bool(self.file) == bool(self.env):
            raise ValueError("a secret is in a file or in an environment variable, not in both")
        return self


class SshSource(Model):
    """What a RUN --mount=type=ssh of this ``id`` talks to: the socket of an agent, or private keys that are served.

    ``paths`` is one socket, or one or more files of private keys without a passphrase.
    """

    id: str = DEFAULT_SSH_ID
    paths: Annotated[tuple[str, ...], Field(min_length=1)]


class RegistrySettings(Model):
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
    client_cert_file: str = ""  # PEM, with its key in client_key_file: mutual TLS
    client_key_file: str = ""
    mirrors_only: bool = False  # an image that no mirror has is not asked for at the registry itself


class CacheSettings(Model):
    """A cache of layers. ``repository`` is one of a registry, without a tag, or ``oci:FOLDER`` for an OCI image layout.

    ``ttl_s`` is how old an entry may be, in seconds; 0 is any age.
    """

    repository: str
    ttl_s: Annotated[int, Field(ge=0)] = DEFAULT_CACHE_TTL_S
    copy_layers: bool = True  # those of COPY and ADD
    run_layers: bool = True
    push: bool = True  # store the layers that a build makes
    explain: bool = False  # tell for each step why it missed


class Timestamps(StrEnum):
    """What times an image carries where no SOURCE_DATE_EPOCH is given: those of the build, the source's own, 1970."""

    BUILD = "build"
    SOURCE = "source"
    ZERO = "zero"


class BuildArg(Model):
    """A build argument: its value, or the environment variable of the executor that holds it."""

    name: str
    value: str | None = None
    from_env: str = ""


class ContextSettings(Model):
    """The files that a build is given."""

    source: Source
    directory: str = "."  # of the source; relative to its root
    named: tuple[NamedContext, ...] = ()  # names are unique


class PlanSettings(Model):
    """Which Dockerfile is read, and what of it is built for which platform."""

    dockerfile: str = "Dockerfile"  # relative to the context; absolute paths and URLs are taken as they are
    target: str = ""  # a stage; empty: the last one
    build_args: tuple[BuildArg, ...] = ()
    labels: dict[str, str] = {}
    platform: str = ""  # os/architecture[/variant]; empty: the executor's own


class RunSettings(Model):
    """How RUN is isolated, and what its mounts are served from."""

    sandbox: SandboxKind = SandboxKind.AUTO
    secrets: tuple[SecretSource, ...] = ()  # ids are unique
    ssh: tuple[SshSource, ...] = ()  # ids are unique
    cache_dir: str = ""  # keeps RUN --mount=type=cache from build to build; empty: for this build only


class RegistryAccess(Model):
    """How registries are reached, and as whom."""

    insecure: bool = False  # for the destinations
    insecure_pull: bool = False
    skip_tls_verify: bool = False  # for the destinations
    skip_tls_verify_pull: bool = False
    hosts: tuple[RegistrySettings, ...] = ()
    docker_config_dir: str = ""  # holds config.json; empty: DOCKER_CONFIG, then ~/.docker
    credential_helpers: tuple[str, ...] | None = None  # env, google, ecr, acr, gitlab; None: all that are usable
    pull_retries: Annotated[int, Field(ge=0)] = 0  # in addition to the engine's own
    push_retries: Annotated[int, Field(ge=0)] = 0


class ImageSettings(Model):
    """What the image looks like: formats, times, and what becomes a layer."""

    format: Literal["", "oci", "docker"] = ""  # empty: that of the base image
    compression: Literal["gzip", "zstd"] = "gzip"  # of new layers
    compression_level: int | None = None  # None: the engine's default
    annotations: dict[str, str] = {}  # of the manifest
    timestamps: Timestamps = Timestamps.BUILD
    single_layer: bool = False  # everything that the last stage changes becomes one layer
    ignore_paths: tuple[str, ...] = ()  # absolute; RUN's layers leave out everything below them


class OutputSettings(Model):
    """Where the image and its digest are written."""

    destinations: tuple[str, ...] = ()
    push: bool = True
    check_push: bool = True  # before anything is built
    ignore_immutable_tags: bool = False  # a tag that the registry refuses to move is no failure
    oci_layout_path: str = ""
    tar_path: str = ""
    digest_file: str = ""
    image_name_with_digest_file: str = ""  # name@digest, one line per destination
    image_name_tag_with_digest_file: str = ""  # name:tag@digest, likewise
    result_file: str = ""  # the BuildResult as JSON


class BuildRequest(Model):
    """Everything that a build is made from, grouped by what reads it. Paths are the executor's."""

    version: Literal[1] = 1
    context: ContextSettings
    plan: PlanSettings = PlanSettings()
    run: RunSettings = RunSettings()
    registry: RegistryAccess = RegistryAccess()
    image: ImageSettings = ImageSettings()
    output: OutputSettings = OutputSettings()
    cache: CacheSettings | None = None  # of layers; None: every step is executed
    work_dir: str = ""  # for root file systems and blobs; empty: chosen by the engine

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

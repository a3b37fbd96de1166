"""``spec`` of an ImageBuild: everything that a person can ask for.

No I/O. The CRD is generated from these models (``crd``); ``validation`` refuses what this version can't do yet.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from imagewright.contract import DEFAULT_SSH_ID
from imagewright_operator.api.base import (
    BuildDuration,
    Duration,
    ImageTag,
    KeyReference,
    LocalReference,
    Model,
    ObjectName,
    RegistryHost,
    RelativePath,
    Repository,
    rule,
    rules,
)
from imagewright_operator.api.podtemplate import PodTemplate
from imagewright_operator.api.source import Source, choices


class Sandbox(StrEnum):
    """How RUN is isolated; see docs/sandbox.md."""

    AUTO = "Auto"
    NAMESPACE = "Namespace"
    CHROOT = "Chroot"
    ROOT = "Root"


class ConcurrencyPolicy(StrEnum):
    """What a change of spec does to a build that is running."""

    REPLACE = "Replace"
    QUEUE = "Queue"


class RetryCause(StrEnum):
    """Failures of the infrastructure, after which a build may be started again."""

    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    NODE_OUT_OF_MEMORY = "NodeOutOfMemory"


class Compression(StrEnum):
    GZIP = "Gzip"
    ZSTD = "Zstd"


class Format(StrEnum):
    OCI = "OCI"
    DOCKER = "Docker"


class Timestamp(StrEnum):
    ZERO = "Zero"
    SOURCE = "Source"
    BUILD = "Build"


class BuildArgSource(Model):
    """Where a build argument's value comes from. Not from a Secret: build arguments end up in the image's history."""

    config_map_key_ref: KeyReference = Field(description="Key of a ConfigMap.")


class BuildArg(Model):
    """A build argument, with its value or where to find it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.value) != has(self.valueFrom)", "write exactly one of value and valueFrom")
        )
    )

    name: Annotated[
        str,
        Field(
            max_length=128,
            description="As the Dockerfile's ARG names it.",
            json_schema_extra=rules(
                rule(
                    "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
                    "is not a build argument's name: write letters, digits and '_', as the Dockerfile's ARG does",
                )
            ),
        ),
    ]
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None,
        description="As in --build-arg NAME=VALUE. It ends up in the image's history: no place for secrets.",
    )
    value_from: BuildArgSource | None = Field(default=None, description="Read when the Pod starts.")


MountId = Annotated[
    str,
    Field(
        max_length=128,
        json_schema_extra=rules(
            rule(
                "self.matches('^[A-Za-z0-9_][-A-Za-z0-9_./:@]*$')",
                "is not an id of a mount: write letters, digits, '-', '_' and '.', as the Dockerfile's RUN --mount does",
            )
        ),
    ),
]


class BuildSecret(Model):
    """A secret for ``RUN --mount=type=secret,id=…``: a file of the executor Pod, never a variable of it."""

    id: MountId = Field(description="As the Dockerfile names it.")
    secret_key_ref: KeyReference = Field(description="Key of a Secret; the build waits until it is there.")


class BuildSsh(Model):
    """A private key for ``RUN --mount=type=ssh``: RUN sees an agent that signs with it, never the key."""

    id: MountId = Field(default=DEFAULT_SSH_ID, description="As the Dockerfile names it.")
    secret_key_ref: KeyReference = Field(
        description="Key of a Secret with a private key without passphrase, such as ssh-privatekey."
    )


_DOCKER = "has(self.format) && self.format == 'Docker'"


class Output(Model):
    """Where the image goes and what is written on it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.tags) && self.tags.size() > 0",
                "names no tags: write at least one image to push, such as tags: [registry.example.com/team/app:1.0]",
            ),
            rule(
                f"!({_DOCKER} && has(self.compression) && self.compression == 'Zstd')",
                "has format Docker and compression Zstd: Docker's media types have no zstd, write format: OCI",
            ),
            rule(
                f"!({_DOCKER} && has(self.annotations) && self.annotations.size() > 0)",
                "has format Docker and annotations: use labels, or write format: OCI",
            ),
            rule(
                "!has(self.compressionLevel) || (has(self.compression) && self.compression == 'Zstd' ? "
                "self.compressionLevel >= 1 : self.compressionLevel <= 9)",
                "has a compressionLevel that the compression has not: Gzip has 0 to 9, Zstd 1 to 22",
            ),
        )
    )

    tags: Annotated[list[ImageTag], Field(max_length=16, json_schema_extra=rules(list_type="set"))] = Field(
        default=[], description="Images to push, 1 to 16; all get the same digest."
    )
    push_secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret of type kubernetes.io/dockerconfigjson, as kubectl create secret docker-registry makes it.",
    )
    format: Format | None = Field(default=None, description="Media types; those of the base image if not given.")
    compression: Compression = Field(default=Compression.GZIP, description="Of new layers. Zstd makes an OCI image.")
    compression_level: Annotated[int, Field(ge=0, le=22)] | None = Field(
        default=None, description="Of the compressor: Gzip 0 to 9, Zstd 1 to 22; the engine's own choice if not given."
    )
    labels: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=128)] = Field(
        default={}, description="Labels of the image, as with --label; they win over the Dockerfile's."
    )
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=128)] = Field(
        default={}, description="Of the manifest, which then is an OCI one."
    )
    timestamp: Timestamp = Field(
        default=Timestamp.BUILD,
        description="Which times files and image bear: 1970's, the commit's (of a git source; else as Build), those of the build.",
    )
    insecure: bool = Field(default=False, description="Push over plain HTTP where HTTPS is not answered.")
    ca_bundle_ref: KeyReference | None = Field(
        default=None, description="Key of a ConfigMap with PEM certificates to trust beside the system's."
    )


class CacheVolume(Model):
    claim_name: ObjectName = Field(description="Of a PersistentVolumeClaim.")


class Cache(Model):
    """What is kept between builds."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.repository) || has(self.volume)", "write repository, volume, or both"),
            rule("!has(self.ttl) || has(self.repository)", "has a ttl without a repository that it is for"),
        )
    )

    repository: Repository | None = Field(
        default=None, description="Of a registry, without a tag: layers are taken from there, and new ones stored."
    )
    ttl: Duration | None = Field(default=None, description="Older layers are made anew; two weeks if not given.")
    volume: CacheVolume | None = Field(
        default=None, description="Where RUN --mount=type=cache lives. Builds that share it share what is in it."
    )


class Registry(Model):
    """How one registry is reached by this build."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.mirrorsOnly) && self.mirrorsOnly) || (has(self.mirrors) && self.mirrors.size() > 0)",
                "has mirrorsOnly without mirrors: name the mirrors that are to be asked",
            )
        )
    )

    host: RegistryHost = Field(description="As in image references; docker.io is Docker Hub.")
    mirrors: Annotated[list[Repository], Field(max_length=8)] = Field(
        default=[], description="Tried first, in order, when base images are pulled."
    )
    insecure: bool = Field(default=False, description="Plain HTTP where HTTPS is not answered, for pulls and pushes.")
    ca_bundle_ref: KeyReference | None = Field(default=None, description="Key of a ConfigMap with PEM certificates.")
    mirrors_only: bool = Field(
        default=False, description="An image that no mirror has is not asked for at the registry itself."
    )
    client_certificate_secret_ref: LocalReference | None = Field(
        default=None, description="Secret of type kubernetes.io/tls with the build's own certificate, for mutual TLS."
    )


class Retry(Model):
    """When to start again after a failure of the infrastructure. A failing RUN is never repeated."""

    limit: Annotated[int, Field(ge=0, le=8)] = Field(default=2, description="How often at most; 0 is never.")
    causes: Annotated[
        list[RetryCause],
        Field(
            max_length=8,
            description="Which failures are tried again; all of them if not given.",
            json_schema_extra=rules(list_type="set"),
        ),
    ] = list(RetryCause)  # not "on": YAML 1.1, which kubectl reads, takes that key for the word true


class Retention(Model):
    """How long things are kept after a build. The ImageBuild itself is never deleted."""

    pod_ttl: Annotated[Duration, Field(alias="podTTL", description="Of finished Pods and their logs.")] = "1h"
    history_limit: Annotated[int, Field(ge=0, le=50, description="Finished builds that status.history names.")] = 5


class Spec(Model):
    """What to build, and where to push it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.source)",
                f"names no source: write exactly one of {choices()} below spec.source",
            ),
            rule(
                "has(self.output)",
                "names no output: write the image to push below spec.output.tags, such as registry.example.com/team/app:1.0",
            ),
        )
    )

    source: Source = Field(default=Source(), description="Where the build context comes from; exactly one.")
    context_dir: RelativePath = Field(default=".", description="Folder of the source that is the build context.")
    dockerfile: RelativePath = Field(default="Dockerfile", description="Path of the Dockerfile in the context.")
    target: Annotated[
        str | None,
        Field(
            max_length=128,
            description="The stage to build; the last one if not given.",
            json_schema_extra=rules(
                rule(
                    "self.matches('^[-A-Za-z0-9_.]+$')", "is not a stage: write the name that follows AS in a FROM line"
                )
            ),
        ),
    ] = None
    build_args: Annotated[
        list[BuildArg],
        Field(
            max_length=128,
            description="Values for the Dockerfile's ARG instructions.",
            json_schema_extra=rules(list_type="map", list_map_keys=["name"]),
        ),
    ] = []
    secrets: Annotated[
        list[BuildSecret],
        Field(
            max_length=32,
            description="For RUN --mount=type=secret.",
            json_schema_extra=rules(list_type="map", list_map_keys=["id"]),
        ),
    ] = []
    ssh: Annotated[
        list[BuildSsh],
        Field(
            max_length=32,
            description="For RUN --mount=type=ssh.",
            json_schema_extra=rules(list_type="map", list_map_keys=["id"]),
        ),
    ] = []
    output: Output = Output()
    platforms: Annotated[
        list[
            Annotated[
                str,
                Field(
                    max_length=64,
                    json_schema_extra=rules(
                        rule(
                            "self.matches('^linux/[a-z0-9]+(/v[0-9]+)?$')",
                            "is not a platform: write linux/amd64 or linux/arm64",
                        )
                    ),
                ),
            ]
        ],
        Field(
            max_length=16,
            description="What to build for; if not given, the node that the Pod runs on. More than one is not supported yet.",
            json_schema_extra=rules(list_type="set"),
        ),
    ] = []
    cache: Cache | None = None
    registries: Annotated[
        list[Registry],
        Field(
            max_length=32,
            description="How registries are reached, beside what the installation says of them.",
            json_schema_extra=rules(list_type="map", list_map_keys=["host"]),
        ),
    ] = []
    timeout: BuildDuration = Field(default="1h", description="Of the running build; more than 0s, at most 24h.")
    start_timeout: BuildDuration = Field(default="10m", description="Of the time before it runs.")
    retry: Retry = Retry()
    suspend: bool = Field(default=False, description="true starts no new build.")
    cancelled: bool = Field(default=False, description="true ends a running build.")
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.REPLACE
    retention: Retention = Retention()
    sandbox: Sandbox = Sandbox.AUTO
    pod_template: PodTemplate = PodTemplate()

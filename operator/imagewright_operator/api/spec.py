"""``spec`` of an ImageBuild: the desired build.

No I/O. The CRD is generated from these models; ``validation`` refuses what this version does not support yet.
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
    host_rules,
    repository_rules,
    rule,
    rules,
    tag_rules,
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
    """What happens to a running build when the spec changes."""

    REPLACE = "Replace"
    QUEUE = "Queue"


class RetryCause(StrEnum):
    """A failure of the infrastructure, after which a build may be retried."""

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
    """The source of a build argument's value. Not a Secret: build arguments end up in the image's history."""

    config_map_key_ref: KeyReference = Field(description="Key of a ConfigMap.")


class BuildArg(Model):
    """A build argument, with its value or a reference to it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.value) != has(self.valueFrom)", "write exactly one of value and valueFrom")
        )
    )

    name: Annotated[
        str,
        Field(
            max_length=128,
            description="Name of the ARG instruction's variable.",
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
        description="Value of the argument. It is recorded in the image's history: do not put secrets here.",
    )
    value_from: BuildArgSource | None = Field(
        default=None, description="Source of the value, read when the Pod starts."
    )


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
    """A secret for ``RUN --mount=type=secret,id=…``, mounted as a file and never set as an environment variable."""

    id: MountId = Field(description="ID by which RUN --mount refers to the secret.")
    secret_key_ref: KeyReference = Field(description="Key of a Secret; the build waits until it exists.")


class BuildSsh(Model):
    """A private key for ``RUN --mount=type=ssh``: RUN can use an agent that signs with it, but cannot read the key."""

    id: MountId = Field(default=DEFAULT_SSH_ID, description="ID by which RUN --mount refers to the key.")
    secret_key_ref: KeyReference = Field(
        description="Key of a Secret with an unencrypted private key, such as ssh-privatekey."
    )


_DOCKER = "has(self.format) && self.format == 'Docker'"


class Output(Model):
    """The image to push: its references, format and metadata."""

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
            *tag_rules("tags"),
        )
    )

    tags: Annotated[list[ImageTag], Field(max_length=16, json_schema_extra=rules(list_type="set"))] = Field(
        default=[], description="Image references to push, 1 to 16; all get the same digest."
    )
    push_secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret of type kubernetes.io/dockerconfigjson with the credentials to push, as created by kubectl create secret docker-registry.",
    )
    format: Format | None = Field(
        default=None, description="Format of manifest and layers; that of the base image by default."
    )
    compression: Compression = Field(
        default=Compression.GZIP, description="Compression of new layers. Zstd implies an OCI image."
    )
    compression_level: Annotated[int, Field(ge=0, le=22)] | None = Field(
        default=None,
        description="Compression level: 0 to 9 for Gzip, 1 to 22 for Zstd; chosen by the engine by default.",
    )
    labels: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=128)] = Field(
        default={}, description="Labels of the image, as with --label; they override the Dockerfile's."
    )
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=128)] = Field(
        default={}, description="Annotations of the manifest, which is then an OCI manifest."
    )
    timestamp: Timestamp = Field(
        default=Timestamp.BUILD,
        description="Timestamps of files and image: Zero is 1970-01-01, Source that of the commit (of a git source; otherwise as Build), Build those of the build.",
    )
    insecure: bool = Field(default=False, description="Whether to push over plain HTTP if HTTPS does not answer.")
    ca_bundle_ref: KeyReference | None = Field(
        default=None, description="Key of a ConfigMap with PEM certificates to trust in addition to the system's."
    )


class CacheVolume(Model):
    claim_name: ObjectName = Field(description="Name of a PersistentVolumeClaim in the same namespace.")


class Cache(Model):
    """Caches that are kept between builds."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.repository) || has(self.from) || has(self.to) || has(self.volume)",
                "write at least one of repository, from, to and volume",
            ),
            rule(
                "!(has(self.repository) && has(self.to))",
                "has repository and to: write where layers are looked up into from, and where they are stored into to",
            ),
            rule(
                "!has(self.ttl) || has(self.repository) || has(self.from)",
                "has a ttl without a repository that it is for",
            ),
            *repository_rules("repository", "to", lists=["from"]),
        )
    )

    repository: Repository | None = Field(
        default=None, description="Repository of a registry, without a tag, in which layers are looked up and stored."
    )
    from_: Annotated[list[Repository], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        alias="from",
        description="Repositories in which layers are looked up as well, in this order, after the one in repository. "
        "Without repository and to, nothing is stored: so that pull requests use the cache of the main branch and cannot "
        "change it.",
    )
    to: Repository | None = Field(
        default=None,
        description="Repository in which layers are stored; they are looked up only in those of from. Not with "
        "repository, which is both.",
    )
    ttl: Duration | None = Field(default=None, description="Maximum age of a cached layer; two weeks by default.")
    volume: CacheVolume | None = Field(
        default=None, description="Volume for RUN --mount=type=cache. Builds with the same volume share its contents."
    )

    @property
    def repositories(self) -> dict[str, str]:
        """All repositories of layers, by their fields."""
        fields = {"repository": self.repository, "to": self.to}
        fields |= {f"from[{number}]": name for number, name in enumerate(self.from_ or ())}
        return {field: name for field, name in fields.items() if name is not None}


class Registry(Model):
    """Settings of this build for one registry."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.mirrorsOnly) && self.mirrorsOnly) || (has(self.mirrors) && self.mirrors.size() > 0)",
                "has mirrorsOnly without mirrors: name the mirrors that are to be asked",
            ),
            *host_rules("host"),
            *repository_rules(lists=["mirrors"]),
        )
    )

    host: RegistryHost = Field(description="Host of the registry, as in image references; docker.io is Docker Hub.")
    mirrors: Annotated[list[Repository], Field(max_length=8)] = Field(
        default=[], description="Mirrors to pull base images from, tried in this order before the registry itself."
    )
    insecure: bool = Field(
        default=False, description="Whether to pull and push over plain HTTP if HTTPS does not answer."
    )
    ca_bundle_ref: KeyReference | None = Field(
        default=None, description="Key of a ConfigMap with PEM certificates to trust."
    )
    mirrors_only: bool = Field(
        default=False, description="Whether to pull from the mirrors only, never from the registry itself."
    )
    client_certificate_secret_ref: LocalReference | None = Field(
        default=None, description="Secret of type kubernetes.io/tls with a client certificate, for mutual TLS."
    )


class Retry(Model):
    """Retries after failures of the infrastructure. A failing RUN is never retried."""

    limit: Annotated[int, Field(ge=0, le=8)] = Field(
        default=2, description="Maximum number of retries; 0 disables them."
    )
    causes: Annotated[
        list[RetryCause],
        Field(
            max_length=8,
            description="Failures to retry after; all of them by default.",
            json_schema_extra=rules(list_type="set"),
        ),
    ] = list(RetryCause)  # not "on": YAML 1.1, which kubectl reads, takes that key for the word true


class Retention(Model):
    """How long Pods and history are kept after a build. The ImageBuild itself is never deleted."""

    pod_ttl: Annotated[
        Duration, Field(alias="podTTL", description="How long finished Pods and their logs are kept.")
    ] = "1h"
    history_limit: Annotated[
        int, Field(ge=0, le=50, description="Number of finished builds to keep in status.history.")
    ] = 5


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

    source: Source = Field(default=Source(), description="Source of the build context; exactly one kind.")
    context_dir: RelativePath = Field(default=".", description="Folder of the source to use as the build context.")
    dockerfile: RelativePath = Field(default="Dockerfile", description="Path of the Dockerfile in the build context.")
    target: Annotated[
        str | None,
        Field(
            max_length=128,
            description="Stage to build; the last one by default.",
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
            description="Secrets for RUN --mount=type=secret.",
            json_schema_extra=rules(list_type="map", list_map_keys=["id"]),
        ),
    ] = []
    ssh: Annotated[
        list[BuildSsh],
        Field(
            max_length=32,
            description="Private keys for RUN --mount=type=ssh.",
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
            description="Platforms to build for; by default that of the node on which the Pod runs. More than one is not supported yet.",
            json_schema_extra=rules(list_type="set"),
        ),
    ] = []
    cache: Cache | None = None
    registries: Annotated[
        list[Registry],
        Field(
            max_length=32,
            description="Settings for registries, in addition to those of the installation.",
            json_schema_extra=rules(list_type="map", list_map_keys=["host"]),
        ),
    ] = []
    timeout: BuildDuration = Field(
        default="1h", description="Maximum duration of a running build; more than 0s, at most 24h."
    )
    start_timeout: BuildDuration = Field(
        default="10m", description="Maximum time until a build runs; more than 0s, at most 24h."
    )
    retry: Retry = Retry()
    suspend: bool = Field(default=False, description="Whether to start no new build; a running build continues.")
    cancelled: bool = Field(default=False, description="Whether to end a running build and start no other.")
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.REPLACE
    retention: Retention = Retention()
    sandbox: Sandbox = Sandbox.AUTO
    require_isolation: bool = Field(
        default=False,
        description="Whether to refuse the build if its RUN commands could read registry logins or other credentials.",
    )
    pod_template: PodTemplate = PodTemplate()

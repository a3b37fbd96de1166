"""``spec.source``: the source of the build context. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import (
    IS_DURATION,
    MAX_INLINE_BYTES,
    Json,
    KeyReference,
    LocalReference,
    Model,
    ObjectName,
    RelativePath,
    Repository,
    repository_rules,
    rule,
    rules,
)
from imagewright_operator.api.urlrules import expressions

Url = Annotated[str, Field(max_length=2048)]  # its rules are the object's: see urlrules


def _url_rules(kind: str, field: str = "url") -> list[Json]:
    return [rule(expression, message) for expression, message in expressions(kind, field)]


GitName = Annotated[
    str,
    Field(
        max_length=255,
        json_schema_extra=rules(
            rule(
                "self.matches('^[^-~^:?*\\\\[ ][^~^:?*\\\\[ ]*$') && !self.contains('..')",
                "is not a branch or tag: write its name as git shows it, such as main or v1.2.0",
            )
        ),
    ),
]
Commit = Annotated[
    str,
    Field(
        max_length=64,
        json_schema_extra=rules(
            rule(
                "self.matches('^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$')",
                "is not a full commit: write all 40 (or 64) hexadecimal digits, as git rev-parse HEAD prints them",
            )
        ),
    ),
]


PollInterval = Annotated[
    str,
    Field(
        max_length=16,
        json_schema_extra=rules(
            rule(IS_DURATION, "is not a duration: write it as 5m, 1h or 1h30m"),
            rule(
                f"!({IS_DURATION}) || duration(self) >= duration('1m')",
                "must be at least 1m: write it as 5m, 1h or 1h30m",
            ),
        ),
    ),
]


class GitRef(Model):
    """A branch or a tag, or a commit (with the branch or tag that holds it, if the server wants to know)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!(has(self.branch) && has(self.tag))", "write either branch or tag, not both"),
        )
    )

    branch: GitName | None = Field(default=None, description="Branch whose latest commit is built.")
    tag: GitName | None = Field(default=None, description="Tag whose commit is built.")
    commit: Commit | None = Field(default=None, description="Full commit hash, 40 or 64 hexadecimal digits.")


class SourceFields(Model):
    """The fields of a kind of source, named as in the request (``contract.sources``), or ``for_request`` maps them.

    A ``mounted`` source reaches the engine as a volume of the Pod.
    """

    mounted: ClassVar[bool] = False

    def for_request(self) -> Json:
        """The request's fields, but for its ``credentials_dir``."""
        return self.model_dump(exclude={"secret_ref"}, exclude_none=True)


class GitSource(SourceFields):
    """A git repository over https, http or ssh."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.poll) && has(self.ref) && has(self.ref.commit))",
                "a commit never moves: write either poll or ref.commit",
            ),
            *_url_rules("git"),
        )
    )

    url: Url = Field(description="URL of the repository; git:// is treated as https://, as in kaniko.")
    ref: GitRef | None = Field(
        default=None, description="Branch, tag or commit to check out; the remote's HEAD by default."
    )
    submodules: bool = Field(default=False, description="Whether to check out submodules as well.")
    depth: Annotated[
        int, Field(ge=0, le=1_000_000, description="Number of commits of history to fetch; 0 fetches all of it.")
    ] = 1
    poll: PollInterval | None = Field(
        default=None,
        description="Interval at which to check whether the branch or tag has moved, and to build if so; at least 1m. Never by default.",
    )
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with username and password, or bearerToken, or identity and known_hosts; optionally ca.crt.",
    )

    def for_request(self) -> Json:
        fields = {"url": self.url, "depth": self.depth, "submodules": self.submodules}
        ref = self.ref
        if ref is None:
            return fields
        kind = "branch" if ref.branch else "tag" if ref.tag else "any"
        return {**fields, "ref": ref.branch or ref.tag or "", "ref_type": kind, "commit": (ref.commit or "").lower()}


class HttpSource(SourceFields):
    """A tar archive at a URL."""

    model_config = ConfigDict(json_schema_extra=rules(*_url_rules("http")))

    url: Url = Field(description="URL of the archive.")
    sha256: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Expected SHA-256 of the archive, in hexadecimal.",
            json_schema_extra=rules(
                rule(
                    "self.matches('^[0-9a-f]{64}$')",
                    "is not a SHA-256: write 64 hexadecimal digits, as sha256sum prints them",
                )
            ),
        ),
    ] = None
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with username and password, or bearerToken; optionally ca.crt."
    )


class S3Source(SourceFields):
    """A tar archive in an S3 bucket."""

    model_config = ConfigDict(json_schema_extra=rules(*_url_rules("s3", "endpoint")))

    bucket: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Name of the bucket.")
    key: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Key of the archive in the bucket.")
    endpoint: Url | None = Field(default=None, description="URL of an S3-compatible server; Amazon's by default.")
    region: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Region of the bucket.")
    path_style: bool = Field(
        default=False, description="Whether to address the bucket in the path instead of the host name."
    )
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with accesskey and secretkey; without it, the service account's role is used."
    )


class GcsSource(SourceFields):
    """A tar archive in Google Cloud Storage."""

    bucket: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Name of the bucket.")
    object: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Name of the archive in the bucket."
    )
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with serviceaccount, a JSON key; without it, workload identity is used."
    )


class AzureBlobSource(SourceFields):
    """A tar archive in Azure Blob Storage."""

    model_config = ConfigDict(json_schema_extra=rules(*_url_rules("azureBlob")))

    url: Url = Field(description="URL of the archive.")
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with accountKey, or sasToken, or tenantId, clientId and clientSecret; without it, the Pod's identity is used.",
    )


class OciSource(SourceFields):
    """An OCI artifact that holds the context."""

    model_config = ConfigDict(json_schema_extra=rules(*repository_rules("image")))

    image: Repository = Field(description="Reference of the artifact, such as registry.example.com/team/context:1.0.")
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret of type kubernetes.io/dockerconfigjson with the registry's credentials."
    )


class InlineSource(SourceFields):
    """A Dockerfile in the resource itself, with an empty build context."""

    dockerfile: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_INLINE_BYTES,
            description="Text of the Dockerfile, at most 16 KiB of UTF-8; put a longer one into a ConfigMap or a git repository.",
            json_schema_extra=rules(
                rule(
                    f"bytes(self).size() <= {MAX_INLINE_BYTES}",
                    "is longer than 16 KiB of UTF-8: put it into a ConfigMap or a git repository",
                )
            ),
        ),
    ]


class ConfigMapSource(SourceFields, LocalReference):
    """Name of a ConfigMap in the same namespace."""

    mounted = True


class VolumeSource(SourceFields):
    """A folder of a PersistentVolumeClaim."""

    mounted = True

    claim_name: ObjectName = Field(description="Name of a PersistentVolumeClaim in the same namespace.")
    sub_path: RelativePath | None = Field(default=None, description="Folder of the volume; its root by default.")


def _exactly_one(schema: Json) -> None:
    """The rules of ``spec.source``, for whatever fields it has."""
    given = f"[{', '.join(f'has(self.{name})' for name in schema['properties'])}]"
    schema |= rules(
        rule(f"{given}.exists(x, x)", f"names no source: write exactly one of {choices()}"),
        rule(f"{given}.filter(x, x).size() < 2", f"names more than one source: keep exactly one of {choices()}"),
    )


class Source(Model):
    """The source of the build context; exactly one kind."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    git: GitSource | None = None
    http: HttpSource | None = None
    s3: S3Source | None = None
    gcs: GcsSource | None = None
    azure_blob: AzureBlobSource | None = None
    oci: OciSource | None = None
    config_map: ConfigMapSource | None = Field(
        default=None, description="ConfigMap whose keys are the files of the build context."
    )
    inline: InlineSource | None = None
    volume: VolumeSource | None = None

    @property
    def given(self) -> Mapping[str, SourceFields]:
        """What is set, by the field's name as users write it; a spec that can be built has exactly one."""
        values = {str(field.alias): getattr(self, name) for name, field in Source.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def secret_ref(self) -> LocalReference | None:
        """The Secret with the login for what is given."""
        return next((getattr(value, "secret_ref", None) for value in self.given.values()), None)


def choices() -> str:
    """The fields of ``spec.source``, for messages."""
    *names, last = (str(field.alias) for field in Source.model_fields.values())
    return f"{', '.join(names)} or {last}"


__all__ = ["GitRef", "GitSource", "InlineSource", "KeyReference", "LocalReference", "Source", "SourceFields", "choices"]

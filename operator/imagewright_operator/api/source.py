"""Where a build's context comes from: ``spec.source``.

No I/O. Called by ``api.spec``; ``manifests`` turns it into the contract's sources, ``validation`` says which of them
this version can build from.
"""

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
    rule,
    rules,
)

Url = Annotated[
    str,
    Field(
        max_length=2048,
        json_schema_extra=rules(
            rule("self.matches('^https?://[^ ]+$')", "is not a URL: write https://host/path"),
            rule(
                "!self.matches('^[a-z]+://[^/@]*@')",
                "must not hold a login: put it into a Secret and name that in secretRef",
            ),
        ),
    ),
]
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

    branch: GitName | None = Field(default=None, description="Its newest commit when the build starts.")
    tag: GitName | None = Field(default=None, description="The commit that the tag names.")
    commit: Commit | None = Field(default=None, description="A whole commit hash, 40 or 64 hexadecimal digits.")


class SourceFields(Model):
    """The fields of a kind of source. They are named as the request's (``contract.sources``), or ``for_request`` maps them.

    What is ``mounted`` reaches the engine as a volume of the Pod.
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
        )
    )

    url: Annotated[
        str,
        Field(
            max_length=2048,
            description="Address of the repository; git:// means https, as in kaniko.",
            json_schema_extra=rules(
                rule(
                    "self.matches('^(https?|git|ssh)://[^ ]+$') || self.matches('^[-A-Za-z0-9_.]+@[-A-Za-z0-9.]+:[^ ]+$')",
                    "is not the address of a git repository: write https://host/team/repository.git or git@host:team/repository.git",
                ),
                rule(
                    "!self.matches('^[a-z]+://[^/@]*:[^/@]*@') && !self.matches('^(https?|git)://[^/@]*@')",
                    "must not hold a login: put username and password into a Secret and name it in secretRef",
                ),
            ),
        ),
    ]
    ref: GitRef | None = Field(default=None, description="What to check out; without it the remote's HEAD.")
    submodules: bool = Field(default=False, description="Check out submodules too.")
    depth: Annotated[int, Field(ge=0, le=1_000_000, description="Commits of history to fetch; 0 is all of it.")] = 1
    poll: PollInterval | None = Field(
        default=None,
        description="How often to see whether the branch or tag has moved, and to build then; at least 1m. If not given, never.",
    )
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with username and password, or bearerToken, or identity and known_hosts; and ca.crt where needed.",
    )

    def for_request(self) -> Json:
        fields = {"url": self.url, "depth": self.depth, "submodules": self.submodules}
        ref = self.ref
        if ref is None:
            return fields
        kind = "branch" if ref.branch else "tag" if ref.tag else "any"
        return {**fields, "ref": ref.branch or ref.tag or "", "ref_type": kind, "commit": (ref.commit or "").lower()}


class HttpSource(SourceFields):
    """A tar archive behind a URL."""

    url: Url = Field(description="Of the archive.")
    sha256: Annotated[
        str | None,
        Field(
            max_length=64,
            description="What the archive must hash to.",
            json_schema_extra=rules(
                rule(
                    "self.matches('^[0-9a-f]{64}$')",
                    "is not a SHA-256: write 64 hexadecimal digits, as sha256sum prints them",
                )
            ),
        ),
    ] = None
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with username and password or bearerToken, and ca.crt where needed."
    )


class S3Source(SourceFields):
    """A tar archive in an S3 bucket."""

    bucket: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Its name.")
    key: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Of the archive.")
    endpoint: Url | None = Field(default=None, description="Of a server other than Amazon's.")
    region: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Of the bucket.")
    path_style: bool = Field(default=False, description="The bucket is in the path, not in the host's name.")
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with accesskey and secretkey; without it, the service account's role."
    )


class GcsSource(SourceFields):
    """A tar archive in Google Cloud Storage."""

    bucket: Annotated[str, Field(min_length=1, max_length=255)] = Field(description="Its name.")
    object: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Of the archive.")
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret with serviceaccount, a JSON key; without it, workload identity."
    )


class AzureBlobSource(SourceFields):
    """A tar archive in Azure Blob Storage."""

    url: Url = Field(description="Of the archive.")
    secret_ref: LocalReference | None = Field(
        default=None,
        description="Secret with accountKey, sasToken, or tenantId, clientId and clientSecret; without it, the identity.",
    )


class OciSource(SourceFields):
    """An OCI artifact that holds the context."""

    image: Repository = Field(description="Reference of the artifact.")
    secret_ref: LocalReference | None = Field(
        default=None, description="Secret of type kubernetes.io/dockerconfigjson."
    )


class InlineSource(SourceFields):
    """A Dockerfile written right here, with an empty context."""

    dockerfile: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_INLINE_BYTES,
            description="At most 16 KiB of UTF-8; a longer one goes into a ConfigMap or a git repository.",
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

    claim_name: ObjectName = Field(description="Of the PersistentVolumeClaim.")
    sub_path: RelativePath | None = Field(default=None, description="Folder of the volume.")


def _exactly_one(schema: Json) -> None:
    """The rules of ``spec.source``, for whatever fields it has."""
    given = f"[{', '.join(f'has(self.{name})' for name in schema['properties'])}]"
    schema |= rules(
        rule(f"{given}.exists(x, x)", f"names no source: write exactly one of {choices()}"),
        rule(f"{given}.filter(x, x).size() < 2", f"names more than one source: keep exactly one of {choices()}"),
    )


class Source(Model):
    """Exactly one place that the build context comes from."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    git: GitSource | None = None
    http: HttpSource | None = None
    s3: S3Source | None = None
    gcs: GcsSource | None = None
    azure_blob: AzureBlobSource | None = None
    oci: OciSource | None = None
    config_map: ConfigMapSource | None = Field(default=None, description="Its keys are the files of the context.")
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

"""Where the files of a build come from: the kinds of source, in one table, and named contexts.

No I/O. To add a kind, write its model and its row of ``KINDS`` here, a fetcher in ``context`` with its entry in
``context.fetch``, and its field in the resource's ``api.source``. Help, hints, the request, the Pod's mounts, kubectl's
conversion and the pages in docs follow from these.
"""

from __future__ import annotations

from typing import Literal

from imagewright.errors import Reason
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A source of a build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSource(SourceModel):
    """A source that may take a login.

    ``credentials_dir`` is a mounted Secret with keys of the kind's row; "" for none.
    """

    credentials_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySource(SourceModel):
    """A directory on the executor's file system."""

    kind: Literal["directory"] = "directory"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSource(SourceModel):
    """A tar archive, compressed or not; path ``-`` is standard input."""

    kind: Literal["tar"] = "tar"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource(LoginSource):
    """A git repository. ``ref`` is a branch, tag or full ref (empty: the remote's HEAD); ``commit`` pins it."""

    kind: Literal["git"] = "git"
    url: str
    ref: str = ""
    ref_type: Literal["any", "branch", "tag"] = "any"
    commit: str = ""
    subdir: str = ""
    depth: int = 1  # commits; 0 is the whole history
    submodules: bool = False
    insecure_skip_tls_verify: bool = False

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError("depth is negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureBlobSource(LoginSource):
    """A tar archive in Azure Blob Storage: ``url`` is ``https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB``."""

    kind: Literal["azureBlob"] = "azureBlob"
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpArchiveSource(LoginSource):
    """A tar archive, compressed or not, at an http(s) URL. ``sha256`` pins it (64 hexadecimal digits)."""

    kind: Literal["httpArchive"] = "httpArchive"
    url: str
    sha256: str = ""
    insecure_skip_tls_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Source(LoginSource):
    """A tar archive in an S3 bucket. ``endpoint`` (an http(s) URL) and ``region`` empty: the SDK's defaults."""

    kind: Literal["s3"] = "s3"
    bucket: str
    key: str
    endpoint: str = ""
    region: str = ""
    path_style: bool = False  # http://endpoint/bucket/key, which most servers other than Amazon's need


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsSource(LoginSource):
    """A tar archive in a Google Cloud Storage bucket."""

    kind: Literal["gcs"] = "gcs"
    bucket: str
    object: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OciSource(LoginSource):
    """An OCI artifact in a registry whose only layer is a tar archive, as Flux pushes them.

    ``credentials_dir`` holds a config.json; empty: the whole build's.
    """

    kind: Literal["oci"] = "oci"
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapSource(SourceModel):
    """A mounted ConfigMap: its keys become plain files, without the kubelet's ``..data`` links."""

    kind: Literal["configMap"] = "configMap"
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineSource(SourceModel):
    """A Dockerfile without a context."""

    kind: Literal["inline"] = "inline"
    dockerfile: str


Source = (
    DirectorySource
    | TarSource
    | GitSource
    | AzureBlobSource
    | HttpArchiveSource
    | S3Source
    | GcsSource
    | OciSource
    | ConfigMapSource
    | InlineSource
)


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of source, as the command line, the resource and the docs have it."""

    model: type[SourceModel]
    summary: str  # a noun phrase
    schemes: tuple[str, ...] = ()  # what addresses on the command line start with
    forms: tuple[str, ...] = ()  # such addresses, as help, hints and docs show them
    field: str = ""  # of spec.source; empty: the resource has none
    secret_keys: tuple[str, ...] = ()  # of the Secret that the resource's secretRef names
    login_variables: tuple[str, ...] = ()  # of the environment: the login, where there is no Secret
    address_variables: tuple[str, ...] = ()  # of the environment: what an address on the command line leaves out
    auth_reason: Reason = Reason.SOURCE_AUTH_FAILED


_WEB_LOGIN = ("username", "password", "bearerToken")
DOCKER_CONFIG_KEY = ".dockerconfigjson"  # of Secrets of type kubernetes.io/dockerconfigjson

# Where several kinds share a scheme, the first whose parser accepts the address has it.
KINDS: tuple[SourceKind, ...] = (
    SourceKind(DirectorySource, "a directory", ("dir://",), ("PATH", "dir://PATH"), field="volume"),
    SourceKind(TarSource, "a tar archive, or one on standard input", ("tar://",), ("tar://FILE", "tar://stdin")),
    SourceKind(
        GitSource,
        "a git repository",
        ("git://", "ssh://", "git@", "https://", "http://"),
        ("git://HOST/PATH", "https://HOST/PATH.git", "ssh://git@HOST/PATH", "git@HOST:PATH"),
        field="git",
        secret_keys=(*_WEB_LOGIN, "identity", "known_hosts", "ca.crt"),
        login_variables=("GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN"),
        auth_reason=Reason.GIT_AUTH_FAILED,
    ),
    SourceKind(
        AzureBlobSource,
        "an archive in Azure Blob Storage",
        ("https://", "http://"),
        ("https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",),
        field="azureBlob",
        secret_keys=("accountKey", "sasToken", "tenantId", "clientId", "clientSecret"),
        login_variables=("AZURE_STORAGE_ACCESS_KEY",),
    ),
    SourceKind(
        HttpArchiveSource,
        "an archive on a web server",
        ("https://", "http://"),
        ("https://HOST/PATH.tar.gz",),
        field="http",
        secret_keys=(*_WEB_LOGIN, "ca.crt"),
    ),
    SourceKind(
        S3Source,
        "an archive in an S3 bucket",
        ("s3://",),
        ("s3://BUCKET/KEY",),
        field="s3",
        secret_keys=(
            *("accesskey", "secretkey", "sessiontoken"),  # Flux's names, then the environment's
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        ),
        login_variables=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        address_variables=("S3_ENDPOINT", "S3_FORCE_PATH_STYLE", "AWS_REGION"),
    ),
    SourceKind(
        GcsSource,
        "an archive in Google Cloud Storage",
        ("gs://",),
        ("gs://BUCKET/OBJECT",),
        field="gcs",
        secret_keys=("serviceaccount",),
        login_variables=("GOOGLE_APPLICATION_CREDENTIALS",),
    ),
    SourceKind(
        OciSource,
        "an OCI artifact whose only layer is an archive",
        ("oci://",),
        ("oci://REFERENCE",),
        field="oci",
        secret_keys=(DOCKER_CONFIG_KEY,),
        auth_reason=Reason.REGISTRY_AUTH_FAILED,
    ),
    SourceKind(ConfigMapSource, "the keys of a ConfigMap as files", field="configMap"),
    SourceKind(InlineSource, "a Dockerfile without a context", field="inline"),
)


def kind_of(source: SourceModel) -> SourceKind:
    """The row of a source's kind."""
    return next(kind for kind in KINDS if kind.model is type(source))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSource:
    """A file at an http(s) URL; the context is that one file, called ``context``, as in BuildKit."""

    kind: Literal["http"] = "http"
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """The files of an image in a registry; as a named context also a base image, with its configuration."""

    kind: Literal["image"] = "image"
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutSource:
    """An image in an OCI image layout on the executor's file system; without tag and digest, the only one in it."""

    kind: Literal["ociLayout"] = "ociLayout"
    path: str
    tag: str = ""
    digest: str = ""


ContextSource = DirectorySource | GitSource | HttpSource | ImageSource | LayoutSource


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContext:
    """The replacement of the stage or image called ``name`` in FROM, COPY --from and RUN --mount=from.

    ``name`` is as in the Dockerfile: a stage's name in lower case, or an image's short name, ``alpine`` or
    ``alpine:3.20`` (never with ``docker.io/library/`` or ``:latest``).
    """

    name: str
    source: ContextSource

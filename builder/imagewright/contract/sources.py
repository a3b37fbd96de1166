"""Where the files of a build come from: the build's own source, and named contexts.

No I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imagewright.contract import Model


class DirectorySource(Model):
    """A folder on the executor's file system."""

    kind: Literal["directory"] = "directory"
    path: str


class ConfigMapSource(Model):
    """A mounted ConfigMap: its keys become plain files, without the kubelet's ``..data`` links."""

    kind: Literal["configMap"] = "configMap"
    path: str


class InlineSource(Model):
    """A Dockerfile without a context."""

    kind: Literal["inline"] = "inline"
    dockerfile: str


class TarSource(Model):
    """A tar archive, compressed or not; path ``-`` is standard input."""

    kind: Literal["tar"] = "tar"
    path: str


class GitSource(Model):
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


class HttpArchiveSource(Model):
    """A tar archive, compressed or not, behind an http(s) address.

    ``sha256`` pins it (64 hexadecimal digits). ``credentials_dir`` is a mounted Secret: ``username`` and ``password``,
    or ``bearerToken``, and ``ca.crt``.
    """

    kind: Literal["httpArchive"] = "httpArchive"
    url: str
    sha256: str = ""
    credentials_dir: str = ""
    insecure_skip_tls_verify: bool = False


class S3Source(Model):
    """A tar archive in an S3 bucket. ``endpoint`` (an http(s) address) and ``region`` empty: what the SDK's chain says.

    ``credentials_dir`` is a mounted Secret with ``accesskey`` and ``secretkey`` (Flux) or the names of the environment
    variables; without it, the SDK's chain: environment, files, web identity, the machine's role.
    """

    kind: Literal["s3"] = "s3"
    bucket: str
    key: str
    endpoint: str = ""
    region: str = ""
    path_style: bool = False  # http://endpoint/bucket/key; what most servers beside Amazon's need
    credentials_dir: str = ""


class GcsSource(Model):
    """A tar archive in a Google Cloud Storage bucket.

    ``credentials_dir`` is a mounted Secret with ``serviceaccount`` (a JSON key); without it, the SDK's chain.
    """

    kind: Literal["gcs"] = "gcs"
    bucket: str
    object: str
    credentials_dir: str = ""


class AzureBlobSource(Model):
    """A tar archive in Azure Blob Storage: ``url`` is ``https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH``.

    ``credentials_dir`` is a mounted Secret with ``accountKey`` or ``sasToken`` or ``tenantId``, ``clientId`` and
    ``clientSecret``; without it, AZURE_STORAGE_ACCESS_KEY, then the SDK's chain.
    """

    kind: Literal["azureBlob"] = "azureBlob"
    url: str
    credentials_dir: str = ""


class OciSource(Model):
    """An OCI artifact in a registry that holds the context: its only layer is a tar archive (as Flux pushes them).

    ``docker_config_dir`` holds the config.json with the login for it; empty: that of the whole build.
    """

    kind: Literal["oci"] = "oci"
    reference: str
    docker_config_dir: str = ""


Source = Annotated[
    DirectorySource
    | ConfigMapSource
    | InlineSource
    | TarSource
    | GitSource
    | HttpArchiveSource
    | S3Source
    | GcsSource
    | AzureBlobSource
    | OciSource,
    Field(discriminator="kind"),
]


class HttpSource(Model):
    """A file behind an http(s) address; the context is that one file, called ``context``, as in BuildKit."""

    kind: Literal["http"] = "http"
    url: str


class ImageSource(Model):
    """The files of an image in a registry; as a named context also a base image, with its configuration."""

    kind: Literal["image"] = "image"
    reference: str


class LayoutSource(Model):
    """An image in an OCI image layout on the executor's file system; without tag and digest, the only one in it."""

    kind: Literal["ociLayout"] = "ociLayout"
    path: str
    tag: str = ""
    digest: str = ""


ContextSource = Annotated[
    DirectorySource | GitSource | HttpSource | ImageSource | LayoutSource, Field(discriminator="kind")
]


class NamedContext(Model):
    """What takes the place of the stage or image called ``name`` in FROM, COPY --from and RUN --mount=from.

    ``name`` is as in the Dockerfile: a stage's name in lower case, or an image as people write it, ``alpine`` or
    ``alpine:3.20`` (never with ``docker.io/library/`` or ``:latest``).
    """

    name: str
    source: ContextSource

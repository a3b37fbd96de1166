"""What the executor is asked for: an ImageBuild's spec as a BuildRequest.

No I/O. Called by ``manifests`` and ``validation``. A request holds no secret: names of files and of environment variables only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from imagewright.contract import DEFAULT_CACHE_TTL_S, sources
from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    CacheSettings,
    ContextSettings,
    ImageSettings,
    OutputSettings,
    PlanSettings,
    RegistryAccess,
    RegistrySettings,
    RunSettings,
    SandboxKind,
    SecretSource,
    SshSource,
    Timestamps,
)
from imagewright.reference import Reference
from imagewright_operator.api import ImageBuild, Spec
from imagewright_operator.api.base import Json, LocalReference, parse_duration
from imagewright_operator.api.source import Source
from imagewright_operator.api.spec import Compression, Format
from imagewright_operator.pods.volumes import (
    BUILD_CA_DIR,
    CACHE_DIR,
    CLIENT_CERTIFICATES_DIR,
    CONTEXT_DIR,
    DOCKER_CONFIG_DIR,
    OUTPUT_CA,
    REGISTRY_CA_DIR,
    SECRETS_DIR,
    SOURCE_CREDENTIALS_DIR,
    SSH_KEYS_DIR,
    WORK_DIR,
    registry_ca,
)
from imagewright_operator.settings import Settings

_FORMATS: Mapping[Format | None, Literal["", "oci", "docker"]] = {None: "", Format.OCI: "oci", Format.DOCKER: "docker"}


def build_request(imagebuild: ImageBuild, settings: Settings) -> BuildRequest:
    """The request for a spec that ``validation`` lets pass."""
    spec, output = imagebuild.spec, imagebuild.spec.output
    return BuildRequest(
        context=ContextSettings(source=_source(spec.source), directory=spec.context_dir),
        plan=PlanSettings(
            dockerfile=spec.dockerfile,
            target=spec.target or "",
            build_args=tuple(
                BuildArg(name=arg.name, value=arg.value)
                if arg.value_from is None
                else BuildArg(name=arg.name, from_env=arg_variable(index))
                for index, arg in enumerate(spec.build_args)
            ),
            labels=dict(output.labels),
            platform=spec.platforms[0] if spec.platforms else "",
        ),
        run=RunSettings(
            sandbox=SandboxKind(spec.sandbox.value.lower()),
            secrets=tuple(
                SecretSource(id=secret.id, file=f"{SECRETS_DIR}/{index}") for index, secret in enumerate(spec.secrets)
            ),
            ssh=tuple(SshSource(id=key.id, paths=(f"{SSH_KEYS_DIR}/{index}",)) for index, key in enumerate(spec.ssh)),
            cache_dir=CACHE_DIR if spec.cache is not None and spec.cache.volume is not None else "",
        ),
        registry=RegistryAccess(
            insecure=output.insecure,
            hosts=_registries(spec, settings),
            docker_config_dir=DOCKER_CONFIG_DIR if output.push_secret_ref else "",
        ),
        image=ImageSettings(
            format=_FORMATS[output.format],
            compression="zstd" if output.compression is Compression.ZSTD else "gzip",
            compression_level=output.compression_level,
            annotations=dict(output.annotations),
            timestamps=Timestamps(output.timestamp.value.lower()),
        ),
        output=OutputSettings(destinations=tuple(output.tags)),
        cache=_cache(spec),
        work_dir=WORK_DIR,
    )


def _cache(spec: Spec) -> CacheSettings | None:
    if spec.cache is None or spec.cache.repository is None:
        return None
    ttl_s = int(parse_duration(spec.cache.ttl).total_seconds()) if spec.cache.ttl else DEFAULT_CACHE_TTL_S
    return CacheSettings(repository=spec.cache.repository, ttl_s=ttl_s)


def _source(source: Source) -> sources.Source:
    """The one source that is given."""
    if source.git is not None:
        git = source.git
        ref = git.ref
        return sources.GitSource(
            url=git.url,
            ref=(ref.branch or ref.tag or "") if ref else "",
            ref_type=("branch" if ref.branch else "tag" if ref.tag else "any") if ref else "any",
            commit=(ref.commit or "").lower() if ref else "",
            depth=git.depth,
            submodules=git.submodules,
            credentials_dir=_credentials(git.secret_ref),
        )
    if source.http is not None:
        login = _credentials(source.http.secret_ref)
        return sources.HttpArchiveSource(url=source.http.url, sha256=source.http.sha256 or "", credentials_dir=login)
    if source.s3 is not None:
        s3 = source.s3
        return sources.S3Source(
            bucket=s3.bucket,
            key=s3.key,
            endpoint=s3.endpoint or "",
            region=s3.region or "",
            path_style=s3.path_style,
            credentials_dir=_credentials(s3.secret_ref),
        )
    if source.gcs is not None:
        gcs = source.gcs
        return sources.GcsSource(bucket=gcs.bucket, object=gcs.object, credentials_dir=_credentials(gcs.secret_ref))
    if source.azure_blob is not None:
        blob = source.azure_blob
        return sources.AzureBlobSource(url=blob.url, credentials_dir=_credentials(blob.secret_ref))
    if source.oci is not None:
        return sources.OciSource(reference=source.oci.image, docker_config_dir=_credentials(source.oci.secret_ref))
    if source.config_map is not None:
        return sources.ConfigMapSource(path=CONTEXT_DIR)
    if source.volume is not None:
        return sources.DirectorySource(path=CONTEXT_DIR)
    assert source.inline is not None, "validation lets only exactly one source pass"
    return sources.InlineSource(dockerfile=source.inline.dockerfile)


def _credentials(reference: LocalReference | None) -> str:
    return SOURCE_CREDENTIALS_DIR if reference is not None else ""


def _registries(spec: Spec, settings: Settings) -> tuple[RegistrySettings, ...]:
    """The installation's, overlaid by what the build says about a registry."""
    by_host = {registry.host: _with_ca_path(registry) for registry in settings.registries}
    for index, registry in enumerate(spec.registries):
        known = by_host.get(registry.host, RegistrySettings(host=registry.host))
        update: Json = {"insecure": registry.insecure or known.insecure}
        if registry.mirrors:
            update["mirrors"] = tuple(registry.mirrors)
            update["mirrors_only"] = registry.mirrors_only or known.mirrors_only
        if registry.ca_bundle_ref is not None:
            update["ca_file"] = f"{BUILD_CA_DIR}/{registry_ca(index)}"
        if registry.client_certificate_secret_ref is not None:
            folder = f"{CLIENT_CERTIFICATES_DIR}/{index}"
            update |= {"client_cert_file": f"{folder}/tls.crt", "client_key_file": f"{folder}/tls.key"}
        by_host[registry.host] = known.model_copy(update=update)
    if spec.output.ca_bundle_ref is not None:
        for tag in spec.output.tags:
            host = Reference.parse(tag).registry
            known = by_host.get(host, RegistrySettings(host=host))
            by_host[host] = known.model_copy(update={"ca_file": f"{BUILD_CA_DIR}/{OUTPUT_CA}"})
    return tuple(by_host.values())


def _with_ca_path(registry: RegistrySettings) -> RegistrySettings:
    """The installation names a key of its ConfigMap; the executor wants the file that it becomes."""
    if not registry.ca_file or registry.ca_file.startswith("/"):
        return registry
    return registry.model_copy(update={"ca_file": f"{REGISTRY_CA_DIR}/{registry.ca_file}"})


def arg_variable(index: int) -> str:
    """The variable of the executor that holds ``spec.buildArgs[index]``."""
    return f"IMAGEWRIGHT_BUILD_ARG_{index}"

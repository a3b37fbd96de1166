"""The request to the executor: an ImageBuild's spec as a BuildRequest.

No I/O. A request contains no secret, only names of files and of environment variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from imagewright.contract import DEFAULT_CACHE_TTL_S, RUNNER_SOCKET
from imagewright.contract.coding import kind_name, read
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
from imagewright.contract.sources import KINDS
from imagewright.reference import Reference
from imagewright_operator.api import ImageBuild, Spec
from imagewright_operator.api.base import Json, parse_duration
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
    has_runner,
    registry_ca,
)
from imagewright_operator.settings import Settings

_FORMATS: Mapping[Format | None, Literal["", "oci", "docker"]] = {None: "", Format.OCI: "oci", Format.DOCKER: "docker"}


def build_request(imagebuild: ImageBuild, settings: Settings) -> BuildRequest:
    """The request for a valid spec."""
    spec, output = imagebuild.spec, imagebuild.spec.output
    return BuildRequest(
        context=_context(spec),
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
            runner_socket=RUNNER_SOCKET if has_runner(spec) else "",
            require_isolation=spec.require_isolation or settings.require_isolation,
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
    if spec.cache is None or not spec.cache.repositories:
        return None
    ttl_s = int(parse_duration(spec.cache.ttl).total_seconds()) if spec.cache.ttl else DEFAULT_CACHE_TTL_S
    own = (spec.cache.repository,) if spec.cache.repository is not None else ()
    target = spec.cache.repository or spec.cache.to or ""
    return CacheSettings(sources=(*own, *(spec.cache.from_ or ())), target=target, ttl_s=ttl_s)


def _context(spec: Spec) -> ContextSettings:
    """The source's fields, and where the Pod mounts what belongs to it."""
    ((name, given),) = spec.source.given.items()
    model = next(kind.model for kind in KINDS if kind.field == name)
    fields = {"path": CONTEXT_DIR} if given.mounted else given.for_request()
    if spec.source.secret_ref is not None:
        fields["credentials_dir"] = SOURCE_CREDENTIALS_DIR
    source = {"kind": kind_name(model), **fields}
    return read(ContextSettings, {"source": source, "directory": spec.context_dir})


def _registries(spec: Spec, settings: Settings) -> tuple[RegistrySettings, ...]:
    """The installation's registries, overridden by the build's."""
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
        by_host[registry.host] = replace(known, **update)
    if spec.output.ca_bundle_ref is not None:
        for tag in spec.output.tags:
            host = Reference.parse(tag).registry
            known = by_host.get(host, RegistrySettings(host=host))
            by_host[host] = replace(known, ca_file=f"{BUILD_CA_DIR}/{OUTPUT_CA}")
    return tuple(by_host.values())


def _with_ca_path(registry: RegistrySettings) -> RegistrySettings:
    """Replace the key of the installation's ConfigMap by the path of the mounted file."""
    if not registry.ca_file or registry.ca_file.startswith("/"):
        return registry
    return replace(registry, ca_file=f"{REGISTRY_CA_DIR}/{registry.ca_file}")


def arg_variable(index: int) -> str:
    """The environment variable of the executor with the value of ``spec.buildArgs[index]``."""
    return f"IMAGEWRIGHT_BUILD_ARG_{index}"

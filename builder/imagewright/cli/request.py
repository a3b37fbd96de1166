"""Flags become a BuildRequest.

Looks whether named files are there and reads none. Called by ``cli.commands``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from imagewright.cli.arguments import Arguments
from imagewright.cli.caching import cache_settings
from imagewright.cli.contexts import named_contexts, parse_context, with_git_options
from imagewright.cli.registries import registry_settings
from imagewright.cli.secrets import secret_sources, ssh_sources
from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    ContextSettings,
    ImageSettings,
    OutputSettings,
    PlanSettings,
    RegistryAccess,
    RunSettings,
    SandboxKind,
    Timestamps,
)
from imagewright.contract.sources import Source, TarSource
from imagewright.errors import UsageError
from imagewright.fs.rootfs.mounts import mounts_below
from imagewright.registry.clouds import CREDENTIAL_HELPERS
from imagewright.sandbox.choose import IMAGE_MARKER
from imagewright.streams import STANDARD_INPUT, own_descriptor, stream_name

_CACHE_DIR = "/cache"
_FORMATS: Mapping[str, Literal["", "oci", "docker"]] = {"": "", "oci": "oci", "docker": "docker"}


def build_request(arguments: Arguments, environment: Mapping[str, str]) -> BuildRequest:
    """The request that a command line asks for.

    Raises:
        UsageError: for values that can't be read.
        UnsupportedError: for kinds of context and of ssh that this release doesn't have.
    """
    source = _source(arguments, environment)
    folder = arguments.text("context-sub-path") or "."
    if ".." in folder.split("/"):
        raise UsageError(f"--context-sub-path={folder}: '..' leads out of the context", hint="Name a folder inside it.")
    sandbox = arguments.text("sandbox", "auto")
    if sandbox not in set(SandboxKind):
        raise UsageError(f"--sandbox={sandbox}: not auto, namespace, root or chroot")
    request = BuildRequest(
        context=ContextSettings(source=source, directory=folder, named=named_contexts(arguments.all("build-context"))),
        plan=PlanSettings(
            dockerfile=_dockerfile(arguments),
            target=_target(arguments),
            build_args=tuple(_build_arg(text) for text in arguments.all("build-arg")),
            labels=dict(arguments.pairs("label")),
            platform=arguments.text("custom-platform"),
        ),
        run=RunSettings(
            sandbox=SandboxKind(sandbox),
            secrets=secret_sources(arguments.all("secret"), environment),
            ssh=ssh_sources(arguments.all("ssh"), environment),
            cache_dir=_cache_dir(arguments.text("cache-dir")),
        ),
        registry=_registry(arguments),
        image=_image(arguments),
        output=_output(arguments),
        cache=cache_settings(arguments),
        work_dir=arguments.text("kaniko-dir") or arguments.text("work-dir"),  # the image sets the latter
    )
    _check_streams(request)
    return request


def _registry(arguments: Arguments) -> RegistryAccess:
    return RegistryAccess(
        insecure=arguments.flag("insecure"),
        insecure_pull=arguments.flag("insecure-pull"),
        skip_tls_verify=arguments.flag("skip-tls-verify"),
        skip_tls_verify_pull=arguments.flag("skip-tls-verify-pull"),
        hosts=registry_settings(arguments),
        credential_helpers=_helpers(arguments),
        pull_retries=max(_count(arguments, "image-download-retry"), _count(arguments, "image-fs-extract-retry")),
        push_retries=_count(arguments, "push-retry"),
    )


def _image(arguments: Arguments) -> ImageSettings:
    return ImageSettings(
        format=_FORMATS[arguments.text("image-format")],
        compression="zstd" if arguments.text("compression") == "zstd" else "gzip",
        compression_level=_level(arguments),
        annotations=dict(arguments.pairs("annotation")),
        timestamps=Timestamps.ZERO if arguments.flag("reproducible") else Timestamps.BUILD,
        single_layer=arguments.flag("single-snapshot"),
        ignore_paths=_ignore_paths(arguments),
    )


def _output(arguments: Arguments) -> OutputSettings:
    return OutputSettings(
        destinations=arguments.all("destination"),
        push=not arguments.flag("no-push"),
        check_push=not arguments.flag("skip-push-permission-check"),
        ignore_immutable_tags=arguments.flag("push-ignore-immutable-tag-errors"),
        oci_layout_path=arguments.text("oci-layout-path"),
        tar_path=arguments.text("tar-path"),
        digest_file=arguments.text("digest-file"),
        image_name_with_digest_file=arguments.text("image-name-with-digest-file"),
        image_name_tag_with_digest_file=arguments.text("image-name-tag-with-digest-file"),
        result_file=arguments.text("result-file"),
    )


def _dockerfile(arguments: Arguments) -> str:
    path = arguments.text("dockerfile", "Dockerfile")
    return STANDARD_INPUT if path == "-" else path  # as docker build has it


def _check_streams(request: BuildRequest) -> None:
    """Refuse a stream that is to be read twice: there would be nothing left in it."""
    named = [("--dockerfile", request.plan.dockerfile), *(("--secret", secret.file) for secret in request.run.secrets)]
    if isinstance(request.context.source, TarSource):
        path = request.context.source.path
        named.insert(0, ("--context", STANDARD_INPUT if path == "-" else path))
    readers: dict[int, str] = {}
    for flag, path in named:
        descriptor = own_descriptor(path)
        if descriptor is None:
            continue
        if descriptor in readers:
            raise UsageError(
                f"{readers[descriptor]} and {flag} both read {stream_name(descriptor, path)}",
                hint="Name a file for one of them.",
            )
        readers[descriptor] = flag


def _source(arguments: Arguments, environment: Mapping[str, str]) -> Source:
    """The context, with what --bucket and --git say of it, by kaniko's rules."""
    context, bucket = arguments.text("context"), arguments.text("bucket")
    if bucket and (not context or "://" in context):
        context = bucket if "://" in bucket else f"gs://{bucket}"
    source = parse_context(context if "context" in arguments.values or bucket else ".", environment)
    options = arguments.text("git")
    return with_git_options(source, options) if options else source


def _target(arguments: Arguments) -> str:
    targets = set(arguments.all("target"))
    if len(targets) > 1:
        raise UsageError(
            f"--target is given {len(targets)} times, and a build makes one image",
            hint="kaniko builds all of them and pushes the first: keep that, or build one after the other.",
        )
    return arguments.text("target")


def _helpers(arguments: Arguments) -> tuple[str, ...] | None:
    """None where nothing is said; an empty value turns all off."""
    if "credential-helpers" not in arguments.values:
        return None
    names = tuple(name for value in arguments.all("credential-helpers") for name in value.split(",") if name)
    for name in names:
        if name not in CREDENTIAL_HELPERS:
            raise UsageError(f"--credential-helpers={name}: not one of {', '.join(CREDENTIAL_HELPERS)}")
    return names


def _count(arguments: Arguments, name: str) -> int:
    count = arguments.number(name) or 0
    if count < 0:
        raise UsageError(f"--{name}={count}: a number of tries is not negative")
    return count


def _level(arguments: Arguments) -> int | None:
    """kaniko's -1 is the compressor's own choice."""
    level = arguments.number("compression-level")
    return None if level == -1 else level


def _ignore_paths(arguments: Arguments) -> tuple[str, ...]:
    paths = arguments.all("ignore-path")
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise UsageError(f"--ignore-path={path}: not an absolute path", hint="Write it as it is in the image.")
    return paths


def default_cache_dir(marker: str = IMAGE_MARKER, folder: str = _CACHE_DIR) -> str:
    """kaniko's default, where somebody mounted a volume there; elsewhere that folder is not this program's."""
    if not os.path.exists(marker) or not os.path.isdir(folder):
        return ""
    above, name = os.path.split(os.path.realpath(folder))
    mounted = [point.path for point in mounts_below(above)]
    own = os.fsencode(name)
    leads = own not in mounted and any(path.startswith(own + b"/") for path in mounted)
    return "" if leads else folder  # one that is there since something else is mounted in it was meant for that


def _cache_dir(given: str) -> str:
    if not given:
        return default_cache_dir()
    if os.path.exists(given) and not os.path.isdir(given):
        raise UsageError(f"--cache-dir={given}: not a folder", hint="Name a folder; it is made if it is not there.")
    return os.path.abspath(given)


def check_environment(request: BuildRequest, environment: Mapping[str, str]) -> None:
    """Refuse build arguments whose value in the environment is no text.

    Raises:
        UsageError
    """
    for arg in request.plan.build_args:
        try:
            environment.get(arg.from_env, "").encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the build argument {arg.name}: the value of the variable {arg.from_env} is not UTF-8",
                hint="Build arguments are text and go into the image's history; encode other bytes, with base64 say.",
            ) from None


def _build_arg(text: str) -> BuildArg:
    """``NAME=VALUE``, or ``NAME`` for the environment's value."""
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError("a --build-arg is not NAME=VALUE: it has no name", hint="Write --build-arg NAME=value.")
    return BuildArg(name=name, value=value) if equals else BuildArg(name=name, from_env=name)


def environment_request(environment: Mapping[str, str], name: str) -> BuildRequest:
    """The request that the operator put into the executor's environment.

    Raises:
        UsageError
    """
    text = environment.get(name, "")
    if not text:
        raise UsageError(
            f"{name} is not set",
            hint="`imagewright execute` is what the operator runs; use `imagewright build` by hand.",
        )
    return BuildRequest.decode(text)

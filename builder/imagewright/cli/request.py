"""From flags to a BuildRequest.

Checks that named files exist, and reads none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from imagewright.cli.arguments import Arguments
from imagewright.cli.contexts import named_contexts, parse_context, with_git_options
from imagewright.cli.registries import registry_settings
from imagewright.cli.secrets import secret_sources, ssh_sources
from imagewright.contract import DEFAULT_CACHE_TTL_S
from imagewright.contract.request import (
    BuildArg,
    BuildRequest,
    CacheSettings,
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
from imagewright.dockerfile.duration import parse_duration
from imagewright.errors import UsageError
from imagewright.fs.rootfs.mounts import mounts_below
from imagewright.reference import Reference
from imagewright.registry.clouds import CREDENTIAL_HELPERS
from imagewright.sandbox.choose import IMAGE_MARKER
from imagewright.streams import STANDARD_INPUT, own_descriptor, stream_name

_CACHE_DIR = "/cache"
# No use without --cache.
_CACHES = ("cache-repo", "cache-from", "cache-to")
_NEEDING_CACHE = (*_CACHES, "cache-ttl", "cache-copy-layers", "cache-run-layers", "no-push-cache", "explain-cache")
_FORMATS: Mapping[str, Literal["", "oci", "docker"]] = {"": "", "oci": "oci", "docker": "docker"}


def build_request(arguments: Arguments, environment: Mapping[str, str]) -> BuildRequest:
    """The request that a command line makes.

    Raises:
        UsageError: an invalid value.
        UnsupportedError: an ssh source that this release doesn't have.
    """
    source = _source(arguments, environment)
    folder = arguments.text("context-sub-path") or "."
    if ".." in folder.split("/"):
        raise UsageError(
            f'invalid --context-sub-path value "{folder}": it leads out of the context',
            hint="Name a directory inside it.",
        )
    sandbox = arguments.text("sandbox", "auto")
    if sandbox not in set(SandboxKind):
        raise UsageError(f'invalid --sandbox value "{sandbox}"', hint="Use auto, namespace, root or chroot.")
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
            require_isolation=arguments.flag("require-isolation"),
        ),
        registry=_registry(arguments),
        image=_image(arguments),
        output=_output(arguments),
        cache=_cache(arguments),
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
    return STANDARD_INPUT if path == "-" else path  # as in docker build


def _check_streams(request: BuildRequest) -> None:
    """Refuse a stream that two flags read: the second would find it empty."""
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
                hint="Use a file for one of them.",
            )
        readers[descriptor] = flag


def _source(arguments: Arguments, environment: Mapping[str, str]) -> Source:
    """The context, with --bucket and --git applied by kaniko's rules."""
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
            f"{len(targets)} --target values given, and a build makes one image",
            hint="Keep the first, which is the one that kaniko pushes, or run one build per target.",
        )
    return arguments.text("target")


def _helpers(arguments: Arguments) -> tuple[str, ...] | None:
    """None without the flag; an empty value turns all helpers off."""
    if "credential-helpers" not in arguments.values:
        return None
    names = tuple(name for value in arguments.all("credential-helpers") for name in value.split(",") if name)
    for name in names:
        if name not in CREDENTIAL_HELPERS:
            raise UsageError(
                f'invalid --credential-helpers value "{name}"', hint=f"Use {', '.join(CREDENTIAL_HELPERS)}."
            )
    return names


def _count(arguments: Arguments, name: str) -> int:
    count = arguments.number(name) or 0
    if count < 0:
        raise UsageError(f'invalid --{name} value "{count}": negative', hint="Use a number of retries, such as 3.")
    return count


def _level(arguments: Arguments) -> int | None:
    """kaniko's -1 is the compressor's default."""
    level = arguments.number("compression-level")
    return None if level == -1 else level


def _ignore_paths(arguments: Arguments) -> tuple[str, ...]:
    paths = arguments.all("ignore-path")
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise UsageError(
                f'invalid --ignore-path value "{path}": not an absolute path', hint="Use the path in the image."
            )
    return paths


def default_cache_dir(marker: str = IMAGE_MARKER, folder: str = _CACHE_DIR) -> str:
    """kaniko's default, if a volume is mounted there in the executor's image; elsewhere /cache isn't ours."""
    if not os.path.exists(marker) or not os.path.isdir(folder):
        return ""
    above, name = os.path.split(os.path.realpath(folder))
    mounted = [point.path for point in mounts_below(above)]
    own = os.fsencode(name)
    leads = own not in mounted and any(path.startswith(own + b"/") for path in mounted)
    return "" if leads else folder  # a directory that only holds other mounts does not hold a cache


def _cache_dir(given: str) -> str:
    if not given:
        return default_cache_dir()
    if os.path.exists(given) and not os.path.isdir(given):
        raise UsageError(
            f'invalid --cache-dir value "{given}": not a directory', hint="Name a directory; a missing one is created."
        )
    return os.path.abspath(given)


def _cache(arguments: Arguments) -> CacheSettings | None:
    """The layer cache, None without --cache.

    Raises:
        UsageError: no repository is named and none can be inferred; flags that conflict; an invalid duration.
        ImagewrightError: reason ``ReferenceInvalid``, for the destination.
    """
    ttl_s = _ttl(arguments.text("cache-ttl"))
    if not arguments.flag("cache"):
        return None
    repository, target = arguments.text("cache-repo"), arguments.text("cache-to")
    for name, given in (("cache-repo", repository), ("no-push-cache", arguments.flag("no-push-cache"))):
        if target and given:
            raise UsageError(
                f"conflicting flags --cache-to and --{name}",
                hint="Name where layers are looked up with --cache-from, and where they are stored with --cache-to.",
            )
    others = tuple(filter(None, arguments.all("cache-from")))
    if not (repository or target or others):
        repository = _inferred_cache(arguments)
    return CacheSettings(
        sources=tuple(dict.fromkeys(filter(None, (repository, *others)))),
        target="" if arguments.flag("no-push-cache") else target or repository,
        ttl_s=ttl_s,
        copy_layers=arguments.is_on("cache-copy-layers"),
        run_layers=arguments.is_on("cache-run-layers"),
        explain=arguments.flag("explain-cache"),
    )


def _inferred_cache(arguments: Arguments) -> str:
    destinations = arguments.all("destination")
    if not destinations:
        raise UsageError(
            "cannot infer the cache's repository: no --destination given",
            hint="Name a repository with --cache-repo, or a directory with --cache-repo=oci:DIR.",
        )
    return f"{Reference.parse(destinations[0]).name}/cache"


def _ttl(text: str) -> int:
    if not text:
        return DEFAULT_CACHE_TTL_S
    nanoseconds = parse_duration(text)
    if nanoseconds is None or nanoseconds < 0:
        raise UsageError(
            f'invalid --cache-ttl value "{text}": not a duration', hint="Use a number and a unit, such as 6h or 30m."
        )
    # Zero means any age, so what is less than a second is rounded up.
    return max(1, nanoseconds // 1_000_000_000) if nanoseconds else 0


def unused_cache_flags(arguments: Arguments) -> list[str]:
    """A warning where flags of the cache are given without --cache."""
    given = [f"--{name}" for name in _NEEDING_CACHE if name in arguments.values]
    return [f"{', '.join(given)}: no effect without --cache"] if given and not arguments.flag("cache") else []


def check_environment(request: BuildRequest, environment: Mapping[str, str]) -> None:
    """Refuse build arguments whose value in the environment isn't UTF-8.

    Raises:
        UsageError
    """
    for arg in request.plan.build_args:
        try:
            environment.get(arg.from_env, "").encode()
        except UnicodeEncodeError:
            raise UsageError(
                f'invalid build argument "{arg.name}": the value of the variable {arg.from_env} is not UTF-8',
                hint="Encode it, with base64 for example: build arguments are text in the image's history.",
            ) from None


def _build_arg(text: str) -> BuildArg:
    """``NAME=VALUE``, or ``NAME`` for the environment's value."""
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError(
            "invalid --build-arg value: no name before the equals sign", hint="Write --build-arg NAME=value."
        )
    return BuildArg(name=name, value=value) if equals else BuildArg(name=name, from_env=name)


def environment_request(environment: Mapping[str, str], name: str) -> BuildRequest:
    """The request that the operator set in the executor's environment.

    Raises:
        UsageError
    """
    text = environment.get(name, "")
    if not text:
        raise UsageError(
            f"cannot read the build request: {name} is not set",
            hint="Use `imagewright build`: only the operator runs `imagewright execute`.",
        )
    return BuildRequest.decode(text)

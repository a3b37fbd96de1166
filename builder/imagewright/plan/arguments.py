"""Build arguments outside of stages: platform arguments, proxies, and the ARGs before the first FROM.

No I/O. Dockerfile reference, "ARG": predefined ARGs, global scope, automatic platform ARGs.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagewright.dockerfile.expand import ExpansionError, ExpansionOptions, expand
from imagewright.dockerfile.model import Dockerfile
from imagewright.dockerfile.source import SourceText
from imagewright.oci.platform import Platform
from imagewright.plan.options import PlanOptions

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
EPOCH = "SOURCE_DATE_EPOCH"
# Builders read these themselves, so they need no ARG.
_READ_BY_BUILDERS = ("BUILDKIT_", EPOCH)


def global_arguments(
    dockerfile: Dockerfile, options: PlanOptions, source: SourceText, expansion: ExpansionOptions
) -> dict[str, str]:
    """The values that FROM and ``ARG name`` without a default see: platform arguments, then global ARGs.

    Raises:
        DockerfileError: a default that can't be expanded.
    """
    values = _platform_arguments(dockerfile, options)
    values |= {name: options.build_args[name] for name in values if name in options.build_args}
    for arg in dockerfile.global_args:
        for item in arg.items:
            if item.name in options.build_args:
                values[item.name] = options.build_args[item.name]
            elif item.value is not None:
                try:
                    values[item.name] = expand(item.value, values, expansion).text
                except ExpansionError as error:
                    what = f"the default of ARG {item.name[:100]}"
                    raise source.cannot_expand(what, error, arg.location, word=item.value) from error
    return values


def source_date_epoch(dockerfile: Dockerfile, options: PlanOptions) -> str:
    """SOURCE_DATE_EPOCH from a build argument or an ARG before the first FROM, ``""`` without.

    Raises:
        DockerfileError: a default that can't be expanded.
    """
    if given := options.build_args.get(EPOCH, ""):
        return given
    source = SourceText(dockerfile.name, dockerfile.lines)
    expansion = ExpansionOptions(escape=dockerfile.directives.escape)
    return global_arguments(dockerfile, options, source, expansion).get(EPOCH, "")


def proxy_environment(build_args: Mapping[str, str]) -> dict[str, str]:
    """The predefined proxy arguments that are set.

    Commands see them, in upper and lower case; history and image do not.
    """
    environment: dict[str, str] = {}
    for name in _PROXIES:
        for given, value in build_args.items():
            if given.lower() == name and value:
                environment |= {name.upper(): value, name: value}
    return environment


def may_be_undeclared(name: str) -> bool:
    """Whether ``--build-arg name`` has an effect without an ARG of that name."""
    return name.lower() in _PROXIES or name.startswith(_READ_BY_BUILDERS)


def _platform_arguments(dockerfile: Dockerfile, options: PlanOptions) -> dict[str, str]:
    stage = options.target or dockerfile.stages[-1].name or "default"
    return {
        **_of_platform("BUILD", options.build_platform),
        **_of_platform("TARGET", options.platform),
        "TARGETSTAGE": stage,
    }


def _of_platform(prefix: str, platform: Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": str(platform),
        f"{prefix}OS": platform.os,
        f"{prefix}OSVERSION": platform.os_version,
        f"{prefix}ARCH": platform.architecture,
        f"{prefix}VARIANT": platform.variant,
    }

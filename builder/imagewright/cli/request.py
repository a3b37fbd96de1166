"""Flags become a BuildRequest.

Looks whether named files are there and reads none. Called by ``cli.commands``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from imagewright.cli.arguments import Arguments
from imagewright.cli.contexts import named_contexts, parse_context
from imagewright.cli.secrets import secret_sources, ssh_sources
from imagewright.contract import BuildArg, BuildRequest, RegistrySettings, SandboxKind
from imagewright.errors import UsageError
from imagewright.registry.endpoints import parse_map
from imagewright.sandbox.choose import IMAGE_MARKER

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CACHE_DIR = "/cache"
_ADDRESS = re.compile(_HOST.pattern + r"(?:/[A-Za-z0-9._/-]+)?")


def build_request(arguments: Arguments, environment: Mapping[str, str]) -> BuildRequest:
    """The request that a command line asks for.

    Raises:
        UsageError: for values that can't be read.
        UnsupportedError: for kinds of context and of ssh that this release doesn't have.
    """
    source = parse_context(arguments.text("context", "."))
    folder = arguments.text("context-sub-path") or "."
    if ".." in folder.split("/"):
        raise UsageError(f"--context-sub-path={folder}: '..' leads out of the context", hint="Name a folder inside it.")
    sandbox = arguments.text("sandbox", "auto")
    if sandbox not in set(SandboxKind):
        raise UsageError(f"--sandbox={sandbox}: not auto, namespace, root or chroot")
    return BuildRequest(
        source=source,
        context_dir=folder,
        dockerfile=arguments.text("dockerfile", "Dockerfile"),
        target=arguments.text("target"),
        build_args=tuple(_build_arg(text) for text in arguments.all("build-arg")),
        build_contexts=named_contexts(arguments.all("build-context")),
        secrets=secret_sources(arguments.all("secret"), environment),
        ssh=ssh_sources(arguments.all("ssh"), environment),
        labels=dict(arguments.pairs("label")),
        platform=arguments.text("custom-platform"),
        destinations=arguments.all("destination"),
        push=not arguments.flag("no-push"),
        insecure=arguments.flag("insecure"),
        insecure_pull=arguments.flag("insecure-pull"),
        skip_tls_verify=arguments.flag("skip-tls-verify"),
        registries=_registries(arguments),
        oci_layout_path=arguments.text("oci-layout-path"),
        tar_path=arguments.text("tar-path"),
        digest_file=arguments.text("digest-file"),
        sandbox=SandboxKind(sandbox),
        cache_dir=_cache_dir(arguments.text("cache-dir")),
        work_dir=arguments.text("work-dir"),
    )


def default_cache_dir(marker: str = IMAGE_MARKER, folder: str = _CACHE_DIR) -> str:
    """kaniko's default, where somebody mounted a volume there; elsewhere that folder is not this program's."""
    return folder if os.path.exists(marker) and os.path.isdir(folder) else ""


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
    for arg in request.build_args:
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
        raise UsageError(f"--build-arg={text}: not NAME=VALUE", hint="Write --build-arg NAME=value.")
    return BuildArg(name=name, value=value) if equals else BuildArg(name=name, from_env=name)


def _registries(arguments: Arguments) -> tuple[RegistrySettings, ...]:
    settings: dict[str, dict[str, object]] = {}

    def of(host: str, flag: str) -> dict[str, object]:
        return settings.setdefault(_checked(host, flag, _HOST), {"host": host})

    for host in _split(arguments.all("insecure-registry")):
        of(host, "insecure-registry")["insecure"] = True
    mirrors: dict[str, list[str]] = {}
    for host, mirror in parse_map(arguments.all("registry-map"), "registry-map"):
        of(host, "registry-map")
        mirrors.setdefault(host, []).append(_checked(mirror, "registry-map", _ADDRESS))
    for mirror in _split(arguments.all("registry-mirror")):
        mirrors.setdefault("docker.io", []).append(_checked(mirror, "registry-mirror", _ADDRESS))
    for host, addresses in mirrors.items():
        of(host, "registry-mirror")["mirrors"] = tuple(addresses)
    for host, address in parse_map(arguments.all("registry-endpoint"), "registry-endpoint"):
        of(host, "registry-endpoint")["endpoint"] = _checked(address, "registry-endpoint", _ADDRESS)
    for host, path in arguments.pairs("registry-certificate"):
        if not os.path.isfile(path):
            raise UsageError(f"--registry-certificate={host}={path}: there is no such file")
        of(host, "registry-certificate")["ca_file"] = path
    return tuple(RegistrySettings.model_validate(value) for value in settings.values())


def _checked(text: str, flag: str, pattern: re.Pattern[str]) -> str:
    """A registry's address without its scheme; what is none would only be noticed when it is never reached."""
    address = re.sub(r"^https?://", "", text).rstrip("/") if pattern is _ADDRESS else text
    if not pattern.fullmatch(address):
        raise UsageError(
            f"--{flag}: {text!r} is no address of a registry",
            hint="Write host[:port]" + ("[/path]." if pattern is _ADDRESS else ", without https:// and path."),
        )
    return address


def _split(values: Iterable[str]) -> list[str]:
    return [part for value in values for part in value.split(",") if part]


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

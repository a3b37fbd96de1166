"""Converts kaniko's command line, parsed as the executor parses it, to the fields of an ImageBuild's spec.

No I/O: the files that flags name are the container's, and are looked up in its mounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagewright.cli.arguments import Arguments, deprecation_warnings, parse, parse_build
from imagewright.cli.request import build_request
from imagewright.cli.secrets import secret_place
from imagewright.contract.request import BuildRequest, CacheSettings, Timestamps
from imagewright_kubectl.kaniko import flags
from imagewright_kubectl.kaniko.container import Environment, Json, Mounts
from imagewright_kubectl.kaniko.diagnostics import Diagnostics
from imagewright_kubectl.kaniko.manifest import Workload
from imagewright_kubectl.kaniko.podsettings import PodSettings, duration
from imagewright_kubectl.kaniko.source import SourceConverter

# Flags that name files of the container: build_request would read them on this machine.
_FILE_FLAGS = ("secret", "ssh", "registry-certificate", "registry-client-cert", "build-context", "cache-dir")
# build_request needs them, even where the spec takes them from elsewhere.
_ALWAYS_PARSED = ("context", "destination", "dockerfile")
_DEFAULT_CACHE_DIR = "/cache"
_LAYER_CACHES = ("cache-repo", "cache-from", "cache-to")
_CACHE_FLAGS = (*_LAYER_CACHES, "no-push-cache", "cache-ttl")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A spec without the fields that equal their default; notes for the user.

    ``git_settings`` are the fields of the manifest's git source that still apply when the user replaces it.
    """

    spec: Json
    notes: tuple[str, ...]
    git_settings: Json


def convert(
    workload: Workload, dropped: frozenset[str] = frozenset(), replaced: frozenset[str] = frozenset()
) -> Conversion:
    """The spec that builds what the workload builds.

    Args:
        dropped: flags (without dashes), mount paths and variables to leave out.
        replaced: flags whose fields the user sets otherwise; ``login`` is that of ``/kaniko/.docker``,
            ``source-secret`` the one for the context.

    Raises:
        UnsupportedError: everything that can't be converted, each with a remedy.
        UsageError: kaniko's own flags are invalid.
    """
    diagnostics = Diagnostics(dropped, replaced)
    environment = Environment(workload.container, diagnostics)
    words = environment.expand(workload.arguments)
    diagnostics.raise_errors(workload.subject)
    return _Converter(workload, _parse(words, environment.values), environment, diagnostics).convert()


def _parse(words: list[str], environment: Mapping[str, str]) -> Arguments:
    """As the executor image parses them: kaniko's flags, or those of the command ``build``, which has more."""
    return parse_build(words[1:], environment) if words[:1] == ["build"] else parse(words, environment)


class _Converter:
    def __init__(
        self, workload: Workload, arguments: Arguments, environment: Environment, diagnostics: Diagnostics
    ) -> None:
        self.workload, self.arguments = workload, arguments
        self.environment, self.diagnostics = environment, diagnostics
        self.mounts = Mounts(workload.container, workload.volumes)
        self.spec: Json = {}

    def convert(self) -> Conversion:
        for line in deprecation_warnings(self.arguments, {}):
            self.diagnostics.note(line)
        for name in [*self.arguments.values]:
            if self.diagnostics.is_dropped(name) and name not in _ALWAYS_PARSED:
                del self.arguments.values[name]
        flags.remove_unsupported(self.arguments, self.diagnostics)
        file_flags = {name: self.arguments.values.pop(name, []) for name in _FILE_FLAGS}
        request = build_request(self.arguments, self.environment.values)
        source = SourceConverter(self.workload, self.arguments, self.environment, self.mounts, self.diagnostics)
        source.fill(request, self.spec)
        if request.plan.target:
            self.spec["target"] = request.plan.target
        self._build_args(request)
        self._secrets(file_flags["secret"])
        self._ssh(file_flags["ssh"])
        self._output(request)
        if request.plan.platform:
            self.spec["platforms"] = [request.plan.platform]
        self._cache(request, file_flags["cache-dir"])
        self._registries(request, file_flags)
        if request.run.sandbox != "auto":
            self.spec["sandbox"] = request.run.sandbox.value.capitalize()
        if request.run.require_isolation:
            self.spec["requireIsolation"] = True
        PodSettings(self.workload, self.environment, self.mounts, self.diagnostics).fill(self.spec)
        for name in sorted(self.diagnostics.unused_drops):
            self.diagnostics.note(f'ignored --drop {name}: the manifest has no "{name}"')
        self.diagnostics.raise_errors(self.workload.subject)
        return Conversion(self.spec, tuple(self.diagnostics.notes), source.git_settings)

    def _build_args(self, request: BuildRequest) -> None:
        build_args: dict[str, Json] = {}
        for arg in request.plan.build_args:
            value, name = arg.value, arg.name
            if arg.from_env:
                self.environment.used.add(name)
                value = self.environment.values.get(name)
            reference = (self.environment.references.get(name) or {}).get("configMapKeyRef")
            if value is not None:
                build_args[name] = {"name": name, "value": value}
            elif reference:
                key = {"name": reference.get("name"), "key": reference.get("key")}
                build_args[name] = {"name": name, "valueFrom": {"configMapKeyRef": key}}
            elif name in self.environment.references:
                self.diagnostics.error(
                    "build-arg",
                    f"--build-arg {name}: its value is in a Secret, and the image's history would show it: pass it as a "
                    "secret (--secret, RUN --mount=type=secret)",
                )
            else:
                self.diagnostics.error(
                    "build-arg",
                    f"--build-arg {name}: the container has no variable {name}: use --build-arg {name}=VALUE",
                )
        if build_args:
            self.spec["buildArgs"] = [*build_args.values()]

    def _secrets(self, values: list[str]) -> None:
        secrets = []
        for value in values:
            names = {*self.environment.values, *self.environment.references}
            source, _ = secret_place(value, names)
            if source.env:
                self.environment.used.add(source.env)
                key = (self.environment.references.get(source.env) or {}).get("secretKeyRef")
                place = f"variable {source.env}"
            else:
                key, place = self.mounts.secret_key(self.workload.path(source.file)), f'"{source.file}"'
            if key:
                secrets.append({"id": source.id, "secretKeyRef": {"name": key.get("name"), "key": key.get("key")}})
            else:
                self.diagnostics.error(
                    "secret",
                    f"--secret id={source.id}: {place} does not refer to a key of a Secret: put the value into a Secret and mount it",
                )
        if secrets:
            self.spec["secrets"] = secrets

    def _ssh(self, values: list[str]) -> None:
        keys = []
        for value in values:
            name, _, paths = value.partition("=")
            key = self.mounts.secret_key(self.workload.path(paths)) if paths and "," not in paths else None
            if key:
                keys.append({"id": name or "default", "secretKeyRef": key})
            else:
                self.diagnostics.error(
                    "ssh",
                    f"--ssh {name}: an ImageBuild needs one private key of a Secret per id: mount the Secret and name its file",
                )
        if keys:
            self.spec["ssh"] = keys

    def _output(self, request: BuildRequest) -> None:
        output: Json = {"tags": [*dict.fromkeys(request.output.destinations)]}
        if not request.output.destinations:
            self.diagnostics.missing("destination", "--destination: missing: name the image to push")
        if request.plan.labels:
            output["labels"] = dict(request.plan.labels)
        if request.image.annotations:
            output["annotations"] = dict(request.image.annotations)
        if request.image.format:
            output["format"] = {"oci": "OCI", "docker": "Docker"}[request.image.format]
        if request.image.compression == "zstd":
            output["compression"] = "Zstd"
        if request.image.compression_level is not None:
            output["compressionLevel"] = request.image.compression_level
        if request.image.timestamps is Timestamps.ZERO:
            output["timestamp"] = "Zero"
        if request.registry.insecure:
            output["insecure"] = True
        self.spec["output"] = output

    def _cache(self, request: BuildRequest, directories: list[str]) -> None:
        cache: Json = {}
        if request.cache is not None:
            cache |= self._layer_caches(request.cache)
            if "cache-ttl" in self.arguments.values:
                cache["ttl"] = duration(request.cache.ttl_s)
        for name in () if request.cache else _CACHE_FLAGS:
            if name in self.arguments.values and not self.diagnostics.is_dropped(name):
                self.diagnostics.note(f"ignored --{name}: kaniko caches no layers without --cache")
        directory = self.workload.path(directories[-1]) if directories else _DEFAULT_CACHE_DIR
        on_claim = self.mounts.claim(directory)
        if on_claim is not None and on_claim.is_root:
            cache["volume"] = {"claimName": on_claim.claim}
        elif directories:
            self.diagnostics.error(
                "cache-dir",
                f"--cache-dir={directories[-1]}: not the root of a PersistentVolumeClaim, so nothing would be kept there",
            )
        if cache:
            self.spec["cache"] = cache

    def _layer_caches(self, settings: CacheSettings) -> Json:
        for name in _LAYER_CACHES:
            for value in self.arguments.all(name):
                if value.startswith("oci:"):
                    self.diagnostics.error(
                        name, f"--{name}={value}: an ImageBuild caches layers in a registry only: name a repository"
                    )
        first, *others = settings.sources or ("",)
        if settings.target and settings.target == first:
            fields = {"repository": first, "from": others}
        else:
            fields = {"from": list(settings.sources), "to": settings.target}
        return {name: value for name, value in fields.items() if value}

    def _registries(self, request: BuildRequest, file_flags: dict[str, list[str]]) -> None:
        registries: dict[str, Json] = {}
        for registry in request.registry.hosts:
            entry = registries.setdefault(registry.host, {"host": registry.host})
            if registry.mirrors:
                entry["mirrors"] = [*registry.mirrors]
            if registry.mirrors_only:
                entry["mirrorsOnly"] = True
            if registry.insecure:
                entry["insecure"] = True
        certificates = Arguments(values=file_flags)
        for host, path in certificates.pairs("registry-certificate"):
            key = self.mounts.config_map_key(self.workload.path(path))
            if key:
                registries.setdefault(host, {"host": host})["caBundleRef"] = key
            else:
                self.diagnostics.error(
                    "registry-certificate",
                    f"--registry-certificate={host}={path}: no key of a ConfigMap is mounted there: put the certificate into a "
                    "ConfigMap (kubectl create configmap) and mount it",
                )
        for host, pair in certificates.pairs("registry-client-cert"):
            keys = [self.mounts.secret_key(self.workload.path(path)) for path in pair.split(",")]
            names = {key["name"] for key in keys if key}
            if len(keys) == 2 and len(names) == 1 and [key and key["key"] for key in keys] == ["tls.crt", "tls.key"]:
                registries.setdefault(host, {"host": host})["clientCertificateSecretRef"] = {"name": names.pop()}
            else:
                self.diagnostics.error(
                    "registry-client-cert",
                    f"--registry-client-cert={host}=…: not the keys tls.crt and tls.key of one Secret: create it with "
                    "kubectl create secret tls",
                )
        if registries:
            self.spec["registries"] = [*registries.values()]

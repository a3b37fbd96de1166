"""kaniko's command line, as the executor reads it, becomes the fields of an ImageBuild's spec.

No I/O: files that the flags name are the container's, and are looked up in its mounts. Called by ``createcommand``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagewright.cli.arguments import Arguments, outdated, parse
from imagewright.cli.buildline import parse_build
from imagewright.cli.request import build_request
from imagewright.cli.secrets import secret_place
from imagewright.contract.request import BuildRequest, Timestamps
from imagewright_kubectl.kaniko import flags
from imagewright_kubectl.kaniko.container import Json, Mounts, Variables
from imagewright_kubectl.kaniko.diagnostics import Problems
from imagewright_kubectl.kaniko.manifest import Found
from imagewright_kubectl.kaniko.podsettings import Surroundings, duration
from imagewright_kubectl.kaniko.source import Sources

# Flags whose files are the container's: build_request would look for them here.
_OF_FILES = ("secret", "ssh", "registry-certificate", "registry-client-cert", "build-context", "cache-dir")
# Without a context or a destination others can't be read, even where the spec doesn't take them from the manifest.
_STILL_READ = ("context", "destination", "dockerfile")
_DEFAULT_CACHE_DIR = "/cache"
_OF_CACHE = ("cache-repo", "cache-ttl")


@dataclass(frozen=True, slots=True)
class Converted:
    """A spec, as it would be written by hand: without what equals its default. ``notes`` are for a person to read.

    ``git`` is what a git source keeps of the manifest's where the user gives it himself: the login, submodules, depth.
    """

    spec: Json
    notes: tuple[str, ...]
    git: Json


def convert(found: Found, dropped: frozenset[str] = frozenset(), replaced: frozenset[str] = frozenset()) -> Converted:
    """The spec that builds what the manifest builds.

    Args:
        dropped: flags (without dashes), mount paths and variables that the user leaves out.
        replaced: flags whose fields the user gives by himself; ``login`` is that of ``/kaniko/.docker``,
            ``source-secret`` the one for the context.

    Raises:
        UnsupportedError: all that can't be converted, each with what to do.
        UsageError: kaniko's own flags can't be read.
    """
    problems = Problems(dropped, replaced)
    variables = Variables(found.container, problems)
    words = variables.expand(found.arguments)
    problems.check()
    return _Conversion(found, _parsed(words, variables.plain), variables, problems).convert()


def _parsed(words: list[str], environment: Mapping[str, str]) -> Arguments:
    """As this project's executor image reads them: kaniko's flags, or its own command ``build``, which takes more."""
    return parse_build(words[1:], environment) if words[:1] == ["build"] else parse(words, environment)


class _Conversion:
    def __init__(self, found: Found, arguments: Arguments, variables: Variables, problems: Problems) -> None:
        self.found, self.arguments, self.variables, self.problems = found, arguments, variables, problems
        self.mounts = Mounts(found.container, found.volumes)
        self.spec: Json = {}

    def convert(self) -> Converted:
        for line in outdated(self.arguments, {}):
            self.problems.note(line)
        for name in [*self.arguments.values]:
            if self.problems.is_dropped(name) and name not in _STILL_READ:
                del self.arguments.values[name]
        flags.look(self.arguments, self.problems)
        of_files = {name: self.arguments.values.pop(name, []) for name in _OF_FILES}
        request = build_request(self.arguments, self.variables.plain)
        sources = Sources(self.found, self.arguments, self.variables, self.mounts, self.problems)
        sources.fill(request, self.spec)
        if request.plan.target:
            self.spec["target"] = request.plan.target
        self._build_args(request)
        self._secrets(of_files["secret"])
        self._ssh(of_files["ssh"])
        self._output(request)
        if request.plan.platform:
            self.spec["platforms"] = [request.plan.platform]
        self._cache(request, of_files["cache-dir"])
        self._registries(request, of_files)
        if request.run.sandbox != "auto":
            self.spec["sandbox"] = request.run.sandbox.value.capitalize()
        Surroundings(self.found, self.variables, self.mounts, self.problems).fill(self.spec)
        for name in sorted(self.problems.unused):
            self.problems.note(f"--drop {name}: there is no such thing in the manifest")
        self.problems.check()
        return Converted(self.spec, tuple(self.problems.notes), sources.left)

    def _build_args(self, request: BuildRequest) -> None:
        listed: dict[str, Json] = {}
        for arg in request.plan.build_args:
            value, name = arg.value, arg.name
            if arg.from_env:
                self.variables.used.add(name)
                value = self.variables.plain.get(name)
            reference = (self.variables.references.get(name) or {}).get("configMapKeyRef")
            if value is not None:
                listed[name] = {"name": name, "value": value}
            elif reference:
                key = {"name": reference.get("name"), "key": reference.get("key")}
                listed[name] = {"name": name, "valueFrom": {"configMapKeyRef": key}}
            elif name in self.variables.references:
                self.problems.add(
                    "build-arg",
                    f"--build-arg {name}: its value is in a Secret, and would be in the image's history: give it as a "
                    "secret (--secret, RUN --mount=type=secret)",
                )
            else:
                self.problems.add(
                    "build-arg",
                    f"--build-arg {name}: the container has no variable {name}: write --build-arg {name}=VALUE",
                )
        if listed:
            self.spec["buildArgs"] = [*listed.values()]

    def _secrets(self, values: list[str]) -> None:
        listed = []
        for value in values:
            names = {*self.variables.plain, *self.variables.references}
            source, _ = secret_place(value, names)
            if source.env:
                self.variables.used.add(source.env)
                key = (self.variables.references.get(source.env) or {}).get("secretKeyRef")
                place = f"the variable {source.env}"
            else:
                key, place = self.mounts.secret_key(self.found.path(source.file)), source.file
            if key:
                listed.append({"id": source.id, "secretKeyRef": {"name": key.get("name"), "key": key.get("key")}})
            else:
                self.problems.add(
                    "secret",
                    f"--secret id={source.id}: {place} is no Secret's key: put it into a Secret, and mount that",
                )
        if listed:
            self.spec["secrets"] = listed

    def _ssh(self, values: list[str]) -> None:
        listed = []
        for value in values:
            name, _, paths = value.partition("=")
            key = self.mounts.secret_key(self.found.path(paths)) if paths and "," not in paths else None
            if key:
                listed.append({"id": name or "default", "secretKeyRef": key})
            else:
                self.problems.add(
                    "ssh",
                    f"--ssh {name}: an ImageBuild takes one private key of a Secret for an id: mount that, and name it",
                )
        if listed:
            self.spec["ssh"] = listed

    def _output(self, request: BuildRequest) -> None:
        output: Json = {"tags": [*dict.fromkeys(request.output.destinations)]}
        if not request.output.destinations:
            self.problems.must("--destination is not given: name the image to push", "destination")
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

    def _cache(self, request: BuildRequest, folders: list[str]) -> None:
        cache: Json = {}
        if request.cache is not None:
            if request.cache.repository.startswith("oci:"):
                self.problems.add(
                    "cache-repo", f"--cache-repo={request.cache.repository}: a folder: name a repository of a registry"
                )
            cache["repository"] = request.cache.repository
            if "cache-ttl" in self.arguments.values:
                cache["ttl"] = duration(request.cache.ttl_s)
        for name in () if request.cache else _OF_CACHE:
            if name in self.arguments.values and not self.problems.is_dropped(name):
                self.problems.note(f"--{name} is left out: without --cache kaniko has no cache of layers")
        folder = self.found.path(folders[-1]) if folders else _DEFAULT_CACHE_DIR
        claim = self.mounts.claim(folder)
        if claim is not None and not claim[1] and not claim[2]:
            cache["volume"] = {"claimName": claim[0]}
        elif folders:
            self.problems.add(
                "cache-dir",
                f"--cache-dir={folders[-1]} is not the root of a PersistentVolumeClaim, so nothing of it would stay",
            )
        if cache:
            self.spec["cache"] = cache

    def _registries(self, request: BuildRequest, of_files: dict[str, list[str]]) -> None:
        registries: dict[str, Json] = {}
        for one in request.registry.hosts:
            entry = registries.setdefault(one.host, {"host": one.host})
            if one.mirrors:
                entry["mirrors"] = [*one.mirrors]
            if one.mirrors_only:
                entry["mirrorsOnly"] = True
            if one.insecure:
                entry["insecure"] = True
        certificates = Arguments(values=of_files)
        for host, path in certificates.pairs("registry-certificate"):
            key = self.mounts.config_map_key(self.found.path(path))
            if key:
                registries.setdefault(host, {"host": host})["caBundleRef"] = key
            else:
                self.problems.add(
                    "registry-certificate",
                    f"--registry-certificate={host}={path}: no key of a ConfigMap is mounted there: put the certificate into one "
                    "(kubectl create configmap), and mount that",
                )
        for host, pair in certificates.pairs("registry-client-cert"):
            keys = [self.mounts.secret_key(self.found.path(path)) for path in pair.split(",")]
            names = {key["name"] for key in keys if key}
            if len(keys) == 2 and len(names) == 1 and [key and key["key"] for key in keys] == ["tls.crt", "tls.key"]:
                registries.setdefault(host, {"host": host})["clientCertificateSecretRef"] = {"name": names.pop()}
            else:
                self.problems.add(
                    "registry-client-cert",
                    f"--registry-client-cert={host}=…: not the tls.crt and tls.key of one Secret: kubectl create secret tls",
                )
        if registries:
            self.spec["registries"] = [*registries.values()]

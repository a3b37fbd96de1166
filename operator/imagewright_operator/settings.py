"""The installation's settings, read from the operator's environment.

No I/O: ``Settings.from_environment`` is given the environment. docs/operator.md documents them; the Deployment in
deploy/ sets them. No setting is part of a build's inputs: changing one starts no build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from imagewright.contract.coding import InvalidValue, read
from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright_operator.patterns import NONE, AllowList

_PREFIX = "IMAGEWRIGHT_"
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_PATTERN = re.compile(r"[A-Za-z0-9*_][-A-Za-z0-9_./*]*")
_QUANTITY = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[KMGTPE]i|[mkMGTPE]|[eE][0-9]+)?")


class Profile(StrEnum):
    """The confinement of the executor Pod; see docs/operator.md."""

    AUTO = "auto"  # userns if every node that could run the Pod supports user namespaces, else plain
    USERNS = "userns"
    PLAIN = "plain"
    USERNS_STRICT = "userns-strict"
    HARDENED = "hardened"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many builds may run at once; 0 means no limit."""

    total: int = 0
    per_namespace: int = 0

    def __bool__(self) -> bool:
        return bool(self.total or self.per_namespace)


# What a build may set in its Pod. Proxies, the places and logins of sources and registries, which the engine reads.
_ENV = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("GIT_USERNAME", "GIT_PASSWORD", "GIT_TOKEN", "GIT_PULL_METHOD", "SOURCE_DATE_EPOCH"),
    *("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("S3_ENDPOINT", "S3_FORCE_PATH_STYLE", "GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"),
    *("AZURE_STORAGE_ACCESS_KEY", "GITHUB_ACTOR", "GITHUB_TOKEN", "DOCKER_*_USR", "DOCKER_*_PSW"),
    *("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD", "CI_JOB_TOKEN", "CI_DEPENDENCY_PROXY_*"),
)
_TOLERATIONS = ("builds", "imagewright.dev/*", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_NODE_SELECTORS = (
    *("kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/*", "node.kubernetes.io/instance-type"),
    *("builds", "imagewright.dev/*"),
)


def _allow(name: str, *patterns: str, namespaced: bool = False) -> AllowList:
    return AllowList(f"{_PREFIX}ALLOWED_{name}", patterns, namespaced)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What ImageBuilds may ask for that gives more than the right to build. The defaults are safe ones.

    ``labels``, ``annotations`` and ``env`` are keys of ``spec.podTemplate``; ``tolerations`` keys of taints,
    ``node_selectors`` keys of nodes' labels, also in an affinity. ``login_secrets`` are the names of Secrets that only
    the engine sees, ``build_secrets`` those of Secrets that RUN may read.
    """

    labels: AllowList = field(default_factory=lambda: _allow("LABELS"))
    annotations: AllowList = field(default_factory=lambda: _allow("ANNOTATIONS"))
    env: AllowList = field(default_factory=lambda: _allow("ENV", *_ENV))
    tolerations: AllowList = field(default_factory=lambda: _allow("TOLERATIONS", *_TOLERATIONS))
    node_selectors: AllowList = field(default_factory=lambda: _allow("NODE_SELECTORS", *_NODE_SELECTORS))
    priority_classes: AllowList = field(default_factory=lambda: _allow("PRIORITY_CLASSES"))
    runtime_classes: AllowList = field(default_factory=lambda: _allow("RUNTIME_CLASSES"))
    login_secrets: AllowList = field(default_factory=lambda: _allow("LOGIN_SECRETS", "*", namespaced=True))
    build_secrets: AllowList = field(default_factory=lambda: _allow("BUILD_SECRETS", "*", namespaced=True))
    host_users: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that apply to all builds of an installation.

    ``namespaces`` empty means all. ``resources`` applies to builds that set none, ``engine_resources`` to the engine
    where commands run in another container, ``runner_resources`` to that container where it runs none.
    ``require_isolation`` applies to all builds. ``log_refresh_s`` is the minimum time between two reads of a running
    build's log, 0 to read none. ``limits`` are of concurrent builds, ``allowed`` is what ImageBuilds may ask for.
    ``registry_ca_config_map`` is the name of a ConfigMap in every namespace with builds; ``caFile`` in ``registries``
    names one of its keys. With ``leader_election`` only the operator works that holds the Lease ``lease_name``. The key
    that signs Pods is in the Secret ``signing_key_secret`` of the operator's own namespace, or in a mounted file,
    ``signing_key_file``.
    """

    executor_image: str = "imagewright/executor:latest"
    executor_pull_policy: str = ""
    profile: Profile = Profile.AUTO
    registries: tuple[RegistrySettings, ...] = ()
    registry_ca_config_map: str = ""
    service_accounts: frozenset[str] = frozenset({"default"})
    namespaces: tuple[str, ...] = ()
    resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}}
    )
    engine_resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    )
    runner_resources: Mapping[str, Any] = field(default_factory=lambda: {"requests": {"cpu": "10m", "memory": "32Mi"}})
    require_isolation: bool = False
    workspace_size: str = "20Gi"
    termination_grace_s: int = 30
    resync_s: float = 3600.0
    log_refresh_s: float = 10.0
    workers: int = 8
    limits: Limits = field(default_factory=Limits)
    allowed: Allowed = field(default_factory=Allowed)
    http_port: int = 8080
    csi_volumes: bool = False
    leader_election: bool = False
    lease_name: str = "imagewright-operator"
    lease_s: int = 15
    signing_key_secret: str = "imagewright-operator-key"  # noqa: S105 - its name
    signing_key_file: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``IMAGEWRIGHT_*``; unset variables keep their default.

        Raises:
            UsageError: a variable has an invalid value.
        """
        return cls._read(_Reader(environment))

    @classmethod
    def _read(cls, reader: _Reader) -> Settings:
        default = cls()
        return cls(
            executor_image=reader.text("EXECUTOR_IMAGE", default.executor_image),
            executor_pull_policy=reader.choice("EXECUTOR_PULL_POLICY", "", ("", "Always", "IfNotPresent", "Never")),
            profile=Profile(reader.choice("POD_PROFILE", Profile.AUTO, tuple(Profile))),
            registries=reader.registries("REGISTRIES"),
            registry_ca_config_map=reader.text("REGISTRY_CA_CONFIGMAP", ""),
            service_accounts=frozenset(reader.names("SERVICE_ACCOUNTS", ("default",))),
            namespaces=reader.names("NAMESPACES", ()),
            resources=reader.resources("RESOURCES", default.resources),
            engine_resources=reader.resources("ENGINE_RESOURCES", default.engine_resources),
            runner_resources=reader.resources("RUNNER_RESOURCES", default.runner_resources),
            require_isolation=reader.flag("REQUIRE_ISOLATION"),
            workspace_size=reader.quantity("WORKSPACE_SIZE", default.workspace_size),
            termination_grace_s=reader.integer("TERMINATION_GRACE_SECONDS", default.termination_grace_s, 0),
            log_refresh_s=reader.number("LOG_REFRESH_SECONDS", default.log_refresh_s, 0),
            resync_s=reader.number("RESYNC_SECONDS", default.resync_s, 1),
            workers=reader.integer("WORKERS", default.workers, 1),
            limits=Limits(reader.integer("MAX_BUILDS", 0, 0), reader.integer("MAX_BUILDS_PER_NAMESPACE", 0, 0)),
            allowed=reader.allowed(default.allowed),
            http_port=reader.integer("HTTP_PORT", default.http_port, 0, 65535),
            csi_volumes=reader.flag("ALLOW_CSI_VOLUMES"),
            leader_election=reader.flag("LEADER_ELECTION"),
            lease_name=reader.name("LEASE_NAME", default.lease_name),
            lease_s=reader.integer("LEASE_SECONDS", default.lease_s, 3, 3600),
            signing_key_secret=reader.name("SIGNING_KEY_SECRET", default.signing_key_secret),
            signing_key_file=reader.text("SIGNING_KEY_FILE", ""),
        )

    @staticmethod
    def unknown(environment: Mapping[str, str]) -> tuple[str, ...]:
        """Variables with the prefix that are not settings: typing mistakes, or a Service's links."""
        reader = _Reader(environment)
        Settings._read(reader)
        return reader.unread()


class _Reader:
    """The environment, which records the variables that were read: any other one is a typing mistake."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {
            name.removeprefix(_PREFIX): value.strip() for name, value in environment.items() if name.startswith(_PREFIX)
        }
        self._known: set[str] = set()

    def text(self, name: str, default: str) -> str:
        self._known.add(name)
        return self._values.get(name) or default

    def words(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        text = self.text(name, "")
        words = tuple(text.replace(",", " ").split())
        if text and not words:
            raise _invalid(name, text, "it lists nothing: leave it out for the default")
        return words or default

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Names of Kubernetes objects."""
        words = self.words(name, default)
        for word in words:
            if not _NAME.fullmatch(word):
                raise _invalid(
                    name, word, "must be names of lower-case letters, digits, - and .; * is not a pattern here"
                )
        return words

    def allowed(self, default: Allowed) -> Allowed:
        lists = {one.name: getattr(default, one.name) for one in fields(default)}
        return Allowed(
            **{key: self.patterns(one) for key, one in lists.items() if isinstance(one, AllowList)},
            host_users=self.flag("ALLOW_HOST_USERS"),
        )

    def patterns(self, default: AllowList) -> AllowList:
        """Patterns instead of the default ones; the word ``none`` is for an empty list."""
        name = default.setting.removeprefix(_PREFIX)
        if self._values.get(name) == "":
            raise _invalid(name, "", f"it lists nothing: use {NONE}, or leave it out for the default")
        found = self.words(name, default.patterns)
        listed: dict[str, list[str]] = {}
        for word in found:
            namespace, slash, pattern = word.rpartition("/") if default.namespaced else ("", "", word)
            if not _PATTERN.fullmatch(pattern) or (slash and not _NAMESPACE.fullmatch(namespace)):
                form = "names of Secrets, or NAMESPACE/NAME" if default.namespaced else "names"
                where = ", but not in a namespace" if default.namespaced else ""
                raise _invalid(name, word, f"must be {form}, in which * stands for any characters{where}")
            listed.setdefault(namespace, []).append(pattern)
        for patterns in listed.values():
            if NONE in patterns and len(patterns) > 1:
                raise _invalid(name, ",".join(found), f"{NONE} allows nothing, and cannot stand next to other names")
        return replace(default, patterns=() if found == (NONE,) else found)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.text(name, default)
        if text not in choices:
            raise _invalid(name, text, "must be one of " + ", ".join(choice for choice in choices if choice))
        return text

    def flag(self, name: str) -> bool:
        return self.choice(name, "false", ("true", "false")) == "true"

    def name(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not _NAME.fullmatch(text):
            raise _invalid(name, text, "must consist of lower-case letters, digits, - and .")
        return text

    def number(self, name: str, default: float, minimum: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError as error:
            raise _invalid(name, text, "must be a number") from error
        if not minimum <= value < 1e9:
            raise _invalid(name, text, f"must be a number of at least {minimum:g}")
        return value

    def integer(self, name: str, default: int, minimum: int, maximum: int = 1_000_000_000) -> int:
        value = self.number(name, default, minimum)
        if value != int(value) or value > maximum:
            raise _invalid(name, self.text(name, ""), f"must be an integer from {minimum} to {maximum}")
        return int(value)

    def quantity(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not _QUANTITY.fullmatch(text):
            raise _invalid(name, text, "must be a Kubernetes quantity, such as 20Gi")
        return text

    def resources(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        value = self.mapping(name, default)
        for kind, amounts in value.items():
            if kind not in ("requests", "limits") or not isinstance(amounts, dict):
                raise _invalid(
                    name,
                    self.text(name, ""),
                    f"unknown key {kind}: only requests and limits are allowed, each an object",
                )
            for resource, amount in amounts.items():
                if not _QUANTITY.fullmatch(str(amount)):
                    raise _invalid(
                        name,
                        self.text(name, ""),
                        f"{kind}.{resource} must be a Kubernetes quantity, such as 1Gi or 250m",
                    )
        return value

    def mapping(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        text = self.text(name, "")
        if not text:
            return default
        value = _json(name, text)
        if not isinstance(value, dict):
            raise _invalid(name, text, 'must be a JSON object, such as {"requests":{"memory":"1Gi"}}')
        return value

    def registries(self, name: str) -> tuple[RegistrySettings, ...]:
        text = self.text(name, "")
        if not text:
            return ()
        value = _json(name, text)
        if not isinstance(value, list):
            raise _invalid(
                name, text, 'must be a JSON list, such as [{"host":"docker.io","mirrors":["mirror.example.com"]}]'
            )
        try:
            return tuple(read(RegistrySettings, item) for item in value)
        except InvalidValue as error:
            raise _invalid(name, text, str(error)) from error

    def unread(self) -> tuple[str, ...]:
        return tuple(_PREFIX + name for name in sorted(set(self._values) - self._known))


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(name, text, f"invalid JSON: {error}") from error


def _invalid(name: str, text: str, problem: str) -> UsageError:
    return UsageError(f'invalid {_PREFIX}{name} value "{text[:200]}": {problem}')

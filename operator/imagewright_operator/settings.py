"""The installation's settings, read from the operator's environment.

No I/O: ``Settings.from_environment`` is given the environment by ``main``. Documented in docs/operator.md; the Deployment
in deploy/ sets them. Nothing here belongs to a build's inputs: changing a setting builds nothing anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from imagewright.contract.request import RegistrySettings
from imagewright.errors import UsageError
from imagewright_operator.api.base import describe

_PREFIX = "IMAGEWRIGHT_"
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[KMGTPE]i|[mkMGTPE]|[eE][0-9]+)?")


class Profile(StrEnum):
    """How the executor Pod is confined; the ladder of the security documentation."""

    AUTO = "auto"  # userns where every node that could run the Pod has user namespaces, else plain
    USERNS = "userns"
    PLAIN = "plain"
    USERNS_STRICT = "userns-strict"
    HARDENED = "hardened"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many builds may run at once; 0 is no limit."""

    total: int = 0
    per_namespace: int = 0

    def __bool__(self) -> bool:
        return bool(self.total or self.per_namespace)


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all builds of an installation.

    ``namespaces`` empty means all. ``resources`` is a Pod's ``resources`` for builds that name none.
    ``log_refresh_s`` is the least time between two looks at the log of a build that runs, 0: none. ``limits`` are of
    builds that run at once. ``registries`` hold for every build. ``registry_ca_config_map`` is the name of a ConfigMap
    that every namespace with builds has; ``caFile`` in ``registries`` names one of its keys. ``leader_election``: of several
    operators only the one works that holds the Lease ``lease_name``.
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
    workspace_size: str = "20Gi"
    termination_grace_s: int = 30
    resync_s: float = 3600.0
    log_refresh_s: float = 10.0
    workers: int = 8
    limits: Limits = field(default_factory=Limits)
    http_port: int = 8080
    csi_volumes: bool = False
    leader_election: bool = False
    lease_name: str = "imagewright-operator"
    lease_s: int = 15

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read ``IMAGEWRIGHT_*``; what is not set keeps its default.

        Raises:
            UsageError: naming the variable and what to write into it.
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
            service_accounts=frozenset(reader.words("SERVICE_ACCOUNTS", ("default",))),
            namespaces=reader.words("NAMESPACES", ()),
            resources=reader.resources("RESOURCES", default.resources),
            workspace_size=reader.quantity("WORKSPACE_SIZE", default.workspace_size),
            termination_grace_s=reader.integer("TERMINATION_GRACE_SECONDS", default.termination_grace_s, 0),
            log_refresh_s=reader.number("LOG_REFRESH_SECONDS", default.log_refresh_s, 0),
            resync_s=reader.number("RESYNC_SECONDS", default.resync_s, 1),
            workers=reader.integer("WORKERS", default.workers, 1),
            limits=Limits(reader.integer("MAX_BUILDS", 0, 0), reader.integer("MAX_BUILDS_PER_NAMESPACE", 0, 0)),
            http_port=reader.integer("HTTP_PORT", default.http_port, 0, 65535),
            csi_volumes=reader.flag("ALLOW_CSI_VOLUMES"),
            leader_election=reader.flag("LEADER_ELECTION"),
            lease_name=reader.name("LEASE_NAME", default.lease_name),
            lease_s=reader.integer("LEASE_SECONDS", default.lease_s, 3, 3600),
        )

    @staticmethod
    def unknown(environment: Mapping[str, str]) -> tuple[str, ...]:
        """Variables that look like settings and are none: typing mistakes, or a Service's links. To be warned of."""
        reader = _Reader(environment)
        Settings._read(reader)
        return reader.unread()


class _Reader:
    """The environment, with a memory of what was asked for: a variable that nobody reads is a typing mistake."""

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
        return tuple(word for word in text.replace(",", " ").split()) or default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        text = self.text(name, default)
        if text not in choices:
            raise _bad(name, text, "write one of " + ", ".join(choice for choice in choices if choice))
        return text

    def flag(self, name: str) -> bool:
        return self.choice(name, "false", ("true", "false")) == "true"

    def name(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not _NAME.fullmatch(text):
            raise _bad(name, text, "write a name as Kubernetes has it: small letters, digits, - and .")
        return text

    def number(self, name: str, default: float, least: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError as error:
            raise _bad(name, text, "write a number") from error
        if not least <= value < 1e9:
            raise _bad(name, text, f"write a number of at least {least:g}")
        return value

    def integer(self, name: str, default: int, least: int, most: int = 1_000_000_000) -> int:
        value = self.number(name, default, least)
        if value != int(value) or value > most:
            raise _bad(name, self.text(name, ""), f"write a whole number from {least} to {most}")
        return int(value)

    def quantity(self, name: str, default: str) -> str:
        text = self.text(name, default)
        if not _QUANTITY.fullmatch(text):
            raise _bad(name, text, "write a quantity as Kubernetes has it, such as 20Gi")
        return text

    def resources(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        value = self.mapping(name, default)
        for kind, amounts in value.items():
            if kind not in ("requests", "limits") or not isinstance(amounts, dict):
                raise _bad(name, self.text(name, ""), f"{kind} is neither requests nor limits with their amounts")
            for resource, amount in amounts.items():
                if not _QUANTITY.fullmatch(str(amount)):
                    raise _bad(name, self.text(name, ""), f"{kind}.{resource} is no quantity: write it as 1Gi or 250m")
        return value

    def mapping(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        text = self.text(name, "")
        if not text:
            return default
        value = _json(name, text)
        if not isinstance(value, dict):
            raise _bad(name, text, 'write a JSON object, such as {"requests":{"memory":"1Gi"}}')
        return value

    def registries(self, name: str) -> tuple[RegistrySettings, ...]:
        text = self.text(name, "")
        if not text:
            return ()
        value = _json(name, text)
        if not isinstance(value, list):
            raise _bad(name, text, 'write a JSON list, such as [{"host":"docker.io","mirrors":["mirror.example.com"]}]')
        try:
            return tuple(RegistrySettings.model_validate(item) for item in value)
        except ValidationError as error:
            raise _bad(name, text, describe(error)) from error

    def unread(self) -> tuple[str, ...]:
        return tuple(_PREFIX + name for name in sorted(set(self._values) - self._known))


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _bad(name, text, f"it is not JSON: {error}") from error


def _bad(name: str, text: str, what: str) -> UsageError:
    return UsageError(f"{_PREFIX}{name} is {text[:200]!r}: {what}")

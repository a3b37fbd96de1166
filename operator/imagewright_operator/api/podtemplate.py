"""What a user may say about the executor Pod: ``spec.podTemplate``.

No I/O. Only what is named here can be said at all; ``allowlist`` then refuses, within the parts that are kept as
they are (volumes, securityContext, affinity), everything that would make the operator a confused deputy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import KeyReference, LocalReference, Model, ObjectName, rule, rules

# The API server keeps these as they are; allowlist looks into them.
_OPEN = rules(preserve_unknown_fields=True)

LabelText = Annotated[str, Field(max_length=512)]


class Resources(Model):
    """Requests and limits of the executor's container, as in a Pod."""

    requests: Annotated[dict[str, int | str], Field(max_length=16)] = {}
    limits: Annotated[dict[str, int | str], Field(max_length=16)] = {}


class Toleration(Model):
    """As in a Pod."""

    key: Annotated[str, Field(max_length=317)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class EnvSource(Model):
    """Where an environment variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.configMapKeyRef) != has(self.secretKeyRef)",
                "write exactly one of configMapKeyRef and secretKeyRef",
            )
        )
    )

    config_map_key_ref: KeyReference | None = None
    secret_key_ref: KeyReference | None = None


class EnvVar(Model):
    """An environment variable of the executor, such as HTTPS_PROXY or GIT_TOKEN."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.value) != has(self.valueFrom)", "write exactly one of value and valueFrom")
        )
    )

    name: Annotated[
        str,
        Field(
            max_length=128,
            json_schema_extra=rules(
                rule("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "is not a variable's name: write letters, digits, '_'")
            ),
        ),
    ]
    value: Annotated[str, Field(max_length=4096)] | None = None
    value_from: EnvSource | None = None


class Volume(Model):
    """A volume as in a Pod (emptyDir, configMap, secret, projected or persistentVolumeClaim), and where it is mounted."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_OPEN)

    name: Annotated[
        str,
        Field(
            max_length=63,
            json_schema_extra=rules(
                rule(
                    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "is not a volume's name: write a-z, 0-9 and '-'"
                )
            ),
        ),
    ]
    mount_path: Annotated[
        str,
        Field(
            max_length=512,
            json_schema_extra=rules(
                rule("self.startsWith('/') && self.size() > 1", "must be an absolute path, such as /cache"),
            ),
        ),
    ]
    read_only: bool = True

    @property
    def source(self) -> dict[str, Any]:
        """The volume without its name and mount: ``{"emptyDir": {…}}``."""
        return dict(self.model_extra or {})


class PodTemplate(Model):
    """How the executor Pod is placed, sized and reached."""

    service_account_name: ObjectName | None = Field(
        default=None, description="One that the installation allows; its token is never mounted."
    )
    resources: Resources | None = None
    node_selector: Annotated[dict[str, LabelText], Field(max_length=32)] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    affinity: Annotated[dict[str, Any], Field(json_schema_extra=_OPEN)] | None = None
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] = []
    host_users: bool | None = Field(
        default=None,
        description="false gives the Pod a user namespace of its own; without it the installation chooses.",
    )
    security_context: Annotated[dict[str, Any], Field(json_schema_extra=_OPEN)] | None = Field(
        default=None,
        description="Of the container; only what lowers its rights (seccompProfile, capabilities.drop, …).",
    )
    labels: Annotated[dict[str, LabelText], Field(max_length=64)] = {}
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = {}
    env: Annotated[
        list[EnvVar], Field(max_length=64, json_schema_extra=rules(list_type="map", list_map_keys=["name"]))
    ] = []
    volumes: Annotated[
        list[Volume], Field(max_length=16, json_schema_extra=rules(list_type="map", list_map_keys=["name"]))
    ] = []

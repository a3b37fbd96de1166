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

    requests: Annotated[dict[str, int | str], Field(max_length=16, description="As in a Pod.")] = {}
    limits: Annotated[dict[str, int | str], Field(max_length=16, description="As in a Pod.")] = {}


class Toleration(Model):
    """As in a Pod."""

    key: Annotated[str, Field(max_length=317)] | None = Field(default=None, description="Of the taint.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Equal if not given.")
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Every effect if not given."
    )
    toleration_seconds: int | None = Field(default=None, description="Of NoExecute.")


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

    config_map_key_ref: KeyReference | None = Field(default=None, description="Key of a ConfigMap.")
    secret_key_ref: KeyReference | None = Field(default=None, description="Key of a Secret.")


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
            description="Of the variable.",
            json_schema_extra=rules(
                rule("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "is not a variable's name: write letters, digits, '_'")
            ),
        ),
    ]
    value: Annotated[str, Field(max_length=4096)] | None = Field(default=None, description="Its text.")
    value_from: EnvSource | None = Field(default=None, description="Where the value is.")


class Volume(Model):
    """A volume as in a Pod (emptyDir, configMap, secret, projected or persistentVolumeClaim), and where it is mounted."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_OPEN)

    name: Annotated[
        str,
        Field(
            max_length=63,
            description="Of the volume.",
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
            description="Where the engine sees it.",
            json_schema_extra=rules(
                rule("self.startsWith('/') && self.size() > 1", "must be an absolute path, such as /cache"),
            ),
        ),
    ]
    read_only: bool = Field(default=True, description="false mounts it for writing.")

    @property
    def source(self) -> dict[str, Any]:
        """The volume without its name and mount: ``{"emptyDir": {…}}``."""
        return dict(self.model_extra or {})


class PodTemplate(Model):
    """How the executor Pod is placed, sized and reached."""

    service_account_name: ObjectName | None = Field(
        default=None, description="One that the installation allows; its token is never mounted."
    )
    resources: Resources | None = Field(
        default=None, description="Of the executor's container; if not given, the installation's."
    )
    node_selector: Annotated[dict[str, LabelText], Field(max_length=32, description="As in a Pod.")] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=32, description="As in a Pod.")] = []
    affinity: Annotated[dict[str, Any], Field(json_schema_extra=_OPEN)] | None = Field(
        default=None, description="As in a Pod."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="None of the cluster's own (system-…).")
    runtime_class_name: ObjectName | None = Field(default=None, description="As in a Pod.")
    image_pull_secrets: Annotated[
        list[LocalReference], Field(max_length=16, description="For the executor's own image, not for base images.")
    ] = []
    host_users: bool | None = Field(
        default=None,
        description="false gives the Pod a user namespace of its own; without it the installation chooses.",
    )
    security_context: Annotated[dict[str, Any], Field(json_schema_extra=_OPEN)] | None = Field(
        default=None,
        description="Of the container; only what lowers its rights (seccompProfile, capabilities.drop, …).",
    )
    labels: Annotated[
        dict[str, LabelText], Field(max_length=64, description="Of the Pod, beside the operator's own.")
    ] = {}
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64, description="Of the Pod.")
    ] = {}
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=64,
            description="Of the engine, such as HTTPS_PROXY. RUN sees none of it: give it proxies as buildArgs.",
            json_schema_extra=rules(list_type="map", list_map_keys=["name"]),
        ),
    ] = []
    volumes: Annotated[
        list[Volume],
        Field(
            max_length=16,
            description="Of the executor's container: emptyDir, configMap, secret, projected, persistentVolumeClaim.",
            json_schema_extra=rules(list_type="map", list_map_keys=["name"]),
        ),
    ] = []

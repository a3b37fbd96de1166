"""``spec.podTemplate``: the part of the executor Pod that users may set.

No I/O. Only these fields exist, down to the leaves: an open one could be nested as deep as the API server reads.
``allowlist`` then checks them for everything that would make the operator a confused deputy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from imagewright_operator.api.affinity import Affinity
from imagewright_operator.api.base import (
    Json,
    KeyReference,
    LocalReference,
    Model,
    ObjectName,
    Quantity,
    rule,
    rules,
)
from imagewright_operator.api.envrules import RULE
from imagewright_operator.api.podvolumes import Volume
from imagewright_operator.api.securitycontext import SecurityContext

LabelText = Annotated[str, Field(max_length=512)]


class Resources(Model):
    """Requests and limits of the container in which commands run, as in a Pod."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16, description="Requested resources, as in a Pod.")] = {}
    limits: Annotated[dict[str, Quantity], Field(max_length=16, description="Resource limits, as in a Pod.")] = {}


class Toleration(Model):
    """A toleration, as in a Pod."""

    key: Annotated[str, Field(max_length=317)] | None = Field(default=None, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Comparison with the taint's value; Equal by default."
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every effect by default."
    )
    toleration_seconds: int | None = Field(
        default=None, description="Number of seconds for which a NoExecute taint is tolerated."
    )


class EnvSource(Model):
    """The source of an environment variable's value."""

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
            description="Name of the variable.",
            json_schema_extra=rules(
                rule(
                    RULE,
                    "is reserved: it would change what the engine runs, whom it trusts or where logins are sent; remove it",
                ),
                rule(
                    "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')", "is not a variable's name: write letters, digits, '_'"
                ),
            ),
        ),
    ]
    value: Annotated[str, Field(max_length=4096)] | None = Field(default=None, description="Value of the variable.")
    value_from: EnvSource | None = Field(default=None, description="Source of the value.")


class PodTemplate(Model):
    """Scheduling, resources and environment of the executor Pod."""

    service_account_name: ObjectName | None = Field(
        default=None,
        description="Service account of the Pod, one that the installation allows; its token is never mounted.",
    )
    resources: Resources | None = Field(
        default=None, description="Resources of the container in which commands run; the installation's by default."
    )
    node_selector: Annotated[
        dict[str, LabelText], Field(max_length=32, description="Labels that the node must have, as in a Pod.")
    ] = {}
    tolerations: Annotated[list[Toleration], Field(max_length=32, description="Tolerations of the Pod.")] = []
    affinity: Affinity | None = Field(default=None, description="Affinity rules, as in a Pod.")
    priority_class_name: (
        Annotated[
            ObjectName,
            Field(
                json_schema_extra=rules(
                    rule("!self.startsWith('system-')", "is reserved for the cluster: write the name of another one")
                )
            ),
        ]
        | None
    ) = Field(default=None, description="Priority class of the Pod, other than the cluster's own (system-…).")
    runtime_class_name: ObjectName | None = Field(default=None, description="Runtime class of the Pod.")
    image_pull_secrets: Annotated[
        list[LocalReference],
        Field(max_length=16, description="Secrets to pull the executor image; base images are pulled without them."),
    ] = []
    host_users: bool | None = Field(
        default=None,
        description="Whether the Pod uses the node's user namespace; false gives it one of its own. The installation chooses by default.",
    )
    security_context: SecurityContext | None = Field(
        default=None,
        description="Security context of the containers, limited to what reduces its privileges (seccompProfile, capabilities.drop, …).",
    )
    labels: Annotated[
        dict[str, LabelText], Field(max_length=64, description="Labels of the Pod, in addition to the operator's.")
    ] = {}
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64, description="Annotations of the Pod.")
    ] = {}
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=64,
            description="Environment variables of the engine, such as HTTPS_PROXY. RUN does not see them: pass proxies as buildArgs.",
            json_schema_extra=rules(list_type="map", list_map_keys=["name"]),
        ),
    ] = []
    volumes: Annotated[
        list[Volume],
        Field(
            max_length=16,
            description="Volumes of the engine, which RUN does not see: emptyDir, configMap, secret, projected, persistentVolumeClaim.",
            json_schema_extra=rules(list_type="map", list_map_keys=["name"]),
        ),
    ] = []

    @property
    def container_security(self) -> Json:
        """The security context as in a Pod; {} without one."""
        return self.security_context.as_json() if self.security_context is not None else {}

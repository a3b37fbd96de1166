"""``spec.podTemplate.affinity``: Kubernetes' own structure, so that the API server keeps nothing else.

No I/O. ``allowlist`` judges its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import PodModel, rule, rules

Weight = Annotated[int, Field(ge=1, le=100)]
_Key = Annotated[str, Field(max_length=317)]
_Value = Annotated[str, Field(max_length=253)]


class NodeRequirement(PodModel):
    """A condition on a label or field of a node."""

    key: _Key = Field(description="Key of the label, or name of the field.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="Comparison with the values."
    )
    values: Annotated[list[_Value], Field(max_length=64)] | None = Field(default=None, description="Values.")


_Requirements = Annotated[list[NodeRequirement], Field(max_length=32)]


class NodeTerm(PodModel):
    """Conditions on a node, all of which hold."""

    match_expressions: _Requirements | None = Field(default=None, description="Conditions on the node's labels.")
    match_fields: _Requirements | None = Field(default=None, description="Conditions on the node's fields.")


class NodeSelector(PodModel):
    """Terms, one of which holds."""

    node_selector_terms: Annotated[list[NodeTerm], Field(max_length=32)] = Field(description="Terms, as in a Pod.")


class PreferredNode(PodModel):
    """A preference for some nodes."""

    weight: Weight = Field(description="Weight of the preference, 1 to 100.")
    preference: NodeTerm = Field(description="Conditions on the node.")


class NodeAffinity(PodModel):
    """Nodes on which the Pod may or should run."""

    required: NodeSelector | None = Field(
        default=None,
        alias="requiredDuringSchedulingIgnoredDuringExecution",
        description="Nodes on which the Pod may run.",
    )
    preferred: Annotated[list[PreferredNode], Field(max_length=32)] | None = Field(
        default=None,
        alias="preferredDuringSchedulingIgnoredDuringExecution",
        description="Nodes on which the Pod should run.",
    )

    @property
    def keys(self) -> Iterator[str]:
        """Every key of a node's label or field."""
        terms = [*(self.required.node_selector_terms if self.required is not None else ())]
        terms += [one.preference for one in self.preferred or ()]
        for term in terms:
            yield from (one.key for one in (*(term.match_expressions or ()), *(term.match_fields or ())))


class LabelRequirement(PodModel):
    """A condition on a label."""

    key: _Key = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="Comparison with the values.")
    values: Annotated[list[_Value], Field(max_length=64)] | None = Field(default=None, description="Values.")


class LabelSelector(PodModel):
    """Conditions on labels, all of which hold."""

    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)] | None = Field(
        default=None, description="Labels and their values."
    )
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=32)] | None = Field(
        default=None, description="Conditions on labels."
    )


class PodTerm(PodModel):
    """Pods of the same namespace, and what counts as the same place."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.namespaces) && !has(self.namespaceSelector)",
                "must not have namespaces or namespaceSelector: only Pods of the own namespace can be named",
            )
        )
    )

    topology_key: _Key = Field(description="Label of nodes whose value is the same in the same place.")
    label_selector: LabelSelector | None = Field(default=None, description="Labels of the Pods.")
    match_label_keys: Annotated[list[_Key], Field(max_length=32)] | None = Field(
        default=None, description="Labels of the Pod whose values the other Pods have."
    )
    mismatch_label_keys: Annotated[list[_Key], Field(max_length=32)] | None = Field(
        default=None, description="Labels of the Pod whose values the other Pods do not have."
    )
    namespaces: Annotated[list[_Value], Field(max_length=32)] | None = Field(
        default=None, description="Not allowed: only Pods of the own namespace can be named."
    )
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Not allowed: only Pods of the own namespace can be named."
    )


class PreferredPods(PodModel):
    """A preference for the places of some Pods."""

    weight: Weight = Field(description="Weight of the preference, 1 to 100.")
    pod_affinity_term: PodTerm = Field(description="The Pods and the place.")


class PodAffinity(PodModel):
    """Places at which other Pods are."""

    required: Annotated[list[PodTerm], Field(max_length=32)] | None = Field(
        default=None, alias="requiredDuringSchedulingIgnoredDuringExecution", description="Places that are required."
    )
    preferred: Annotated[list[PreferredPods], Field(max_length=32)] | None = Field(
        default=None, alias="preferredDuringSchedulingIgnoredDuringExecution", description="Places that are preferred."
    )

    @property
    def terms(self) -> Iterator[PodTerm]:
        """All of them."""
        yield from self.required or ()
        yield from (one.pod_affinity_term for one in self.preferred or ())


class Affinity(PodModel):
    """Affinity rules, as in a Pod."""

    node_affinity: NodeAffinity | None = Field(default=None, description="Affinity to nodes.")
    pod_affinity: PodAffinity | None = Field(default=None, description="Affinity to Pods of the same namespace.")
    pod_anti_affinity: PodAffinity | None = Field(default=None, description="Distance from Pods of the same namespace.")

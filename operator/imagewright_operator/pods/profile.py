"""The Pod profile that ``auto`` stands for in one build, by the status of the nodes. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagewright_operator.api import Spec
from imagewright_operator.settings import Profile, Settings

NodeJson = Mapping[str, Any]


def choose(spec: Spec, settings: Settings, nodes: Sequence[NodeJson]) -> Profile:
    """The installation's profile; ``auto`` is userns if every node that could run the Pod supports user namespaces.

    On a node without support the Pod could not start, so one such node is enough for ``plain``.
    """
    if settings.profile is not Profile.AUTO:
        return settings.profile
    template = spec.pod_template
    if template.host_users:
        return Profile.PLAIN
    selector = dict(template.node_selector)
    if spec.platforms:
        selector["kubernetes.io/arch"] = spec.platforms[0].split("/")[1]
    able = [node for node in nodes if _could_run(node, selector)]
    handler = template.runtime_class_name or ""
    return Profile.USERNS if able and all(_has_user_namespaces(node, handler) for node in able) else Profile.PLAIN


def _could_run(node: NodeJson, selector: Mapping[str, str]) -> bool:
    labels = (node.get("metadata") or {}).get("labels") or {}
    if (node.get("spec") or {}).get("unschedulable"):
        return False
    return all(labels.get(key) == value for key, value in selector.items())


def _has_user_namespaces(node: NodeJson, handler: str) -> bool:
    """By the default handler, or by that with the name of the RuntimeClass, which is usually the same."""
    handlers = (node.get("status") or {}).get("runtimeHandlers") or ()
    return any(
        (one.get("name") or "") == handler and bool((one.get("features") or {}).get("userNamespaces"))
        for one in handlers
    )

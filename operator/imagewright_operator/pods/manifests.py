"""The manifest of the executor Pod, and the names of a build's Pods. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from imagewright_operator.api import API_VERSION, GROUP, KIND, ImageBuild, Spec
from imagewright_operator.api.base import Json, parse_duration
from imagewright_operator.api.podtemplate import Toleration
from imagewright_operator.api.spec import Output, Sandbox
from imagewright_operator.api.status import Build
from imagewright_operator.pods.containers import commands_container, containers
from imagewright_operator.pods.states import COMMANDS_ANNOTATION, EXECUTOR, RUNNER
from imagewright_operator.pods.volumes import group_of_ordinary_user, has_runner, own_volumes
from imagewright_operator.settings import Profile, Settings

UID_LABEL = f"{GROUP}/uid"
NAME_LABEL = f"{GROUP}/imagebuild"
BUILD_LABEL = f"{GROUP}/build"
ATTEMPT_LABEL = f"{GROUP}/attempt"
COMPONENT_LABEL = "app.kubernetes.io/component"
POD_SELECTOR = f"{COMPONENT_LABEL}=executor,app.kubernetes.io/managed-by=imagewright"

_NODE_LOST_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_NODE_LOST_S = 60
_PROBE_SUFFIX = "-probe"  # a build's Pod ends with the number of its attempt
_PROBE_TIMEOUT = "2m"
_PROBE_RESOURCES = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
# By these, the webhooks of cloud identities give no token to a container. Separators as documented for each.
_SKIP_CONTAINERS = {
    "eks.amazonaws.com/skip-containers": ",",
    "azure.workload.identity/skip-containers": ";",
    "pod-identity.alibabacloud.com/skip-containers": ",",
}


def pod_name(imagebuild_name: str, build: Build) -> str:
    """Name of the Pod of this build's current attempt.

    A Pod that follows one which never ran has another name: its signature is of no use for the next.
    """
    name = f"{imagebuild_name}-{build.id}-{build.attempt}"
    return f"{name}-{build.releases}" if build.releases else name


def poll_pod_name(imagebuild_name: str, uid: str, number: int) -> str:
    """Name of the Pod of the ``number``-th poll of a branch; no two polls have the same."""
    digest = hashlib.sha256(json.dumps([uid, "probe", number]).encode()).hexdigest()
    return f"{imagebuild_name}-{digest[:16]}{_PROBE_SUFFIX}"


def is_poll_pod(name: str) -> bool:
    """Whether the Pod with this name polls a branch instead of building."""
    return name.endswith(_PROBE_SUFFIX)


def executor_pod(imagebuild: ImageBuild, build: Build, settings: Settings, profile: Profile) -> Json:
    """The Pod of the current attempt of ``build``; ``profile`` is any but AUTO.

    Raises:
        UsageError: reason ``InvalidSpec``: the request does not fit into an environment variable.
    """
    template = imagebuild.spec.pod_template
    metadata = imagebuild.metadata
    volumes, mounts = own_volumes(imagebuild.spec, settings)
    for volume in template.volumes:
        volumes.append({"name": volume.name, **volume.source})
        mounts.append({"name": volume.name, "mountPath": volume.mount_path, "readOnly": volume.read_only})
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(metadata.name, build),
            "namespace": metadata.namespace,
            "labels": {
                **template.labels,
                "app.kubernetes.io/name": "imagewright",
                COMPONENT_LABEL: "executor",
                "app.kubernetes.io/managed-by": "imagewright",
                NAME_LABEL: metadata.name,
                UID_LABEL: metadata.uid,
                BUILD_LABEL: build.id,
                ATTEMPT_LABEL: str(build.attempt),
            },
            "annotations": _annotations(imagebuild, profile),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": metadata.name,
                    "uid": metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": _deadline_s(imagebuild.spec),
            "terminationGracePeriodSeconds": settings.termination_grace_s,
            "containers": containers(imagebuild, settings, profile, mounts),
            "volumes": volumes,
        },
    }
    _set_placement(pod["spec"], imagebuild.spec, profile)
    group = group_of_ordinary_user(template.container_security)
    if group is not None:
        pod["spec"]["securityContext"] = {"fsGroup": group}
    return pod


def poll_pod(imagebuild: ImageBuild, name: str, settings: Settings, profile: Profile) -> Json:
    """The Pod that reports the source's current commit: an executor with the credentials of the source only.

    Raises:
        UsageError: as ``executor_pod``.
    """
    unneeded: Json = {
        "build_args": [],
        "secrets": [],
        "ssh": [],
        "cache": None,
        "output": Output(tags=imagebuild.spec.output.tags[:1]),
        "registries": [],
        "timeout": _PROBE_TIMEOUT,
        "start_timeout": _PROBE_TIMEOUT,
        "sandbox": Sandbox.NAMESPACE,  # it runs no commands: one container is enough
    }
    reduced = imagebuild.model_copy(update={"spec": imagebuild.spec.model_copy(update=unneeded)})
    pod = executor_pod(reduced, Build(id="probe", inputs_hash=""), settings, profile)
    pod["metadata"]["name"] = name
    del pod["metadata"]["labels"][ATTEMPT_LABEL]
    (container,) = pod["spec"]["containers"]
    container |= {"args": ["probe"], "resources": _PROBE_RESOURCES}
    return pod


def _annotations(imagebuild: ImageBuild, profile: Profile) -> dict[str, str]:
    annotations = {**imagebuild.spec.pod_template.annotations, "kubectl.kubernetes.io/default-container": EXECUTOR}
    if has_runner(imagebuild.spec):
        annotations[COMMANDS_ANNOTATION] = commands_container(imagebuild, profile)
        for key, separator in _SKIP_CONTAINERS.items():
            skipped = [name.strip() for name in annotations.get(key, "").split(separator) if name.strip()]
            annotations[key] = separator.join(dict.fromkeys([*skipped, RUNNER]))
    return annotations


def _deadline_s(spec: Spec) -> int:
    """A backstop for times without an operator. The kubelet includes mounts and image pulls, hence the sum."""
    return max(1, int((parse_duration(spec.timeout) + parse_duration(spec.start_timeout)).total_seconds()))


def _set_placement(pod_spec: Json, spec: Spec, profile: Profile) -> None:
    """Set the fields that decide where the Pod runs and under which account."""
    template = spec.pod_template
    host_users = template.host_users
    if host_users is None and profile in (Profile.USERNS, Profile.USERNS_STRICT):
        host_users = False
    if host_users is not None:
        pod_spec["hostUsers"] = host_users
    selector = dict(template.node_selector)
    if spec.platforms:
        system, architecture = spec.platforms[0].split("/")[:2]
        selector |= {"kubernetes.io/os": system, "kubernetes.io/arch": architecture}
    optional: Json = {
        "serviceAccountName": template.service_account_name,
        "nodeSelector": selector,
        "tolerations": _tolerations(template.tolerations),
        "affinity": template.affinity.as_json() if template.affinity is not None else None,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [secret.as_json() for secret in template.image_pull_secrets],
    }
    pod_spec.update({key: value for key, value in optional.items() if value})


def _tolerations(given: Sequence[Toleration]) -> list[Json]:
    """The template's tolerations, and one minute for a lost node unless the template tolerates it for another time.

    Kubernetes' default of five minutes is meant for services, whose other replicas continue; a build on a lost node
    just stops. A kubelet that is only restarted is back before its node counts as lost.
    """
    tolerations = [toleration.as_json() for toleration in given]
    for key in _NODE_LOST_TAINTS:
        if not any(one.key in (key, None) and one.effect in ("NoExecute", None) for one in given):
            lost: Json = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _NODE_LOST_S}
            tolerations.append(lost)
    return tolerations


def owner_uid(pod: Mapping[str, Any]) -> str:
    """UID of the ImageBuild that controls this Pod; "" if none does, whatever the Pod is.

    Anyone could have set its labels.
    """
    try:
        for owner in pod["metadata"].get("ownerReferences") or ():
            if owner.get("controller") and (owner.get("apiVersion"), owner.get("kind")) == (API_VERSION, KIND):
                return str(owner.get("uid") or "")
    except (AttributeError, LookupError, TypeError):  # no Pod of the operator's
        return ""
    return ""

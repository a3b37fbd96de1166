"""An ImageBuild as the executor sees it (the BuildRequest) and as the cluster runs it (the Pod).

No I/O. Called by ``reconcile``. Everything of the operator's lies below ``/kaniko`` in the container, the engine's own
folder, so that no path of an image being built in the ``root`` sandbox is hidden by a mount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagewright import contract
from imagewright.contract import REQUEST_ENV, TERMINATION_MESSAGE_PATH, BuildRequest, RegistrySettings, SandboxKind
from imagewright.reference import Reference
from imagewright_operator.api import API_VERSION, GROUP, KIND, ImageBuild, Spec
from imagewright_operator.api.base import Json, KeyReference, parse_duration
from imagewright_operator.api.status import Build
from imagewright_operator.inputs import pod_name
from imagewright_operator.settings import Profile, Settings

CONTAINER = "executor"
ENTRY_POINT = "/kaniko/executor"
WORK_DIR = "/kaniko/work"
DOCKER_CONFIG_DIR = "/kaniko/.docker"
GIT_CREDENTIALS_DIR = "/kaniko/credentials/git"
CONTEXT_DIR = "/kaniko/context"
REGISTRY_CA_DIR = "/kaniko/certificates/installation"
BUILD_CA_DIR = "/kaniko/certificates/build"
SECRETS_DIR = "/kaniko/secrets"
SSH_KEYS_DIR = "/kaniko/ssh"
CACHE_DIR = "/kaniko/cache"

UID_LABEL = f"{GROUP}/uid"
NAME_LABEL = f"{GROUP}/imagebuild"
BUILD_LABEL = f"{GROUP}/build"
ATTEMPT_LABEL = f"{GROUP}/attempt"
COMPONENT_LABEL = "app.kubernetes.io/component"
POD_SELECTOR = f"{COMPONENT_LABEL}=executor,app.kubernetes.io/managed-by=imagewright"

_STRICT_CAPABILITIES = ("SYS_ADMIN", "SYS_CHROOT", "SETUID", "SETGID", "SETFCAP", "DAC_OVERRIDE", "CHOWN", "FOWNER")


def build_request(imagebuild: ImageBuild, settings: Settings) -> BuildRequest:
    """What the executor is asked for. Holds no secret: names of files and of environment variables only."""
    spec = imagebuild.spec
    return BuildRequest(
        source=_source(spec),
        context_dir=spec.context_dir,
        dockerfile=spec.dockerfile,
        target=spec.target or "",
        build_args=tuple(
            contract.BuildArg(name=arg.name, value=arg.value)
            if arg.value_from is None
            else contract.BuildArg(name=arg.name, from_env=_arg_variable(index))
            for index, arg in enumerate(spec.build_args)
        ),
        secrets=tuple(
            contract.SecretSource(id=secret.id, file=f"{SECRETS_DIR}/{index}")
            for index, secret in enumerate(spec.secrets)
        ),
        ssh=tuple(
            contract.SshSource(id=key.id, paths=(f"{SSH_KEYS_DIR}/{index}",)) for index, key in enumerate(spec.ssh)
        ),
        labels=dict(spec.output.labels),
        platform=spec.platforms[0] if spec.platforms else "",
        destinations=tuple(spec.output.tags),
        insecure=spec.output.insecure,
        registries=_registries(spec, settings),
        docker_config_dir=DOCKER_CONFIG_DIR if spec.output.push_secret_ref else "",
        sandbox=SandboxKind(spec.sandbox.value.lower()),
        cache_dir=CACHE_DIR if spec.cache is not None and spec.cache.volume is not None else "",
        work_dir=WORK_DIR,
    )


def executor_pod(imagebuild: ImageBuild, build: Build, settings: Settings, profile: Profile) -> Json:
    """The Pod of the current attempt of ``build``; ``profile`` is a rung that is not AUTO.

    Raises:
        UsageError: reason ``InvalidSpec``, when the request doesn't fit into an environment variable.
    """
    template = imagebuild.spec.pod_template
    metadata = imagebuild.metadata
    volumes, mounts = _volumes(imagebuild.spec, settings)
    for volume in template.volumes:
        volumes.append({"name": volume.name, **volume.source})
        mounts.append({"name": volume.name, "mountPath": volume.mount_path, "readOnly": volume.read_only})
    context = _security_context(template.security_context or {}, profile)
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
            "annotations": {**template.annotations, "kubectl.kubernetes.io/default-container": CONTAINER},
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
            "containers": [
                {
                    "name": CONTAINER,
                    "image": settings.executor_image,
                    **({"imagePullPolicy": settings.executor_pull_policy} if settings.executor_pull_policy else {}),
                    "command": [ENTRY_POINT],
                    "args": ["execute"],
                    "env": _environment(imagebuild, settings),
                    "resources": _resources(imagebuild, settings),
                    "securityContext": context,
                    "terminationMessagePath": TERMINATION_MESSAGE_PATH,
                    "terminationMessagePolicy": "File",
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }
    _place(pod["spec"], imagebuild.spec, profile)
    group = _group_of_ordinary_user(context)
    if group is not None:
        pod["spec"]["securityContext"] = {"fsGroup": group}
    return pod


def _deadline_s(spec: Spec) -> int:
    """A backstop for a time without operator. The kubelet counts mounts and image pulls too, so it is the sum."""
    return max(1, int((parse_duration(spec.timeout) + parse_duration(spec.start_timeout)).total_seconds()))


def _place(pod_spec: Json, spec: Spec, profile: Profile) -> None:
    """Where it runs and as whom."""
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
        "tolerations": [_dump(toleration) for toleration in template.tolerations],
        "affinity": template.affinity,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [_dump(secret) for secret in template.image_pull_secrets],
    }
    pod_spec.update({key: value for key, value in optional.items() if value})


def _source(spec: Spec) -> contract.Source:
    if spec.source.git is not None:
        git = spec.source.git
        ref = git.ref
        return contract.GitSource(
            url=git.url,
            ref=(ref.branch or ref.tag or "") if ref else "",
            ref_type=("branch" if ref.branch else "tag" if ref.tag else "any") if ref else "any",
            commit=(ref.commit or "").lower() if ref else "",
            depth=git.depth,
            submodules=git.submodules,
            credentials_dir=GIT_CREDENTIALS_DIR if git.secret_ref else "",
        )
    if spec.source.config_map is not None:
        return contract.ConfigMapSource(path=CONTEXT_DIR)
    assert spec.source.inline is not None, "validation lets only these three pass"
    return contract.InlineSource(dockerfile=spec.source.inline.dockerfile)


def _registries(spec: Spec, settings: Settings) -> tuple[RegistrySettings, ...]:
    """The installation's, overlaid by what the build says about a registry."""
    by_host = {registry.host: _with_ca_path(registry) for registry in settings.registries}
    for index, registry in enumerate(spec.registries):
        known = by_host.get(registry.host, RegistrySettings(host=registry.host))
        update: Json = {"insecure": registry.insecure or known.insecure}
        if registry.mirrors:
            update["mirrors"] = tuple(registry.mirrors)
        if registry.ca_bundle_ref is not None:
            update["ca_file"] = f"{BUILD_CA_DIR}/registry-{index}.crt"
        by_host[registry.host] = known.model_copy(update=update)
    if spec.output.ca_bundle_ref is not None:
        for tag in spec.output.tags:
            host = Reference.parse(tag).registry
            known = by_host.get(host, RegistrySettings(host=host))
            by_host[host] = known.model_copy(update={"ca_file": f"{BUILD_CA_DIR}/output.crt"})
    return tuple(by_host.values())


def _with_ca_path(registry: RegistrySettings) -> RegistrySettings:
    """The installation names a key of its ConfigMap; the executor wants the file that it becomes."""
    if not registry.ca_file or registry.ca_file.startswith("/"):
        return registry
    return registry.model_copy(update={"ca_file": f"{REGISTRY_CA_DIR}/{registry.ca_file}"})


def _volumes(spec: Spec, settings: Settings) -> tuple[list[Json], list[Json]]:
    """The operator's own volumes and where they are mounted. None is optional: the kubelet heals a missing one."""
    volumes: list[Json] = [{"name": "imagewright-work", "emptyDir": {"sizeLimit": settings.workspace_size}}]
    mounts: list[Json] = [{"name": "imagewright-work", "mountPath": WORK_DIR}]

    def add(name: str, path: str, source: Json) -> None:
        volumes.append({"name": f"imagewright-{name}", **source})
        mounts.append({"name": f"imagewright-{name}", "mountPath": path, "readOnly": True})

    mode = 0o440 if _group_of_ordinary_user(spec.pod_template.security_context or {}) is not None else 0o400
    if spec.output.push_secret_ref is not None:
        item = {"key": ".dockerconfigjson", "path": "config.json"}
        secret = {"secretName": spec.output.push_secret_ref.name, "items": [item], "defaultMode": mode}
        add("docker-config", DOCKER_CONFIG_DIR, {"secret": secret})
    if spec.source.git is not None and spec.source.git.secret_ref is not None:
        secret = {"secretName": spec.source.git.secret_ref.name, "defaultMode": mode}
        add("git-credentials", GIT_CREDENTIALS_DIR, {"secret": secret})
    # Files, and none in the environment, which every process of the engine's would hand on. Named by their place in the
    # list: an id may have a slash in it.
    for name, path, references in (
        ("secrets", SECRETS_DIR, [secret.secret_key_ref for secret in spec.secrets]),
        ("ssh", SSH_KEYS_DIR, [key.secret_key_ref for key in spec.ssh]),
    ):
        if references:
            add(name, path, {"projected": {"sources": _named_keys("secret", references), "defaultMode": mode}})
    if spec.cache is not None and spec.cache.volume is not None:
        claim = {"claimName": spec.cache.volume.claim_name}
        volumes.append({"name": "imagewright-cache", "persistentVolumeClaim": claim})
        mounts.append({"name": "imagewright-cache", "mountPath": CACHE_DIR})
    if spec.source.config_map is not None:
        add("context", CONTEXT_DIR, {"configMap": {"name": spec.source.config_map.name}})
    if settings.registry_ca_config_map:
        add("installation-ca", REGISTRY_CA_DIR, {"configMap": {"name": settings.registry_ca_config_map}})
    bundles = [
        (f"registry-{index}.crt", registry.ca_bundle_ref)
        for index, registry in enumerate(spec.registries)
        if registry.ca_bundle_ref is not None
    ]
    if spec.output.ca_bundle_ref is not None:
        bundles.append(("output.crt", spec.output.ca_bundle_ref))
    if bundles:
        sources = [
            {"configMap": {"name": bundle.name, "items": [{"key": bundle.key, "path": path}]}}
            for path, bundle in bundles
        ]
        add("build-ca", BUILD_CA_DIR, {"projected": {"sources": sources}})
    return volumes, mounts


def _named_keys(kind: str, references: Sequence[KeyReference]) -> list[Json]:
    """Sources of a projected volume: one key each, in a file named by its place in the list."""
    return [
        {kind: {"name": reference.name, "items": [{"key": reference.key, "path": str(index)}]}}
        for index, reference in enumerate(references)
    ]


def _environment(imagebuild: ImageBuild, settings: Settings) -> list[Json]:
    spec = imagebuild.spec
    environment: list[Json] = [{"name": REQUEST_ENV, "value": build_request(imagebuild, settings).encode()}]
    for index, arg in enumerate(spec.build_args):
        if arg.value_from is not None:
            environment.append({"name": _arg_variable(index), "valueFrom": _dump(arg.value_from)})
    for variable in spec.pod_template.env:
        entry = _dump(variable)
        if variable.value is not None:
            entry["value"] = variable.value.replace("$", "$$")  # the kubelet expands $(VAR) and turns $$ into $
        environment.append(entry)
    return environment


def _arg_variable(index: int) -> str:
    return f"IMAGEWRIGHT_BUILD_ARG_{index}"


def _resources(imagebuild: ImageBuild, settings: Settings) -> Mapping[str, Any]:
    given = imagebuild.spec.pod_template.resources
    if given is None:
        return settings.resources
    return {key: value for key, value in _dump(given).items() if value}


def _security_context(given: Mapping[str, Any], profile: Profile) -> Json:
    """The profile's, with the template's on top; the allow-list lets the template only take rights away."""
    context: Json = {}
    if profile is Profile.HARDENED:
        context["seccompProfile"] = {"type": "RuntimeDefault"}
    elif profile is Profile.USERNS_STRICT:
        context["seccompProfile"] = {"type": "RuntimeDefault"}
        context["procMount"] = "Unmasked"  # of the Pod's own user namespace
        context["capabilities"] = {"drop": ["ALL"], "add": list(_STRICT_CAPABILITIES)}
    own = context.get("capabilities", {})
    context.update(given)
    if own and "capabilities" in given:
        dropped = [_capability(name) for name in (given["capabilities"] or {}).get("drop") or ()]
        kept = [] if "ALL" in dropped else [name for name in own["add"] if name not in dropped]
        context["capabilities"] = {"drop": ["ALL"], **({"add": kept} if kept else {})}
    return context


def _capability(name: Any) -> str:
    return str(name).upper().removeprefix("CAP_")


def _group_of_ordinary_user(context: Mapping[str, Any]) -> int | None:
    """The group that must be able to read the mounted secrets, when the container doesn't run as root."""
    user = context.get("runAsUser")
    if not isinstance(user, int) or user == 0:
        return None
    group = context.get("runAsGroup")
    return group if isinstance(group, int) else user


def _dump(model: Any) -> Json:
    dumped: Json = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def pods_of(pods: Sequence[Mapping[str, Any]], uid: str) -> list[Mapping[str, Any]]:
    """Those Pods that belong to the ImageBuild with this UID by their controller reference, not only by a label."""
    return [
        pod
        for pod in pods
        if any(
            owner.get("uid") == uid and owner.get("controller")
            for owner in pod["metadata"].get("ownerReferences") or ()
        )
    ]

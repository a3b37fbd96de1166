"""The BuildRequest and the Pod of an ImageBuild."""

from __future__ import annotations

from typing import Any

import pytest
from imagebuilds.manifests import container, environment, imagebuild, mounts, pod

from imagewright.contract import REQUEST_ENV
from imagewright.contract.request import BuildRequest, CacheSettings, RegistrySettings, SecretSource, SshSource
from imagewright.contract.sources import (
    AzureBlobSource,
    DirectorySource,
    GcsSource,
    HttpArchiveSource,
    OciSource,
    S3Source,
    Source,
)
from imagewright.errors import UsageError
from imagewright_operator.pods import volumes
from imagewright_operator.pods.manifests import is_poll_pod, owner_uid, poll_pod
from imagewright_operator.pods.request import build_request
from imagewright_operator.settings import Profile, Settings


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM scratch\nENV A=$$ B=$(HOME) C=$$(HOME) D='\"`' E=\\\\\n",
        "#" + "漢" * 5461,  # 16 KiB of CJK
        "FROM scratch\r\nRUN echo \u2028 \U0001f600\t\n",
    ],
)
def test_an_inline_dockerfile_arrives_byte_for_byte(dockerfile: str) -> None:
    assert len(dockerfile.encode()) <= 16 * 1024
    text = environment(pod({"inline": {"dockerfile": dockerfile}}))[REQUEST_ENV]
    assert "$" not in text, "the kubelet would expand it"
    source = BuildRequest.decode(text).context.source
    assert source.kind == "inline"
    assert source.dockerfile.encode() == dockerfile.encode()


def test_a_request_that_is_too_large_is_refused() -> None:
    args = [{"name": f"A{index}", "value": "x" * 30000} for index in range(4)]
    with pytest.raises(UsageError, match="build request too large"):
        pod(buildArgs=args)


def test_the_pod_has_only_the_privileges_that_a_build_needs() -> None:
    made = pod()
    spec = made["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert "privileged" not in container(made)["securityContext"]


def test_name_labels_and_owner_follow_from_the_build_record() -> None:
    metadata = pod()["metadata"]
    assert metadata["name"] == "app-0123abcd-2"
    assert metadata["labels"]["imagewright.dev/uid"] == "uid-1"
    owner = metadata["ownerReferences"][0]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("uid-1", True, False)


def test_the_templates_labels_do_not_override_the_operators() -> None:
    labels = pod(podTemplate={"labels": {"imagewright.dev/uid": "other", "team": "a"}})["metadata"]["labels"]
    assert (labels["imagewright.dev/uid"], labels["team"]) == ("uid-1", "a")


def test_active_deadline_seconds_includes_the_start_timeout() -> None:
    """It counts from before the mounts and the image: alone it would cut a build short that had to wait."""
    assert pod(timeout="30m", startTimeout="5m")["spec"]["activeDeadlineSeconds"] == 35 * 60


@pytest.mark.parametrize(
    ("profile", "host_users", "context"),
    [
        (Profile.PLAIN, None, {}),
        (Profile.USERNS, False, {}),
        (Profile.HARDENED, None, {"seccompProfile": {"type": "RuntimeDefault"}}),
    ],
)
def test_the_profiles(profile: Profile, host_users: bool | None, context: dict[str, Any]) -> None:
    made = pod(profile=profile)
    assert made["spec"].get("hostUsers") is host_users
    assert container(made)["securityContext"] == context


def test_the_strict_profile_confines_its_capabilities_to_the_pods_user_namespace() -> None:
    made = pod(profile=Profile.USERNS_STRICT)
    context = container(made)["securityContext"]
    assert made["spec"]["hostUsers"] is False
    assert context["procMount"] == "Unmasked"
    assert context["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" in context["capabilities"]["add"]


def test_the_template_can_only_reduce_privileges() -> None:
    made = pod(
        profile=Profile.USERNS_STRICT, podTemplate={"securityContext": {"capabilities": {"drop": ["CAP_SYS_ADMIN"]}}}
    )
    capabilities = container(made)["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in capabilities["add"]
    assert "CHOWN" in capabilities["add"]


def test_the_templates_seccomp_profile_applies_to_the_plain_profile() -> None:
    context = container(pod(podTemplate={"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}))[
        "securityContext"
    ]
    assert context == {"seccompProfile": {"type": "RuntimeDefault"}}


def test_the_push_secret_is_a_file_for_root_only_in_the_folder_that_the_request_names() -> None:
    made = pod(output={"tags": ["a/b"], "pushSecretRef": {"name": "regcred"}})
    volume = mounts(made)["/kaniko/.docker"]
    assert volume["secret"] == {
        "secretName": "regcred",
        "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
        "defaultMode": 0o400,
    }
    assert volume["readOnly"]
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).registry.docker_config_dir == "/kaniko/.docker"


def test_a_non_root_executor_reads_the_push_secret_by_its_group() -> None:
    made = pod(
        output={"tags": ["a/b"], "pushSecretRef": {"name": "regcred"}},
        podTemplate={"securityContext": {"runAsUser": 1000}},
    )
    assert made["spec"]["securityContext"] == {"fsGroup": 1000}
    assert mounts(made)["/kaniko/.docker"]["secret"]["defaultMode"] == 0o440


SECRETS = [
    {"id": "npmrc", "secretKeyRef": {"name": "npm", "key": ".npmrc"}},
    {"id": "team/token", "secretKeyRef": {"name": "tokens", "key": "team"}},
]


def test_build_secrets_are_files_whose_paths_the_request_names() -> None:
    made = pod(secrets=SECRETS)
    volume = mounts(made)["/kaniko/secrets"]
    assert volume["readOnly"]
    assert volume["projected"] == {
        "sources": [
            {"secret": {"name": "npm", "items": [{"key": ".npmrc", "path": "0"}]}},
            {"secret": {"name": "tokens", "items": [{"key": "team", "path": "1"}]}},
        ],
        "defaultMode": 0o400,
    }, "none is optional: the kubelet waits for it"
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).run.secrets == (
        SecretSource(id="npmrc", file="/kaniko/secrets/0"),
        SecretSource(id="team/token", file="/kaniko/secrets/1"),
    )


def test_ssh_keys_are_files_whose_paths_the_request_names() -> None:
    made = pod(ssh=[{"secretKeyRef": {"name": "deploy", "key": "ssh-privatekey"}}, {**SECRETS[0], "id": "other"}])
    assert [one["secret"]["name"] for one in mounts(made)["/kaniko/ssh"]["projected"]["sources"]] == ["deploy", "npm"]
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).run.ssh == (
        SshSource(id="default", paths=("/kaniko/ssh/0",)),
        SshSource(id="other", paths=("/kaniko/ssh/1",)),
    )


def test_no_build_secret_is_in_the_environment() -> None:
    made = pod(secrets=SECRETS, ssh=[SECRETS[0]])
    assert list(environment(made)) == [REQUEST_ENV]
    assert "secretKeyRef" not in str(made)


def test_a_non_root_executor_reads_secrets_and_keys_by_its_group() -> None:
    found = mounts(pod(secrets=SECRETS, ssh=[SECRETS[0]], podTemplate={"securityContext": {"runAsUser": 1000}}))
    assert found["/kaniko/secrets"]["projected"]["defaultMode"] == 0o440
    assert found["/kaniko/ssh"]["projected"]["defaultMode"] == 0o440


def test_cache_mounts_are_on_the_persistent_volume_claim() -> None:
    made = pod(cache={"volume": {"claimName": "npm-cache"}})
    volume = mounts(made)["/kaniko/cache"]
    assert volume["persistentVolumeClaim"] == {"claimName": "npm-cache"}
    assert not volume["readOnly"]
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).run.cache_dir == "/kaniko/cache"
    assert BuildRequest.decode(environment(pod())[REQUEST_ENV]).run.cache_dir == ""


def test_a_git_source() -> None:
    git = {
        "url": "https://git.example.com/a.git",
        "ref": {"branch": "main", "commit": "A" * 40},
        "secretRef": {"name": "git"},
    }
    made = pod({"git": git}, contextDir="services/api")
    source = BuildRequest.decode(environment(made)[REQUEST_ENV]).context.source
    assert source.kind == "git"
    assert (source.ref, source.ref_type, source.commit) == ("main", "branch", "a" * 40)
    assert source.credentials_dir in mounts(made)
    assert mounts(made)[source.credentials_dir]["secret"]["secretName"] == "git"


def test_a_poll_pod_has_the_credentials_of_the_source_only() -> None:
    source = {"git": {"url": "https://git.example.com/app.git", "poll": "5m", "secretRef": {"name": "git"}}}
    built = imagebuild(
        source,
        output={"tags": ["a/b"], "pushSecretRef": {"name": "regcred"}},
        secrets=[{"id": "npm", "secretKeyRef": {"name": "npm", "key": "npmrc"}}],
        ssh=[{"secretKeyRef": {"name": "ssh", "key": "key"}}],
        cache={"repository": "a/cache", "volume": {"claimName": "cache"}},
        buildArgs=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}],
        podTemplate={"nodeSelector": {"pool": "builds"}},
    )
    made = poll_pod(built, "app-1a2b-probe", Settings(), Profile.HARDENED)
    assert is_poll_pod(made["metadata"]["name"])
    assert container(made)["args"] == ["probe"]
    volumes = [one.get("secret", {}).get("secretName") or one["name"] for one in made["spec"]["volumes"]]
    assert volumes == ["imagewright-work", "git"]
    assert [one["name"] for one in container(made)["env"]] == [REQUEST_ENV]
    assert made["spec"]["nodeSelector"] == {"pool": "builds"}
    assert container(made)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert owner_uid(made) == "uid-1", "it goes with the ImageBuild"


def test_a_config_map_is_mounted_whole() -> None:
    made = pod({"configMap": {"name": "ctx"}})
    source = BuildRequest.decode(environment(made)[REQUEST_ENV]).context.source
    assert source.kind == "configMap"
    assert mounts(made)[source.path]["configMap"] == {"name": "ctx"}


def test_a_build_argument_from_a_config_map_is_read_by_the_kubelet_alone() -> None:
    reference = {"name": "args", "key": "version"}
    made = pod(
        buildArgs=[{"name": "A", "value": "$(HOME)"}, {"name": "B", "valueFrom": {"configMapKeyRef": reference}}]
    )
    first, second = BuildRequest.decode(environment(made)[REQUEST_ENV]).plan.build_args
    assert (first.value, second.value) == ("$(HOME)", None)
    assert environment(made)[second.from_env] == {"configMapKeyRef": reference}


def test_the_templates_variables_are_passed_literally() -> None:
    """The kubelet turns $$ into $ and expands $(VAR)."""
    made = pod(podTemplate={"env": [{"name": "A", "value": "$(HOME) $$"}]})
    assert environment(made)["A"] == "$$(HOME) $$$$"


def test_the_builds_resources_replace_the_installations() -> None:
    settings = Settings(resources={"limits": {"memory": "2Gi"}})
    assert container(pod(settings=settings, sandbox="Namespace"))["resources"] == {"limits": {"memory": "2Gi"}}
    own = {"requests": {"memory": "1Gi"}}
    made = pod(settings=settings, sandbox="Namespace", podTemplate={"resources": own})
    assert container(made)["resources"] == own


def test_the_builds_registries_override_the_installations() -> None:
    settings = Settings(
        registries=(
            RegistrySettings(host="docker.io", mirrors=("mirror.example.com",), endpoint="hub.example.com"),
            RegistrySettings(host="reg.example.com", insecure=True),
        )
    )
    request = build_request(
        imagebuild(
            registries=[
                {"host": "docker.io", "mirrors": ["own.example.com"], "caBundleRef": {"name": "ca", "key": "x"}}
            ]
        ),
        settings,
    )
    hub, other = request.registry.hosts
    assert (hub.mirrors, hub.endpoint) == (("own.example.com",), "hub.example.com")
    assert hub.ca_file.startswith("/kaniko/certificates/build/")
    assert other.insecure


def test_the_outputs_ca_bundle_applies_to_the_registries_of_its_tags() -> None:
    output = {"tags": ["a.example.com/x", "b.example.com/x"], "caBundleRef": {"name": "ca", "key": "ca.crt"}}
    made = pod(output=output)
    request = BuildRequest.decode(environment(made)[REQUEST_ENV])
    assert {(one.host, one.ca_file) for one in request.registry.hosts} == {
        ("a.example.com", "/kaniko/certificates/build/output.crt"),
        ("b.example.com", "/kaniko/certificates/build/output.crt"),
    }
    assert "/kaniko/certificates/build" in mounts(made)


def test_the_pods_placement() -> None:
    template = {
        "nodeSelector": {"pool": "builds"},
        "tolerations": [{"key": "builds", "operator": "Exists"}],
        "priorityClassName": "low",
        "serviceAccountName": "builder",
    }
    spec = pod(podTemplate=template, platforms=["linux/arm64"])["spec"]
    assert spec["nodeSelector"] == {"pool": "builds", "kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    assert spec["tolerations"][0] == {"key": "builds", "operator": "Exists"}
    assert (spec["priorityClassName"], spec["serviceAccountName"]) == ("low", "builder")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ([], {"not-ready": 60, "unreachable": 60}),
        ([{"key": "builds", "operator": "Exists"}], {"not-ready": 60, "unreachable": 60}),
        ([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}], {"not-ready": 60, "unreachable": 60}),
        ([{"operator": "Exists"}], {}),  # of everything, for ever
        (
            [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 900}],
            {"not-ready": 60, "unreachable": 900},
        ),
    ],
)
def test_a_lost_node_is_tolerated_for_a_minute_or_as_the_template_says(
    given: list[dict[str, Any]], seconds: dict[str, int]
) -> None:
    tolerations = pod(podTemplate={"tolerations": given})["spec"]["tolerations"]
    found = {
        one["key"].rpartition("/")[2]: one["tolerationSeconds"] for one in tolerations if "tolerationSeconds" in one
    }
    assert found == seconds
    assert tolerations[: len(given)] == given


def test_pods_are_identified_by_their_owner_not_by_a_label() -> None:
    of_ours = {"apiVersion": "imagewright.dev/v1alpha1", "kind": "ImageBuild", "controller": True}
    mine = {"metadata": {"ownerReferences": [{**of_ours, "uid": "uid-1"}]}}
    other = {
        "metadata": {
            "labels": {"imagewright.dev/uid": "uid-1"},
            "ownerReferences": [{**of_ours, "uid": "uid-2"}],
        }
    }
    job = {
        "metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "controller": True, "uid": "uid-1"}]}
    }
    assert [one for one in (mine, other, job, {"metadata": {}}) if owner_uid(one) == "uid-1"] == [mine]


LOGIN = {"secretRef": {"name": "login"}}
CREDENTIALS = "/kaniko/credentials/source"


@pytest.mark.parametrize(
    ("source", "means"),
    [
        (
            {"http": {"url": "https://example.com/a.tar", "sha256": "a" * 64, **LOGIN}},
            HttpArchiveSource(url="https://example.com/a.tar", sha256="a" * 64, credentials_dir=CREDENTIALS),
        ),
        (
            {"s3": {"bucket": "b", "key": "k", "endpoint": "https://s3.example.com", "pathStyle": True, **LOGIN}},
            S3Source(
                bucket="b", key="k", endpoint="https://s3.example.com", path_style=True, credentials_dir=CREDENTIALS
            ),
        ),
        (
            {"gcs": {"bucket": "b", "object": "o", **LOGIN}},
            GcsSource(bucket="b", object="o", credentials_dir=CREDENTIALS),
        ),
        (
            {"azureBlob": {"url": "https://a.blob.core.windows.net/b/c", **LOGIN}},
            AzureBlobSource(url="https://a.blob.core.windows.net/b/c", credentials_dir=CREDENTIALS),
        ),
        (
            {"oci": {"image": "reg.example.com/context:1", **LOGIN}},
            OciSource(image="reg.example.com/context:1", credentials_dir=CREDENTIALS),
        ),
    ],
)
def test_a_remote_source_and_its_credentials(source: dict[str, Any], means: Source) -> None:
    made = pod(source)
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).context.source == means
    secret = mounts(made)[CREDENTIALS]
    assert secret["readOnly"]
    assert secret["secret"]["secretName"] == "login"
    assert ("items" in secret["secret"]) == ("oci" in source), "only a config.json has a name of its own"
    without = {kind: {k: v for k, v in fields.items() if k != "secretRef"} for kind, fields in source.items()}
    assert CREDENTIALS not in mounts(pod(without))


def test_a_volume_source_is_mounted_read_only() -> None:
    made = pod({"volume": {"claimName": "sources", "subPath": "team/app"}})
    assert BuildRequest.decode(environment(made)[REQUEST_ENV]).context.source == DirectorySource(path="/kaniko/context")
    mounted = mounts(made)["/kaniko/context"]
    assert mounted["persistentVolumeClaim"] == {"claimName": "sources", "readOnly": True}
    assert mounted["readOnly"]
    (mount,) = (m for m in container(made)["volumeMounts"] if m["mountPath"] == "/kaniko/context")
    assert mount["subPath"] == "team/app"


@pytest.mark.parametrize(
    ("cache", "sources", "target"),
    [
        ({"repository": "r.example.com/a"}, ("r.example.com/a",), "r.example.com/a"),
        ({"from": ["r.example.com/a", "r.example.com/b"]}, ("r.example.com/a", "r.example.com/b"), ""),
        (
            {"repository": "r.example.com/a", "from": ["r.example.com/b"]},
            ("r.example.com/a", "r.example.com/b"),
            "r.example.com/a",
        ),
        ({"from": ["r.example.com/a"], "to": "r.example.com/b"}, ("r.example.com/a",), "r.example.com/b"),
        ({"to": "r.example.com/b"}, (), "r.example.com/b"),
    ],
)
def test_where_layers_are_looked_up_and_stored(cache: dict[str, Any], sources: tuple[str, ...], target: str) -> None:
    settings = build_request(imagebuild(cache=cache), Settings()).cache
    assert settings is not None
    assert (settings.sources, settings.target) == (sources, target)


def test_the_image_format_and_the_layer_cache() -> None:
    output = {
        "tags": ["reg.example.com/app:1"], "format": "OCI", "compression": "Zstd", "compressionLevel": 9,
        "annotations": {"a": "b"}, "timestamp": "Source",
    }  # fmt: skip
    cache = {"repository": "reg.example.com/cache", "ttl": "1h"}
    request = build_request(imagebuild(output=output, cache=cache), Settings())
    assert (request.image.format, request.image.compression, request.image.compression_level) == ("oci", "zstd", 9)
    assert request.image.annotations == {"a": "b"}
    assert request.image.timestamps == "source"
    assert request.cache == CacheSettings(
        sources=("reg.example.com/cache",), target="reg.example.com/cache", ttl_s=3600
    )
    plain = build_request(imagebuild(), Settings())
    assert (plain.image.format, plain.image.compression, plain.image.compression_level) == ("", "gzip", None)
    assert plain.image.timestamps == "build"
    assert plain.cache is None


def test_the_operators_mounts_are_below_the_engines_folder() -> None:
    folders = {name: path for name, path in vars(volumes).items() if name.endswith("_DIR")}
    assert folders
    assert all(path.startswith("/kaniko/") for path in folders.values()), folders


def test_a_client_certificate_is_mounted_for_its_registry() -> None:
    registry = {
        "host": "reg.example.com", "mirrors": ["m.example.com"], "mirrorsOnly": True,
        "clientCertificateSecretRef": {"name": "tls"},
    }  # fmt: skip
    made = pod(registries=[registry])
    (settings,) = BuildRequest.decode(environment(made)[REQUEST_ENV]).registry.hosts
    folder = "/kaniko/certificates/client/0"
    assert (settings.client_cert_file, settings.client_key_file) == (f"{folder}/tls.crt", f"{folder}/tls.key")
    assert settings.mirrors_only
    secret = mounts(made)[folder]["secret"]
    assert (secret["secretName"], secret["defaultMode"]) == ("tls", 0o400)
    assert [one["key"] for one in secret["items"]] == ["tls.crt", "tls.key"], "the kubelet waits for each"

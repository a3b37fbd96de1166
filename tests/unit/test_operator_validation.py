"""What is refused beyond the CRD's schema, and fields that a podTemplate must not have."""

from __future__ import annotations

from typing import Any

import pytest

from imagewright_operator.api import ImageBuild
from imagewright_operator.reconcile.validation import problems
from imagewright_operator.settings import Profile, Settings


def check(settings: Settings | None = None, **spec: Any) -> tuple[str, ...]:
    spec = {
        "source": {"inline": {"dockerfile": "FROM scratch\n"}},
        "output": {"tags": ["reg.example.com/app:1"]},
        **spec,
    }
    body = {"metadata": {"name": "app", "namespace": "ns", "uid": "u"}, "spec": spec}
    return problems(ImageBuild.parse(body), settings or Settings())


def template(settings: Settings | None = None, **fields: Any) -> tuple[str, ...]:
    return check(settings, podTemplate=fields)


def volume(path: str = "/data", **source: Any) -> tuple[str, ...]:
    return template(volumes=[{"name": "data", "mountPath": path, **source}])


SECRET = {"id": "a", "secretKeyRef": {"name": "a", "key": "b"}}


def test_a_plain_spec_is_valid() -> None:
    assert check() == ()


def test_secret_ssh_and_cache_mounts_are_valid() -> None:
    assert check(secrets=[SECRET], ssh=[SECRET], cache={"volume": {"claimName": "a"}}) == ()


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"platforms": ["linux/amd64", "linux/arm64"]}, "spec.platforms with more than one platform"),
    ],
)
def test_unsupported_fields_are_refused_by_name(spec: dict[str, Any], named: str) -> None:
    (problem,) = check(**spec)
    assert problem.startswith(f"{named} is not supported yet: ")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"source": {}}, "but has none"),
        ({"source": {"inline": {"dockerfile": "a"}, "configMap": {"name": "a"}}}, "but has configMap and inline"),
        ({"output": {"tags": []}}, "spec.output.tags is empty"),
        ({"output": {"tags": ["a b"]}}, "it contains a space"),
        ({"output": {"tags": ["a@sha256:" + "a" * 64]}}, "has a digest"),
        ({"contextDir": "a/../b"}, "is outside the source"),
        ({"secrets": [SECRET, SECRET]}, 'spec.secrets has the id "a" more than once'),
        ({"ssh": [SECRET, SECRET]}, 'spec.ssh has the id "a" more than once'),
        ({"dockerfile": "/etc/passwd"}, "is outside the source"),
        ({"registries": [{"host": "a", "mirrorsOnly": True}]}, "spec.registries"),
        ({"cache": {"repository": "a/b", "ttl": "soon"}}, "spec.cache.ttl"),
        ({"timeout": "25h"}, "at most 24h"),
        ({"timeout": "soon"}, "is not a duration"),
        ({"source": {"inline": {"dockerfile": "漢" * 5462}}}, "longer than 16 KiB"),
        ({"buildArgs": [{"name": f"A{i}", "value": "x" * 30000} for i in range(4)]}, "build request too large"),
    ],
)
def test_the_schemas_rules_are_checked_again(spec: dict[str, Any], said: str) -> None:
    """The operator doesn't trust that its own CRD is the one installed."""
    assert said in " ".join(check(**spec))


def test_all_problems_are_reported_at_once() -> None:
    assert len(check(source={}, contextDir="..", timeout="0s")) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"serviceAccountName": "default"},
        {"hostUsers": False},
        {"nodeSelector": {"a": "b"}, "priorityClassName": "low", "runtimeClassName": "gvisor"},
        {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}}},
        {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False}},
        {"securityContext": {"privileged": False, "capabilities": None}},
        {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com"}]},
        {"labels": {"team": "a", "example.com/x": "y"}},
    ],
)
def test_allowed_template_fields(fields: dict[str, Any]) -> None:
    assert template(**fields) == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"serviceAccountName": "admin"}, 'spec.podTemplate.serviceAccountName "admin"'),
        ({"priorityClassName": "system-node-critical"}, "spec.podTemplate.priorityClassName"),
        ({"securityContext": {"privileged": True}}, "spec.podTemplate.securityContext.privileged"),
        ({"securityContext": {"procMount": "Unmasked"}}, "spec.podTemplate.securityContext.procMount"),
        (
            {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
            "spec.podTemplate.securityContext.capabilities.add",
        ),
        ({"securityContext": {"capabilities": ["SYS_ADMIN"]}}, "spec.podTemplate.securityContext.capabilities.add"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "spec.podTemplate.securityContext.seLinuxOptions"),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            "spec.podTemplate.securityContext.appArmorProfile",
        ),
        ({"env": [{"name": "LD_PRELOAD", "value": "x"}]}, "spec.podTemplate.env LD_PRELOAD"),
        ({"env": [{"name": "IMAGEWRIGHT_REQUEST", "value": "x"}]}, "spec.podTemplate.env IMAGEWRIGHT_REQUEST"),
        ({"labels": {"imagewright.dev/uid": "x"}}, 'spec.podTemplate.labels "imagewright.dev/uid"'),
        (
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/executor": "unconfined"}},
            "spec.podTemplate.annotations",
        ),
    ],
)
def test_refused_template_fields(fields: dict[str, Any], named: str) -> None:
    (problem,) = template(**fields)
    assert problem.startswith(f"{named}")
    assert "not allowed" in problem


@pytest.mark.parametrize("source", ["emptyDir", "configMap", "secret", "persistentVolumeClaim"])
def test_allowed_volume_types(source: str) -> None:
    assert volume(**{source: {}}) == ()


@pytest.mark.parametrize("source", ["hostPath", "nfs", "csi", "image", "ephemeral", "iscsi", "gitRepo"])
def test_refused_volume_types(source: str) -> None:
    (problem,) = volume(**{source: {}})
    assert f"of type {source} is not allowed" in problem


def test_csi_volumes_if_the_installation_allows_them() -> None:
    volumes = [{"name": "data", "mountPath": "/data", "csi": {"driver": "x"}}]
    assert template(Settings(csi_volumes=True), volumes=volumes) == ()


def test_service_account_tokens_cannot_be_projected() -> None:
    assert volume(projected={"sources": [{"secret": {"name": "a"}}, {"configMap": {"name": "b"}}]}) == ()
    (problem,) = volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]})
    assert "must not project serviceAccountToken" in problem


def test_a_volume_has_exactly_one_type() -> None:
    assert "must have exactly one of" in volume(emptyDir={}, hostPath={"path": "/"})[0]
    assert "must have exactly one of" in volume()[0]


@pytest.mark.parametrize(
    ("profile", "kind", "fine"),
    [
        (Profile.AUTO, "Localhost", True),
        (Profile.PLAIN, "Unconfined", True),
        (Profile.HARDENED, "RuntimeDefault", True),
        (Profile.HARDENED, "Localhost", False),
        (Profile.USERNS_STRICT, "Unconfined", False),
    ],
)
def test_seccomp_is_never_looser_than_the_profile(profile: Profile, kind: str, fine: bool) -> None:
    context = {"seccompProfile": {"type": kind}}
    assert (template(Settings(profile=profile), securityContext=context) == ()) is fine


def test_host_users_if_every_build_has_a_user_namespace() -> None:
    assert template(Settings(profile=Profile.USERNS), hostUsers=True)
    assert template(Settings(profile=Profile.AUTO), hostUsers=True) == ()


@pytest.mark.parametrize(
    "spec",
    [
        {"cache": {"repository": "reg.example.com/cache", "ttl": "1h", "volume": {"claimName": "a"}}},
        {"output": {"tags": ["a/b"], "format": "OCI", "compression": "Zstd", "compressionLevel": 22}},
        {"output": {"tags": ["a/b"], "annotations": {"a": "b"}, "timestamp": "Zero"}},
        {"source": {"http": {"url": "https://example.com/a.tar"}}},
        {"source": {"s3": {"bucket": "a", "key": "b"}}},
        {"source": {"gcs": {"bucket": "a", "object": "b"}}},
        {"source": {"azureBlob": {"url": "https://a.blob.core.windows.net/b/c"}}},
        {"source": {"oci": {"image": "reg.example.com/context:1"}}},
        {"source": {"volume": {"claimName": "a"}}},
    ],
)
def test_every_source_cache_and_format_is_valid(spec: dict[str, Any]) -> None:
    assert check(**spec) == ()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"cache": {"repository": "reg.example.com/cache:1"}}, "spec.cache.repository: "),
        ({"cache": {"from": ["a/b", "a/b@c"]}}, "spec.cache.from[1]: "),
        ({"cache": {"to": "Up/Case"}}, "spec.cache.to: "),
        ({"source": {"oci": {"image": "Up/Case"}}}, "spec.source.oci.image: "),
        ({"output": {"tags": ["a/b"], "format": "Docker", "compression": "Zstd"}}, "cannot be combined with"),
        ({"output": {"tags": ["a/b"], "format": "Docker", "annotations": {"a": "b"}}}, "cannot be combined with"),
        ({"output": {"tags": ["a/b"], "compressionLevel": 10}}, "must be 0 to 9 for Gzip"),
        ({"output": {"tags": ["a/b"], "compression": "Zstd", "compressionLevel": 0}}, "must be 1 to 22 for Zstd"),
    ],
)
def test_contradicting_fields_are_refused(spec: dict[str, Any], says: str) -> None:
    (problem,) = check(**spec)
    assert says in problem

"""What is refused beyond the CRD's schema, and fields that a podTemplate must not have."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from imagewright_operator.api import ImageBuild
from imagewright_operator.reconcile.validation import problems
from imagewright_operator.settings import Allowed, Profile, Settings


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


ITEM = {"key": "a", "path": "b"}
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
        {"nodeSelector": {"kubernetes.io/arch": "arm64", "topology.kubernetes.io/zone": "a", "builds": "true"}},
        {"tolerations": [{"key": "builds", "operator": "Exists"}, {"key": "node.kubernetes.io/unreachable"}]},
        {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]}}},
        {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False}},
        {"securityContext": {"privileged": False, "capabilities": None}},
        {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com"}]},
        {"env": [{"name": name, "value": "x"} for name in ("GIT_TOKEN", "https_proxy", "DOCKER_registry_PSW")]},
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}},
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
        ({"securityContext": {"shareMemory": True}}, "spec.podTemplate.securityContext.shareMemory"),
        ({"securityContext": {"capabilities": {"x": 1}}}, "spec.podTemplate.securityContext.capabilities.x"),
        ({"affinity": {"nodeAffinity": {"x": {}}}}, "spec.podTemplate.affinity.nodeAffinity.x"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "spec.podTemplate.securityContext.seLinuxOptions"),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            "spec.podTemplate.securityContext.appArmorProfile",
        ),
        ({"env": [{"name": "LD_PRELOAD", "value": "x"}]}, 'spec.podTemplate.env "LD_PRELOAD"'),
        ({"env": [{"name": "IMAGEWRIGHT_REQUEST", "value": "x"}]}, 'spec.podTemplate.env "IMAGEWRIGHT_REQUEST"'),
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


@pytest.mark.parametrize("sources", [[{}], [{"secret": {}, "configMap": {}}], [{"x": 1}], [{"x": {}, "secret": {}}]])
def test_a_source_of_a_projection_has_exactly_one_known_kind(sources: object) -> None:
    problems = volume(projected={"sources": sources})
    assert problems
    assert all("must not project" in problem for problem in problems)


@pytest.mark.parametrize(
    "source", [{"secret": {"x": 1}}, {"projected": {"sources": [{"secret": {"items": [{**ITEM, "x": 1}]}}]}}]
)
def test_a_field_of_a_volume_that_is_not_known_is_refused(source: dict[str, Any]) -> None:
    (problem,) = volume(**source)
    assert problem.endswith("x is not allowed: this version does not know it")


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


@pytest.mark.parametrize(
    ("profile", "setting", "fine"),
    [
        (Profile.AUTO, False, False),
        (Profile.AUTO, True, True),
        (Profile.PLAIN, False, True),  # every Pod has them
        (Profile.USERNS, True, False),
        (Profile.USERNS_STRICT, True, False),
    ],
)
def test_host_users_are_for_installations_that_allow_them(profile: Profile, setting: bool, fine: bool) -> None:
    settings = Settings(profile=profile, allowed=Allowed(host_users=setting))
    found = template(settings, hostUsers=True)
    assert (found == ()) is fine
    if profile is Profile.AUTO and not fine:
        assert "setting IMAGEWRIGHT_ALLOW_HOST_USERS is false" in found[0]


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def node_affinity(key: str, *, preferred: bool = False, by: str = "matchExpressions") -> dict[str, Any]:
    term = {by: [{"key": key, "operator": "Exists"}]}
    if preferred:
        return {"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": term}]}}}
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}


def variable(name: str) -> dict[str, Any]:
    return {"env": [{"name": name, "value": "x"}]}


KEYS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "labels": ({"labels": {"app": "web"}}, 'labels "app"', "LABELS", "app"),
    "annotations": ({"annotations": {"example.com/role": "x"}}, 'annotations "example.com/role"', "ANNOTATIONS", "example.com/*"),
    "env": (variable("NODE_OPTIONS"), 'env "NODE_OPTIONS"', "ENV", "NODE_*"),
    "tolerations": ({"tolerations": [{"key": "gpu"}]}, 'tolerations "gpu"', "TOLERATIONS", "gpu"),
    "every taint": ({"tolerations": [{"operator": "Exists"}]}, 'tolerations "*"', "TOLERATIONS", "*"),
    "node selectors": ({"nodeSelector": {"pool": "a"}}, 'nodeSelector "pool"', "NODE_SELECTORS", "pool"),
    "required affinity": (node_affinity("pool"), 'affinity.nodeAffinity "pool"', "NODE_SELECTORS", "po*"),
    "preferred affinity": (node_affinity("pool", preferred=True), 'affinity.nodeAffinity "pool"', "NODE_SELECTORS", "pool"),
    "affinity to a node": (
        node_affinity("metadata.name", by="matchFields"), 'affinity.nodeAffinity "metadata.name"', "NODE_SELECTORS", "metadata.name",
    ),
    "priority classes": ({"priorityClassName": "high"}, 'priorityClassName "high"', "PRIORITY_CLASSES", "high"),
    "runtime classes": ({"runtimeClassName": "gvisor"}, 'runtimeClassName "gvisor"', "RUNTIME_CLASSES", "gvisor"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "named", "setting", "pattern"), KEYS.values(), ids=KEYS)
def test_what_gives_more_than_the_right_to_build_is_for_the_settings_to_allow(
    fields: dict[str, Any], named: str, setting: str, pattern: str
) -> None:
    (problem,) = template(**fields)
    assert problem.startswith(
        f"spec.podTemplate.{named} is not allowed: the operator's setting IMAGEWRIGHT_ALLOWED_{setting} allows "
    )
    environment = {f"IMAGEWRIGHT_ALLOWED_{setting}": f"other, {pattern}"}
    assert template(Settings.from_environment(environment), **fields) == ()
    environment = {f"IMAGEWRIGHT_ALLOWED_{setting}": "none"}
    (problem,) = template(Settings.from_environment(environment), **fields)
    said = f"the operator's setting IMAGEWRIGHT_ALLOWED_{setting} allows none; ask the cluster's administrator"
    assert problem.endswith(said)


ALL = {
    f"IMAGEWRIGHT_ALLOWED_{name}": "*"
    for name in ("LABELS", "ANNOTATIONS", "ENV", "TOLERATIONS", "NODE_SELECTORS", "PRIORITY_CLASSES", "RUNTIME_CLASSES")
}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (variable("GIT_EXEC_PATH"), 'env "GIT_EXEC_PATH"'),
        (variable("OPENSSL_CONF"), 'env "OPENSSL_CONF"'),
        (variable("SSL_CERT_FILE"), 'env "SSL_CERT_FILE"'),
        (variable("LD_PRELOAD"), 'env "LD_PRELOAD"'),
        (variable("PYTHONPATH"), 'env "PYTHONPATH"'),
        (variable("AWS_ENDPOINT_URL_S3"), 'env "AWS_ENDPOINT_URL_S3"'),
        ({"labels": {"imagewright.dev/uid": "x"}}, 'labels "imagewright.dev/uid"'),
        ({"annotations": {"imagewright.dev/signature": "x"}}, 'annotations "imagewright.dev/signature"'),
        ({"priorityClassName": "system-node-critical"}, 'priorityClassName "system-node-critical"'),
        (
            {"affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": "a", "namespaceSelector": {}}]}}},
            "affinity.podAntiAffinity.namespaceSelector",
        ),
        (
            {
                "affinity": {
                    "podAffinity": {
                        PREFERRED: [{"weight": 1, "podAffinityTerm": {"topologyKey": "a", "namespaces": ["other"]}}]
                    }
                }
            },
            "affinity.podAffinity.namespaces",
        ),
    ],
)
def test_some_things_no_setting_allows(fields: dict[str, Any], named: str) -> None:
    (problem,) = template(Settings.from_environment(ALL), **fields)
    assert problem.startswith(f"spec.podTemplate.{named} is not allowed: ")


def test_many_refusals_leave_room_for_each_other() -> None:
    """A condition has 1,024 characters of them; the allow-list of env alone was 500."""
    found = template(**variable("NODE_OPTIONS"), labels={"a": "b"}, priorityClassName="high", serviceAccountName="x")
    assert len(found) == 4
    assert len("; ".join(found)) < 1000
    (said,) = (one for one in found if "env" in one)
    assert "allows HTTP_PROXY, HTTPS_PROXY, NO_PROXY, ALL_PROXY and" in said


ADDRESSES = [
    ("git", {"url": "https://h/a.git"}, ""),
    ("git", {"url": "ssh://git@h:22/a.git"}, ""),
    ("git", {"url": "git@h:a/b.git"}, ""),
    ("git", {"url": "https://u:p@h/a.git"}, "has an address with a login"),
    ("git", {"url": "ssh://u:p@h/a.git"}, "has an address with a login"),
    ("git", {"url": "https://h/a.git?access_token=p"}, "has an address with '?' or '#'"),
    ("git", {"url": "https://h/a.git#main"}, "has an address with '?' or '#'"),
    ("git", {"url": "file:///a"}, "that is not the address of a git repository"),
    ("http", {"url": "https://h/a?version=1&X-Amz-Security-Token=a&keyword=b"}, ""),
    ("http", {"url": "https://h/a?token=p"}, "with a login among its parameters"),
    ("http", {"url": "https://h/a?x=1&API_KEY=p"}, "with a login among its parameters"),
    ("http", {"url": "https://h/a?job-token=p"}, "with a login among its parameters"),
    ("http", {"url": "https://u:p@h/a"}, "has an address with a login"),
    ("http", {"url": "ftp://h/a"}, "that is not a URL"),
    ("s3", {"bucket": "a", "key": "b", "endpoint": "https://u:p@h"}, "has an address with a login"),
    ("azureBlob", {"url": "https://h/a?sv=1&sig=p"}, "put it into a Secret as sasToken"),
]


@pytest.mark.parametrize(("kind", "source", "said"), ADDRESSES)
def test_an_address_with_a_login_is_refused_without_showing_it(kind: str, source: dict[str, Any], said: str) -> None:
    """Also by the operator: the definition that is installed may be an older one."""
    found = check(source={kind: source})
    assert len(found) == bool(said)
    assert all(one.startswith(f"spec.source.{kind}.") and said in one for one in found)
    assert not any("u:p" in one or "=p" in one for one in found)


def reference(name: str) -> dict[str, str]:
    return {"name": name, "key": "k"}


TAGS = ["reg.example.com/app:1"]
LOGINS: dict[str, tuple[dict[str, Any], str]] = {
    "push": ({"output": {"tags": TAGS, "pushSecretRef": {"name": "s"}}}, "spec.output.pushSecretRef"),
    "git": ({"source": {"git": {"url": "https://a.example.com/b", "secretRef": {"name": "s"}}}}, "spec.source.git.secretRef"),
    "http": ({"source": {"http": {"url": "https://a.example.com/b", "secretRef": {"name": "s"}}}}, "spec.source.http.secretRef"),
    "s3": ({"source": {"s3": {"bucket": "a", "key": "b", "secretRef": {"name": "s"}}}}, "spec.source.s3.secretRef"),
    "gcs": ({"source": {"gcs": {"bucket": "a", "object": "b", "secretRef": {"name": "s"}}}}, "spec.source.gcs.secretRef"),
    "azure": (
        {"source": {"azureBlob": {"url": "https://a.blob.core.windows.net/b/c", "secretRef": {"name": "s"}}}},
        "spec.source.azureBlob.secretRef",
    ),
    "oci": ({"source": {"oci": {"image": "a/b:1", "secretRef": {"name": "s"}}}}, "spec.source.oci.secretRef"),
    "certificate": (
        {"registries": [{"host": "a", "clientCertificateSecretRef": {"name": "s"}}]},
        'spec.registries "a": clientCertificateSecretRef',
    ),
    "image pull": ({"podTemplate": {"imagePullSecrets": [{"name": "s"}]}}, "spec.podTemplate.imagePullSecrets"),
    "env": (
        {"podTemplate": {"env": [{"name": "GIT_TOKEN", "valueFrom": {"secretKeyRef": reference("s")}}]}},
        'spec.podTemplate.env "GIT_TOKEN"',
    ),
    **{
        kind: (
            {"podTemplate": {"volumes": [{"name": "v", "mountPath": "/v", kind: source}]}},
            'spec.podTemplate.volumes "v"',
        )
        for kind, source in {
            "secret": {"secretName": "s"},
            "projected": {"sources": [{"configMap": {"name": "other"}}, {"secret": {"name": "s"}}]},
            "csi": {"driver": "x", "nodePublishSecretRef": {"name": "s"}},
        }.items()
    },
}  # fmt: skip
BUILDS: dict[str, tuple[dict[str, Any], str]] = {
    "secret": ({"secrets": [{"id": "npm", "secretKeyRef": reference("s")}]}, 'spec.secrets "npm"'),
    "ssh": ({"ssh": [{"id": "key", "secretKeyRef": reference("s")}]}, 'spec.ssh "key"'),
}
USES = [
    *((*values, "LOGIN", "for logins") for values in LOGINS.values()),
    *((*values, "BUILD", "for builds") for values in BUILDS.values()),
]


@pytest.mark.parametrize(("spec", "field", "kind", "use"), USES, ids=[*LOGINS, *BUILDS])
def test_every_reference_to_a_secret_is_judged_by_the_setting_of_its_kind(
    spec: dict[str, Any], field: str, kind: str, use: str
) -> None:
    def judged(patterns: str, other: str = "none") -> tuple[str, ...]:
        others = {"LOGIN": "BUILD", "BUILD": "LOGIN"}[kind]
        environment = {
            "IMAGEWRIGHT_ALLOW_CSI_VOLUMES": "true",
            f"IMAGEWRIGHT_ALLOWED_{kind}_SECRETS": patterns,
            f"IMAGEWRIGHT_ALLOWED_{others}_SECRETS": other,
        }
        return check(Settings.from_environment(environment), **spec)

    setting, ask = (
        f"the operator's setting IMAGEWRIGHT_ALLOWED_{kind}_SECRETS allows",
        "; ask the cluster's administrator",
    )
    assert judged("*") == ()
    assert judged("s, other") == ()
    assert judged("none", "*") == (f'{field}: Secret "s" is not allowed {use}: {setting} none{ask}',)
    assert judged("app-*, ss") == (f'{field}: Secret "s" is not allowed {use}: {setting} app-*, ss{ask}',)
    assert judged("x, ns/s") == (), "in its own namespace"
    assert judged("s, ns/x") == (f'{field}: Secret "s" is not allowed {use}: {setting} x in namespace ns{ask}',)
    assert judged("s, other/x") == (), "a list of another namespace"


def test_every_field_that_names_a_secret_is_known() -> None:
    """A new field of the API must be judged, too."""
    tested = json.dumps([spec for spec, _, _, _ in USES])
    fields = set(re.findall(r'"(\w*[sS]ecret\w*)"', json.dumps(ImageBuild.model_json_schema())))
    ours = {name for name in fields if name[0].islower() and name not in ("secrets", "secret")}
    assert len(ours) >= 5
    assert {name for name in ours if f'"{name}"' not in tested} == set()


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

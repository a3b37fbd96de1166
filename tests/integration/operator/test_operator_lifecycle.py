"""The life of an ImageBuild on a real API server: from apply to a digest, and the obstacles."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.kstatus import documents, kstatus
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually


def test_from_apply_to_a_digest_never_current_before_it(
    api: ApiServer, namespace: Namespace, operator: Operator
) -> None:
    watch = api.watch("imagebuild", "--namespace", namespace.name, "--output=json")
    namespace.apply()
    pod = namespace.pod()
    namespace.phase("Pending")
    namespace.starts(pod)
    namespace.phase("Running")
    digest = namespace.pushes(pod)
    status = namespace.phase("Succeeded")
    watch.terminate()
    assert status["image"]["digest"] == digest
    assert namespace.ready() == "True BuildSucceeded"
    assert namespace.events() == ["BuildQueued", "BuildStarted", "BuildSucceeded"]
    versions = list(documents(watch.communicate()[0]))
    assert len(versions) >= 4
    for version in versions:
        if kstatus(version) == "Current":
            assert version["status"]["image"]["digest"] == digest
    made = versions[-1]["metadata"]
    assert not made.get("finalizers")
    assert set(made.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}
    columns = namespace.kubectl("get", "imagebuilds").split("\n")
    assert columns[0].split() == ["NAME", "PHASE", "REASON", "IMAGE", "DIGEST", "DURATION", "AGE"]
    shown = ["app", "Succeeded", "BuildSucceeded", namespace.tag(), digest[: len("sha256:") + 12]]
    assert columns[1].split()[:5] == shown
    assert digest in namespace.kubectl("get", "ib", "--output=wide")
    assert "imagebuild.imagewright.dev/app" in namespace.kubectl("get", "all")


def test_applied_again_it_builds_nothing_changed_it_builds_again(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    namespace.pushes(namespace.pod())
    namespace.phase("Succeeded")
    before = namespace.get("imagebuild", "app")
    for _ in range(3):
        namespace.apply()
    namespace.kubectl("label", "imagebuild", "app", "team=a")
    namespace.kubectl("patch", "imagebuild", "app", "--type=merge", '--patch={"spec":{"retention":{"historyLimit":3}}}')
    time.sleep(5)  # two resyncs
    after = namespace.get("imagebuild", "app")
    assert after["status"]["build"] == before["status"]["build"]
    assert len(namespace.pods()) == 1
    namespace.kubectl("annotate", "imagebuild", "app", "imagewright.dev/requestedAt=now")
    namespace.phase("Pending")
    assert namespace.status()["build"]["number"] == 2
    namespace.pushes(namespace.pod(), "b")
    namespace.phase("Succeeded")
    namespace.apply(target="other")
    namespace.phase("Pending")
    assert namespace.status()["build"]["number"] == 3
    assert namespace.status()["image"]["digest"] == "sha256:" + "b" * 64


def test_a_failing_build_reports_where_and_why_and_others_continue(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    failure = {
        "reason": "StepFailed",
        "message": "RUN make ended with exit code 2.",
        "hint": "See the log.",
        "instruction": "RUN make",
        "file": "Dockerfile",
        "line": 7,
        "exitCode": 2,
    }
    namespace.ends(namespace.pod(), {"failure": failure}, exit_code=7)
    status = namespace.phase("Failed")
    assert namespace.ready() == "False StepFailed"
    told = status["build"]["failure"]
    assert (told["message"], told["line"]) == ("Dockerfile:7: RUN make ended with exit code 2. See the log.", 7)
    assert told["location"]["container"] == "executor"
    assert "BuildFailed" in namespace.events()
    namespace.apply("other")
    namespace.pushes(namespace.pod("other"))
    namespace.phase("Succeeded", "other")


def test_an_unsupported_field_is_refused_by_name_until_it_is_removed(namespace: Namespace, operator: Operator) -> None:
    namespace.apply(platforms=["linux/amd64", "linux/arm64"])
    status = namespace.becomes("False InvalidSpec")
    assert "more than one platform is not supported yet" in status["conditions"][0]["message"]
    assert not namespace.pods()
    namespace.apply()
    namespace.pod()


def test_a_missing_secret_has_its_own_reason_and_the_build_continues(namespace: Namespace, operator: Operator) -> None:
    namespace.apply(output={"tags": ["registry.example.com/app:1"], "pushSecretRef": {"name": "regcred"}})
    pod = namespace.pod()
    words = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : secret "regcred" not found'
    namespace.pod_event(pod, "FailedMount", words)
    status = namespace.becomes("False SecretNotFound")
    assert 'secret "regcred"' in status["conditions"][0]["message"]
    assert [one["type"] for one in status["conditions"]] == ["Ready", "Reconciling"]
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    namespace.pushes(pod)
    namespace.phase("Succeeded")


def test_missing_build_secrets_have_their_own_reason_and_the_build_continues(
    namespace: Namespace, operator: Operator
) -> None:
    reference = {"name": "npm", "key": "npmrc"}
    namespace.apply(secrets=[{"id": "npmrc", "secretKeyRef": reference}], ssh=[{"secretKeyRef": reference}])
    pod = namespace.pod()
    prefix = 'MountVolume.SetUp failed for volume "imagewright-secrets" : '
    namespace.pod_event(pod, "FailedMount", prefix + 'secret "npm" not found')
    status = namespace.becomes("False SecretNotFound")
    assert 'secret "npm"' in status["conditions"][0]["message"]
    namespace.pod_event(pod, "FailedMount", prefix + "references non-existent secret key: npmrc")
    eventually(lambda: "npmrc" in namespace.becomes("False SecretNotFound")["conditions"][0]["message"], "the key")
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    namespace.pushes(pod)
    namespace.phase("Succeeded")


def test_a_pod_security_rejection_has_the_api_servers_message(namespace: Namespace, operator: Operator) -> None:
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    namespace.apply()
    status = namespace.becomes("False PodRejected")
    assert "violates PodSecurity" in status["build"]["failure"]["message"]
    assert [one["type"] for one in status["conditions"]] == ["Ready", "Stalled"]


@pytest.mark.parametrize("template", [{}, {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}])
def test_pod_security_baseline_admits_the_pod(
    namespace: Namespace, operator: Operator, template: dict[str, Any]
) -> None:
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=baseline")
    namespace.apply(podTemplate=template)
    namespace.pod()


def test_a_quota_keeps_it_queued_until_there_is_room(namespace: Namespace, operator: Operator) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"count/pods": "0"}},
    }
    namespace.kubectl("create", "--filename=-", given=quota)
    account(namespace, "0")
    namespace.apply()
    status = namespace.becomes("False QuotaExceeded")
    assert status["phase"] == "Queued"
    assert "exceeded quota: few" in status["conditions"][0]["message"]
    account(namespace, "5")
    namespace.kubectl("annotate", "imagebuild", "app", "a=b")  # any event: nobody has to wait for the next try
    namespace.pod()


def account(namespace: Namespace, hard: str) -> None:
    """What the controller manager does for a quota."""
    patch = {
        "spec": {"hard": {"count/pods": hard}},
        "status": {"hard": {"count/pods": hard}, "used": {"count/pods": "0"}},
    }
    namespace.kubectl("patch", "resourcequota", "few", "--type=merge", f"--patch={json.dumps({'spec': patch['spec']})}")
    given = json.dumps({"status": patch["status"]})
    namespace.kubectl("patch", "resourcequota", "few", "--subresource=status", "--type=merge", f"--patch={given}")


def test_a_namespace_without_its_service_account_yet(namespace: Namespace, operator: Operator) -> None:
    namespace.kubectl("delete", "serviceaccount", "default")
    namespace.apply()
    status = namespace.becomes("False PodRejected")
    assert "Stalled" not in [one["type"] for one in status["conditions"]]
    namespace.kubectl("create", "serviceaccount", "default")
    namespace.kubectl("annotate", "imagebuild", "app", "a=b")
    namespace.pod()


def test_cancelled_deletes_the_pod(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    namespace.pod()
    namespace.apply(cancelled=True)
    namespace.phase("Cancelled")
    assert not [pod for pod in namespace.pods() if "deletionTimestamp" not in pod["metadata"]]


def test_a_change_during_the_build_replaces_it(namespace: Namespace, operator: Operator) -> None:
    namespace.apply()
    old = namespace.pod()
    namespace.apply(target="other")
    namespace.becomes("Unknown PodPending")
    new = namespace.pod()
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert namespace.status()["history"][0]["outcome"] == "Replaced"


def test_every_example_is_accepted(namespace: Namespace) -> None:
    folder = Path(__file__).parents[3] / "examples"
    namespace.kubectl("apply", "--dry-run=server", f"--filename={folder}")


def secret(name: str) -> dict[str, Any]:
    return {"id": name, "secretKeyRef": {"name": "a", "key": "b"}}


NO_SOURCE = "spec.source: Invalid value: names no source: write exactly one of git, http, s3"


def pod(**fields: Any) -> dict[str, Any]:
    return {"podTemplate": fields}


def volume(path: str, **source: Any) -> dict[str, Any]:
    return {"name": "a", "mountPath": path, **source}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"source": {}}, NO_SOURCE),
        ({"source": None}, "spec: Invalid value: names no source: write exactly one of git, http, s3"),
        (
            {"source": {"inline": {"dockerfile": "FROM scratch"}, "configMap": {"name": "a"}}},
            "names more than one source: keep exactly one of git, http, s3",
        ),
        (
            {"output": {"tags": ["registry.example.com/my app:1"]}},
            "has a value in tags with spaces: write one image per line",
        ),
        ({"output": {"tags": ["registry.example.com/App:1"]}}, "is not an image reference: write it as"),
        ({"output": {"tags": ["a/b@sha256:" + "a" * 64]}}, "has a value in tags with a digest: write name:tag"),
        ({"output": {"tags": []}}, "names no tags: write at least one image to push"),
        ({"output": None}, "names no output: write the image to push below spec.output.tags"),
        ({"contextDir": "a/../../b"}, "must not hold '..': write a path inside the source"),
        ({"contextDir": "/a"}, "must not start with '/': write a path relative to the source"),
        ({"dockerfile": ".."}, "must not hold '..': write a path inside the source"),
        ({"timeout": "25h"}, "must be more than 0s and at most 24h: write it as"),
        ({"timeout": "0s"}, "must be more than 0s and at most 24h: write it as"),
        ({"timeout": "90"}, "is not a duration: write it as 45s, 30m, 1h or 1h30m"),
        (
            {"source": {"inline": {"dockerfile": "漢" * 5462}}},
            "is longer than 16 KiB of UTF-8: put it into a ConfigMap",
        ),
        ({"source": {"git": {"url": "https://u:p@git.example.com/a"}}}, "has a url with a login: put username and"),
        ({"source": {"git": {"url": "https://t0ken@git.example.com/a"}}}, "has a url with a login: put username and"),
        ({"source": {"git": {"url": "a.git"}}}, "is not the address of a git repository: write https://"),
        (
            {"source": {"git": {"url": "https://git.example.com/a", "ref": {"commit": "abc123"}}}},
            "is not a full commit: write all 40",
        ),
        (
            {"source": {"git": {"url": "https://git.example.com/a", "ref": {"commit": "a" * 40}, "poll": "5m"}}},
            "a commit never moves: write either poll or ref.commit",
        ),
        ({"source": {"git": {"url": "https://git.example.com/a", "poll": "59s"}}}, "must be at least 1m: write it as"),
        ({"buildArgs": [{"name": "A"}]}, "write exactly one of value and valueFrom"),
        ({"buildArgs": [{"name": "A=B", "value": "c"}]}, "is not a build argument's name: write letters"),
        ({"secrets": [secret("a b")]}, "is not an id of a mount: write letters"),
        ({"secrets": [secret("-a")]}, "is not an id of a mount: write letters"),
        ({"secrets": [secret("a"), secret("a")]}, 'Duplicate value: {"id":"a"}'),
        ({"secrets": [{"id": "a"}]}, "spec.secrets[0].secretKeyRef: Required value"),
        ({"secrets": [{"id": "a", "secretKeyRef": {"name": "a", "key": "../b"}}]}, "is not a key of a Secret"),
        ({"ssh": [secret("a"), secret("a")]}, 'Duplicate value: {"id":"a"}'),
        ({"ssh": [{"secretKeyRef": {"name": "a", "key": "b"}}, secret("default")]}, "Duplicate value"),
        ({"cache": {}}, "write at least one of repository, from, to and volume"),
        ({"cache": {"repository": "a.example.com/b", "to": "a.example.com/c"}}, "has repository and to: write where"),
        ({"cache": {"from": []}}, "spec.cache.from"),
        ({"cache": {"volume": {"claimName": "a"}, "ttl": "1h"}}, "has a ttl without a repository"),
        ({"cache": {"repository": "https://a.example.com/b"}}, "is not a name in a registry: write it as"),
        ({"source": {"http": {"url": "ftp://a.example.com/b"}}}, "is not a URL: write https://host/path"),
        ({"source": {"http": {"url": "https://u:p@a.example.com/b"}}}, "has a url with a login: put it into a Secret"),
        ({"source": {"http": {"url": "https://a.example.com/b", "sha256": "A1"}}}, "is not a SHA-256: write 64"),
        ({"source": {"s3": {"bucket": "a"}}}, "spec.source.s3.key: Required value"),
        ({"source": {"s3": {"bucket": "a", "key": "b", "endpoint": "c:9000"}}}, "is not a URL: write https://"),
        ({"source": {"gcs": {"bucket": "", "object": "b"}}}, "spec.source.gcs.bucket"),
        ({"source": {"azureBlob": {}}}, "spec.source.azureBlob.url: Required value"),
        ({"source": {"oci": {"image": "oci://a.example.com/b"}}}, "is not a name in a registry: write it as"),
        ({"source": {"volume": {"claimName": "a", "subPath": "../b"}}}, "must not hold '..': write a path inside"),
        ({"output": {"tags": ["a/b"], "format": "Docker", "compression": "Zstd"}}, "has format Docker and compression"),
        ({"output": {"tags": ["a/b"], "format": "Docker", "annotations": {"a": "b"}}}, "has format Docker and annot"),
        ({"output": {"tags": ["a/b"], "compressionLevel": 10}}, "Gzip has 0 to 9, Zstd 1 to 22"),
        ({"output": {"tags": ["a/b"], "timestamp": "Now"}}, 'supported values: "Zero", "Source", "Build"'),
        ({"registries": [{"host": "a", "mirrorsOnly": True}]}, "has mirrorsOnly without mirrors: name the mirrors"),
        (pod(env=[{"name": "LD_PRELOAD", "value": "x"}]), "is reserved: it would change what the engine runs"),
        (pod(env=[{"name": "AWS_ENDPOINT_URL", "value": "x"}]), "or where logins are sent"),
        (pod(priorityClassName="system-node-critical"), "is reserved for the cluster"),
        (pod(volumes=[volume("/usr/local/bin", emptyDir={})]), "is reserved for the executor: write a path such as"),
        (pod(volumes=[volume("/a")]), "must have exactly one of emptyDir"),
        (pod(volumes=[volume("/a", hostPath={"path": "/"})]), 'unknown field "spec.podTemplate.volumes[0].hostPath"'),
        (pod(volumes=[volume("/a", projected={"sources": [{}]})]), "must be exactly one of configMap, secret"),
        (pod(securityContext={"privileged": True}), "must not have privileged"),
        (pod(securityContext={"procMount": "Unmasked"}), "must not have privileged, procMount"),
        (pod(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}), "must not have add"),
        (pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), "must have an appArmorProfile of"),
        (pod(resources={"limits": {"cpu": "NaN"}}), "spec.podTemplate.resources.limits.cpu"),
        ({"sandbox": "Docker"}, 'supported values: "Auto", "Namespace", "Chroot", "Root"'),
        ({"platforms": ["windows/amd64"]}, "is not a platform: write linux/amd64 or linux/arm64"),
        ({"contextDirectory": "a"}, 'unknown field "spec.contextDirectory"'),
    ],
)
def test_a_bad_spec_is_refused_with_what_to_write_instead(
    namespace: Namespace, spec: dict[str, Any], said: str
) -> None:
    body = namespace.imagebuild(**spec)
    body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
    done = namespace.try_kubectl("create", "--filename=-", "--dry-run=server", given=body)
    assert done.returncode != 0
    assert said in done.stderr


TAGS_WITH_A_LOGIN = [
    "https://u:s3cr3t@a.example.com/b",
    "https://s3cr3t@a.example.com/b:1",
    "u:s3cr3t@a.example.com/b:1",
    "u:s3 cr3t s3cr3t@a.example.com/b",
]


@pytest.mark.parametrize(
    "spec",
    [
        {"source": {"git": {"url": "https://u:s3cr3t@git.example.com/a.git"}}},
        {"source": {"git": {"url": "https://git.example.com/a.git?access_token=s3cr3t"}}},
        {"source": {"git": {"url": "git.example.com:s3cr3t"}}},
        {"source": {"http": {"url": "https://u:s3cr3t@a.example.com/b"}}},
        {"source": {"http": {"url": "https://a.example.com/b?x=1&private_token=s3cr3t"}}},
        {"source": {"s3": {"bucket": "a", "key": "b", "endpoint": "https://u:s3cr3t@a.example.com"}}},
        {"source": {"azureBlob": {"url": "https://a.example.com/b?sv=1&sig=s3cr3t"}}},
        {"source": {"oci": {"image": "https://u:s3cr3t@a.example.com/b"}}},
        {"cache": {"repository": "https://u:s3cr3t@a.example.com/b"}},
        {"cache": {"from": ["https://u:s3cr3t@a.example.com/b"]}},
        {"registries": [{"host": "a", "mirrors": ["https://u:s3cr3t@a.example.com"]}]},
        {"registries": [{"host": "https://u:s3cr3t@a.example.com"}]},
        {"registries": [{"host": "u:s3cr3t@a.example.com"}]},
        *({"output": {"tags": [tag]}} for tag in TAGS_WITH_A_LOGIN),
        {"podTemplate": {"env": [{"name": "A", "value": "s3cr3t", "valueFrom": {}}]}},
    ],
)
def test_a_refusal_shows_no_password(namespace: Namespace, spec: dict[str, Any]) -> None:
    """The API server prints the value that a rule is for, into terminals and the logs of pipelines."""
    done = namespace.try_kubectl("create", "--filename=-", "--dry-run=server", given=namespace.imagebuild(**spec))
    assert done.returncode != 0
    assert "Invalid value" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_an_address_that_is_signed_for_one_object_is_accepted(namespace: Namespace) -> None:
    url = "https://a.example.com/b.tar?X-Amz-Credential=a&X-Amz-Security-Token=b&X-Amz-Signature=c"
    body = namespace.imagebuild(source={"http": {"url": url}})
    namespace.kubectl("create", "--filename=-", "--dry-run=server", given=body)


def test_a_name_that_leaves_no_room_for_the_pods(namespace: Namespace) -> None:
    done = namespace.try_kubectl("create", "--filename=-", given=namespace.imagebuild("x" * 53))
    assert "the name is longer than 52 characters" in done.stderr


def test_the_longest_inline_dockerfile_is_accepted(namespace: Namespace) -> None:
    namespace.kubectl(
        "create", "--filename=-", given=namespace.imagebuild(source={"inline": {"dockerfile": "#" + "漢" * 5461}})
    )

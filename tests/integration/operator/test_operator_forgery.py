"""Forged Pods on a real API server: whoever may create, replace or change Pods can't choose the image in a status."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Json, Namespace, references
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

from imagewright_operator.api import ImageBuild
from imagewright_operator.pods.manifests import executor_pod
from imagewright_operator.pods.signature import SIGNATURE_ANNOTATION
from imagewright_operator.reconcile.builds import new_build
from imagewright_operator.reconcile.inputs import Inputs
from imagewright_operator.settings import Profile, Settings

EVIL = "evil.example.com/any:1@sha256:" + "e" * 64
FORGED = {"digest": "sha256:" + "e" * 64, "size": 10, "references": [EVIL]}
SETTINGS = Settings()


class Forger:
    """May create Pods and read ImageBuilds; knows how the operator names and makes its Pods, but not its key."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def next_pod(self, name: str = "app") -> Json:
        """The Pod of the next build, as the operator would create it, but for the signature."""
        body = self._namespace.get("imagebuild", name)
        imagebuild = ImageBuild.parse(body)
        build = new_build(imagebuild, Inputs.of(imagebuild), imagebuild.status.build, _now())
        return executor_pod(imagebuild, build, SETTINGS, Profile.PLAIN)

    def create(self, pod: Json) -> Json:
        self._namespace.kubectl("create", "--filename=-", given=pod)
        return self._namespace.get("pod", pod["metadata"]["name"])

    def copy_of(self, pod: Json) -> Json:
        """What the API server takes again after the Pod is gone."""
        metadata = {
            key: pod["metadata"][key]
            for key in ("name", "namespace", "labels", "annotations", "ownerReferences")
            if key in pod["metadata"]
        }
        spec = {key: value for key, value in pod["spec"].items() if key not in ("nodeName", "serviceAccount")}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture
def forger(namespace: Namespace) -> Forger:
    return Forger(namespace)


@pytest.fixture
def late(operator: Operator) -> Iterator[Operator]:
    """An operator that has yet to hear of what the test does, until it is thawed."""
    operator.freeze()
    yield operator
    operator.thaw()


def without_labels(pod: Json) -> Json:
    return {**pod, "metadata": {**pod["metadata"], "labels": {}}}


FORGERIES: dict[str, Callable[[Json], Json]] = {
    "perfect but for the signature": lambda pod: pod,
    "without labels": without_labels,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_pod_made_beforehand_is_not_believed_and_the_user_is_told(
    namespace: Namespace, late: Operator, forger: Forger, forge: Callable[[Json], Json]
) -> None:
    namespace.apply()
    pod = forger.create(forge(forger.next_pod()))
    namespace.starts(pod)
    late.thaw()
    status = namespace.becomes("False PodNameTaken")
    ready = next(one["message"] for one in status["conditions"] if one["type"] == "Ready")
    assert f'Pod "{pod["metadata"]["name"]}" has the name of this build\'s Pod but was not created by' in ready
    assert "delete it: the build starts then." in ready
    assert [one["type"] for one in status["conditions"]] == ["Ready", "Reconciling"]
    assert namespace.get("pod", pod["metadata"]["name"])["metadata"]["uid"] == pod["metadata"]["uid"], "not ours"
    time.sleep(1)  # in which it comes by several times
    assert sorted(namespace.events()) == ["BuildQueued", "PodNameTaken"], "told once"

    namespace.ends(pod, FORGED)
    namespace.try_kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    namespace.kubectl("annotate", "imagebuild", "app", "a=b")  # any event: nobody waits for the next try
    own = namespace.pod()
    assert own["metadata"]["uid"] != pod["metadata"]["uid"]
    digest = namespace.pushes(own)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def test_a_forged_pod_that_has_ended_makes_room_by_itself(namespace: Namespace, late: Operator, forger: Forger) -> None:
    namespace.apply()
    pod = forger.create(forger.next_pod())
    namespace.ends(pod, FORGED)
    late.thaw()
    own = namespace.pod()
    assert own["metadata"]["uid"] != pod["metadata"]["uid"]
    namespace.pushes(own)
    assert namespace.phase("Succeeded")["image"]["digest"] == "sha256:" + "a" * 64


def test_a_signature_is_of_no_use_for_another_build(namespace: Namespace, operator: Operator, forger: Forger) -> None:
    namespace.apply("other")
    stolen = namespace.pod("other")["metadata"]["annotations"]
    operator.freeze()
    namespace.apply()
    forged = forger.next_pod()
    forged["metadata"]["annotations"] = stolen
    namespace.starts(forger.create(forged))
    operator.thaw()
    namespace.becomes("False PodNameTaken")


@pytest.mark.parametrize("change", ["image", "env", "none"])
def test_a_copy_in_place_of_the_operators_pod_is_not_believed(
    namespace: Namespace, operator: Operator, forger: Forger, change: str
) -> None:
    """The signature can be read by anybody who may read Pods: the status has the UID."""
    namespace.apply(retry={"limit": 0})
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    copied = forger.copy_of(pod)
    if change == "image":
        copied["spec"]["containers"][0]["image"] = "evil.example.com/executor"
    if change == "env":
        copied["spec"]["containers"][0].setdefault("env", []).append({"name": "LD_PRELOAD", "value": "/evil.so"})
    operator.freeze()
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    namespace.ends(forger.create(copied), FORGED)
    operator.thaw()
    status = namespace.becomes("False PodDeleted")
    assert "image" not in status


MISSING = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : secret "regcred" not found'


def test_a_copy_of_a_pod_that_was_given_up_before_it_ran_is_not_believed(
    namespace: Namespace, operator: Operator, forger: Forger
) -> None:
    """The signature of the first Pod of an attempt is of no use for the second."""
    namespace.apply(output={"tags": [namespace.tag()], "pushSecretRef": {"name": "regcred"}})
    pod = namespace.pod()
    namespace.pod_event(pod, "FailedMount", MISSING)
    namespace.becomes("False SecretNotFound")
    suspended = '--patch={"spec":{"startTimeout":"1s","suspend":true}}'  # no Pod follows meanwhile
    namespace.kubectl("patch", "imagebuild", "app", "--type=merge", suspended)
    eventually(lambda: "pod" not in namespace.status()["build"], "the operator to give its Pod up")
    eventually(lambda: not namespace.pods(), "the Pod to go")
    operator.freeze()  # else it deletes the copy at once
    digest = "sha256:" + "e" * 64
    namespace.ends(forger.create(forger.copy_of(pod)), {"digest": digest, "references": references(pod, digest)})
    resumed = '--patch={"spec":{"startTimeout":"1h","suspend":false}}'
    namespace.kubectl("patch", "imagebuild", "app", "--type=merge", resumed)
    operator.thaw()
    own = namespace.pod()
    assert own["metadata"]["uid"] != pod["metadata"]["uid"]
    assert own["metadata"]["name"] != pod["metadata"]["name"]
    assert namespace.status().get("image") is None
    digest = namespace.pushes(own)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def test_the_operators_result_counts_though_a_copy_has_its_pods_name(
    namespace: Namespace, operator: Operator, forger: Forger
) -> None:
    """It has seen its Pod end, which was deleted and replaced before it read the result."""
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    operator.freeze()
    digest = namespace.pushes(pod)
    copied = forger.copy_of(pod)
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    namespace.ends(forger.create(copied), FORGED)
    operator.thaw()
    eventually(lambda: namespace.status().get("phase") in ("Succeeded", "Queued", "Pending"), "a decision")
    if namespace.status()["phase"] == "Succeeded":  # the watch has shown the end; without it there is another attempt
        assert namespace.status()["image"]["digest"] == digest
    assert namespace.status().get("image", {}).get("digest") in (None, digest)


def test_between_creation_and_record_only_the_pod_as_it_was_signed_is_adopted(
    namespace: Namespace, operator: Operator, forger: Forger
) -> None:
    namespace.apply()
    pod = namespace.pod()
    operator.kill()
    forget = json.dumps({"status": {"build": {"podNames": None, "pod": None}}})
    namespace.kubectl("patch", "imagebuild", "app", "--subresource=status", "--type=merge", f"--patch={forget}")
    operator.start()
    assert namespace.pod()["metadata"]["uid"] == pod["metadata"]["uid"], "its own is adopted"

    operator.kill()
    namespace.kubectl("patch", "imagebuild", "app", "--subresource=status", "--type=merge", f"--patch={forget}")
    copied = forger.copy_of(pod)
    copied["spec"]["containers"][-1]["image"] = "evil.example.com/executor"
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    namespace.starts(forger.create(copied))
    operator.start()
    namespace.becomes("False PodNameTaken")


@pytest.mark.parametrize("container", [0, 1])
def test_a_pod_whose_image_was_changed_is_not_believed(
    namespace: Namespace, operator: Operator, container: int
) -> None:
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    patch = [{"op": "replace", "path": f"/spec/containers/{container}/image", "value": "evil.example.com/executor"}]
    namespace.kubectl("patch", "pod", pod["metadata"]["name"], "--type=json", f"--patch={json.dumps(patch)}")
    status = namespace.becomes("False PodUntrusted")
    message = next(one["message"] for one in status["conditions"] if one["type"] == "Ready")
    assert "its image, command or request was changed after it was created" in message
    assert "request another build." in message
    assert [one["type"] for one in status["conditions"]] == ["Ready", "Stalled"]
    eventually(lambda: not namespace.pods(), "its Pod to go")
    assert "image" not in status


def test_a_pod_whose_container_was_restarted_is_not_believed(namespace: Namespace, operator: Operator) -> None:
    """As the kubelet does it when the image is changed, which may have been changed back since."""
    namespace.apply()
    pod = namespace.pod()
    report = json.dumps({"version": 1, **FORGED, "references": [f"{namespace.tag()}@{FORGED['digest']}"]})
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": report}}
    one = {"name": "executor", "image": "x", "imageID": "", "ready": False, "restartCount": 1, "state": state}
    namespace.kubelet(pod, {"phase": "Succeeded", "containerStatuses": [one]})
    status = namespace.becomes("False PodUntrusted")
    assert "a container was restarted" in status["build"]["failure"]["message"]
    assert "image" not in status


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ([EVIL], f'it reported image "{EVIL}", which it was not told to push'),
        ([], "it reported a digest without an image"),
    ],
)
def test_only_images_of_the_request_are_recorded(
    namespace: Namespace, operator: Operator, references: list[str], said: str
) -> None:
    namespace.apply()
    namespace.ends(namespace.pod(), {**FORGED, "references": references})
    status = namespace.becomes("False PodUntrusted")
    assert said in status["build"]["failure"]["message"]
    assert "image" not in status


def test_a_build_that_outlives_an_edit_pushes_what_it_was_told_to(namespace: Namespace, operator: Operator) -> None:
    namespace.apply(concurrencyPolicy="Queue")
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    namespace.apply(concurrencyPolicy="Queue", output={"tags": [namespace.tag("other:2")]})
    namespace.pushes(pod)
    eventually(lambda: namespace.status()["build"]["number"] == 2, "the next build")
    status = namespace.status()
    assert status["image"]["reference"].startswith(namespace.tag("app:1@"))
    assert status["history"][0]["outcome"] == "Succeeded"


def test_forged_pods_use_up_no_limit(namespaces: Callable[[], Namespace], operators: Callable[..., Operator]) -> None:
    forgers, victim = namespaces(), namespaces()
    forgers.apply()
    forgers.starts(Forger(forgers).create(Forger(forgers).next_pod()))
    operators(MAX_BUILDS="1")
    forgers.becomes("False PodNameTaken")
    victim.apply()
    victim.pushes(victim.pod())
    victim.phase("Succeeded")


def test_an_answer_of_a_forged_poll_does_not_count(namespace: Namespace, operator: Operator, forger: Forger) -> None:
    git = {"url": "https://git.example.com/a.git", "ref": {"branch": "main"}, "poll": "1m"}
    namespace.apply(source={"git": git})
    namespace.pushes(namespace.pod())
    namespace.phase("Succeeded")
    past = "2020-01-01T00:00:00Z"  # as if the minute had gone by
    patch = json.dumps({"status": {"build": {"queueTime": past, "completionTime": past}}})
    namespace.kubectl("patch", "imagebuild", "app", "--subresource=status", "--type=merge", f"--patch={patch}")
    name = eventually(lambda: namespace.status().get("poll", {}).get("podName"), "a poll")
    pod = eventually(lambda: [one for one in namespace.pods() if one["metadata"]["name"] == name], "its Pod")[0]
    eventually(lambda: namespace.status()["poll"].get("pod"), "its UID in the status")
    operator.freeze()
    namespace.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    namespace.ends(forger.create(forger.copy_of(pod)), {"source": {"commit": "e" * 40}})
    operator.thaw()
    eventually(lambda: not namespace.status()["poll"].get("podName"), "the end of the poll")
    status = namespace.status()
    assert status["poll"].get("commit") != "e" * 40
    assert status["build"]["number"] == 1


def test_a_pod_of_the_release_before_is_taken_over(namespace: Namespace, operator: Operator, forger: Forger) -> None:
    """That release signed no Pods and stored no UIDs, only names."""
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    operator.kill()
    old = copy.deepcopy(forger.copy_of(pod))
    old["metadata"]["annotations"] = {
        key: value for key, value in old["metadata"]["annotations"].items() if not key.startswith("imagewright.dev/")
    }
    assert SIGNATURE_ANNOTATION not in old["metadata"]["annotations"]
    namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    running = forger.create(old)
    namespace.starts(running)
    forget = json.dumps({"status": {"build": {"pod": None}}})
    namespace.kubectl("patch", "imagebuild", "app", "--subresource=status", "--type=merge", f"--patch={forget}")
    operator.start()
    eventually(lambda: namespace.status()["build"].get("pod", {}).get("uid") == running["metadata"]["uid"], "its UID")
    assert len(namespace.pods()) == 1
    digest = namespace.pushes(running)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest
    assert namespace.status()["build"]["attempt"] == 1


REWRITTEN = """\
["0", "1"].map(i, JSONPatch{op: "replace", path: "/spec/containers/" + i + "/image",
  value: "proxy.example.com/" + object.spec.containers[int(i)].image}) + [
  JSONPatch{op: "add", path: "/spec/containers/1/env/-",
    value: Object.spec.containers.env{name: "AWS_ROLE_ARN", value: "role"}}]
"""


@pytest.fixture
def rewriting(api: ApiServer, namespace: Namespace) -> Iterator[None]:
    """A cluster whose webhooks have Pods pull from a proxy, and add a variable."""
    group, name = "admissionregistration.k8s.io/v1", f"rewrite-{namespace.name}"
    rule: dict[str, Any] = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]
    }  # fmt: skip
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": REWRITTEN}}],
    }
    kind = "MutatingAdmissionPolicy"
    namespace.kubectl(
        "create", "--filename=-", given={"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
    )
    binding = {"policyName": name, "matchResources": here}
    namespace.kubectl(
        "create",
        "--filename=-",
        given={"apiVersion": group, "kind": f"{kind}Binding", "metadata": {"name": name}, "spec": binding},
    )
    time.sleep(2)  # until the API server has compiled it
    yield
    api.kubectl("delete", f"{kind.lower()},{kind.lower()}binding", name)


def test_what_the_clusters_own_admission_changes_is_no_forgery(
    namespace: Namespace, operator: Operator, rewriting: None
) -> None:
    namespace.apply()
    pod = namespace.pod()
    assert pod["spec"]["containers"][1]["image"].startswith("proxy.example.com/"), "the policy works"
    namespace.starts(pod)
    namespace.becomes("Unknown BuildRunning")
    digest = namespace.pushes(pod)
    assert namespace.phase("Succeeded")["image"]["digest"] == digest


def _now() -> datetime:
    return datetime.now(UTC)

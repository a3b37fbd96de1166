"""Observations of Pods, with statuses as kubelet, scheduler and controllers of Kubernetes 1.37 write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from imagewright.contract.result import BuildResult, Failure
from imagewright_operator.api.spec import RetryCause
from imagewright_operator.pods.observation import Observation, PodState, observe

DIGEST = "sha256:" + "a" * 64
SUCCESS = BuildResult(digest=DIGEST, size=1).to_json()
NOW = datetime(2026, 11, 25, 12, 3, 1, tzinfo=UTC)
LIMITS = {"containers": [{"name": "executor", "resources": {"limits": {"memory": "1Gi"}}}]}


def pod(status: dict[str, Any], *, deleted: bool = False, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": "app-1", "uid": "u", "creationTimestamp": "2026-11-25T12:00:00Z"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-25T12:05:00Z"
    return {"metadata": metadata, "spec": spec or LIMITS, "status": status}


def ended(
    phase: str = "Failed", *, deleted: bool = False, pod_status: dict[str, Any] | None = None, **state: Any
) -> Observation:
    terminated = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-25T12:03:00Z", **state}
    statuses = [{"name": "executor", "state": {"terminated": terminated}}]
    return observe(pod({"phase": phase, "containerStatuses": statuses, **(pod_status or {})}, deleted=deleted), NOW)


def waiting(events: list[dict[str, Any]] | None = None, **status: Any) -> Observation:
    return observe(pod({"phase": "Pending", **status}), NOW, events or [])


def test_a_new_pod_waits_without_a_reason() -> None:
    seen = waiting()
    assert (seen.state, seen.reason, seen.transient) == (PodState.WAITING, "", False)


def test_a_pushed_image_counts_whatever_happened_to_the_pod_afterwards() -> None:
    seen = ended(message=SUCCESS, exitCode=137, reason="OOMKilled", pod_status={"reason": "Evicted"})
    assert seen.state is PodState.SUCCEEDED
    assert seen.result is not None
    assert seen.result.digest == DIGEST


@pytest.mark.parametrize(
    ("pod_status", "state", "reason", "retry"),
    [
        ({"reason": "DeadlineExceeded"}, {"exitCode": 137}, "Timeout", None),
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            {},
            "PodEvicted",
            RetryCause.EVICTED,
        ),
        (
            {"reason": "Evicted", "message": 'Usage of EmptyDir volume "imagewright-work" exceeds the limit "1Mi".'},
            {},
            "DiskFull",
            None,
        ),
        (
            {
                "reason": "Evicted",
                "message": "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
            },
            {},
            "DiskFull",
            None,
        ),
        ({"reason": "NodeShutdown"}, {}, "NodeLost", RetryCause.NODE_LOST),
        (
            {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."},
            {},
            "NodeLost",
            RetryCause.NODE_LOST,
        ),
        ({"reason": "OutOfcpu"}, {}, "PodEvicted", RetryCause.EVICTED),
        ({}, {"reason": "OOMKilled", "exitCode": 137}, "OutOfMemory", None),
        ({}, {"reason": "ContainerStatusUnknown", "exitCode": 137}, "NodeLost", RetryCause.NODE_LOST),
        ({}, {"reason": "Unknown", "exitCode": 255}, "NodeLost", RetryCause.NODE_LOST),
        ({}, {"exitCode": 137}, "NodeOutOfMemory", RetryCause.NODE_OUT_OF_MEMORY),
        ({}, {"reason": "StartError", "exitCode": 128, "message": "exec format error"}, "PodRejected", None),
        ({}, {"exitCode": 3}, "InternalError", None),
    ],
)
def test_pods_that_end_without_a_result(
    pod_status: dict[str, Any], state: dict[str, Any], reason: str, retry: RetryCause | None
) -> None:
    seen = ended(pod_status=pod_status, **state)
    assert (seen.state, seen.reason, seen.retry) == (PodState.FAILED, reason, retry)
    assert seen.message


@pytest.mark.parametrize(
    ("why", "reason", "retry"),
    [
        ("PreemptionByScheduler", "PodEvicted", RetryCause.PREEMPTED),
        ("DeletionByTaintManager", "NodeLost", RetryCause.NODE_LOST),
        ("EvictionByEvictionAPI", "PodEvicted", RetryCause.EVICTED),
        ("SomethingNew", "PodEvicted", RetryCause.EVICTED),
    ],
)
def test_a_disruption_takes_precedence_over_the_executors_result(why: str, reason: str, retry: RetryCause) -> None:
    """It reports a RUN that the kubelet has killed as a failed RUN."""
    report = BuildResult(failure=Failure(reason="StepFailed", message="RUN was killed")).to_json()
    condition = {"type": "DisruptionTarget", "status": "True", "reason": why, "message": "words"}
    seen = ended(message=report, pod_status={"conditions": [condition]})
    assert (seen.reason, seen.message, seen.retry) == (reason, "words", retry)


def test_out_of_memory_names_the_limit_and_the_field() -> None:
    message = ended(reason="OOMKilled", exitCode=137).message
    assert "1Gi" in message
    assert "spec.podTemplate.resources.limits.memory" in message


def container(name: str, **limits: str) -> dict[str, Any]:
    return {"name": name, "resources": {"limits": limits}}


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ({"containers": [container("proxy", memory="1Gi"), container("executor", memory="2Gi")]}, "2Gi"),
        ({"containers": [container("executor", cpu="2")], "resources": {"limits": {"memory": "3Gi"}}}, "3Gi"),
        ({"containers": [container("proxy", memory="1Gi"), container("executor", cpu="2")]}, ""),
        ({"containers": [{"name": "executor"}]}, ""),
    ],
)
def test_the_memory_limit_decides_between_container_and_node(spec: dict[str, Any], limit: str) -> None:
    """What has no limit can't have reached it: the kubelet calls both OOMKilled."""
    terminated = {"exitCode": 137, "reason": "OOMKilled"}
    statuses = [{"name": "executor", "state": {"terminated": terminated}}]
    seen = observe(pod({"phase": "Failed", "containerStatuses": statuses}, spec=spec), NOW)
    if limit:
        assert (seen.reason, seen.retry) == ("OutOfMemory", None)
        assert f"its limit of {limit}:" in seen.message
        assert "or requests.memory" in seen.message  # the kubelet's word alone doesn't tell
    else:
        assert (seen.reason, seen.retry) == ("NodeOutOfMemory", RetryCause.NODE_OUT_OF_MEMORY)
        assert "spec.podTemplate.resources.requests.memory" in seen.message


@pytest.mark.parametrize("reason", ["OOMKilled", "Error"])
@pytest.mark.parametrize(("told", "retry"), [("OutOfMemory", None), ("NodeOutOfMemory", RetryCause.NODE_OUT_OF_MEMORY)])
def test_an_executor_that_survived_the_kill_reports_whose_memory_ran_out(
    reason: str, told: str, retry: RetryCause | None
) -> None:
    report = BuildResult(failure=Failure(reason=told, message="RUN make ended", line=2)).to_json()
    seen = ended(exitCode=7, reason=reason, message=report)
    assert (seen.reason, seen.retry) == (told, retry)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure(reason="StepFailed", message="RUN make ended", exit_code=3), "StepFailed"),
        (Failure(reason="PushFailed", message="500"), "PushFailed"),
        (Failure(reason="StepFailed", message="RUN make ended", exit_code=137), "OutOfMemory"),
        (Failure(reason="SandboxUnavailable", message="the sandbox is gone"), "OutOfMemory"),
    ],
)
def test_an_unrelated_kill_does_not_hide_the_executors_result(failure: Failure, reason: str) -> None:
    """As measured with cgroup v1: containerd calls all containers OOMKilled when the limit of all Pods is reached."""
    seen = ended(exitCode=7, reason="OOMKilled", message=BuildResult(failure=failure).to_json())
    assert (seen.reason, seen.retry) == (reason, None)


def test_an_executor_killed_by_the_deletion_of_its_pod_is_not_out_of_memory() -> None:
    assert ended(deleted=True, exitCode=137).reason == "PodDeleted"


def test_a_reported_failure_is_passed_on_with_its_hint() -> None:
    failure = Failure(reason="RegistryAuthFailed", message="401 from the registry", hint="Check the secret.")
    seen = ended(message=BuildResult(failure=failure).to_json())
    assert (seen.reason, seen.message, seen.retry) == (
        "RegistryAuthFailed",
        "401 from the registry. Check the secret.",
        None,
    )


@pytest.mark.parametrize("report", ["", BuildResult(failure=Failure(reason="Cancelled", message="SIGTERM")).to_json()])
def test_a_pod_that_was_deleted_while_it_was_running(report: str) -> None:
    seen = ended(deleted=True, message=report)
    assert (seen.reason, seen.retry) == ("PodDeleted", RetryCause.POD_DELETED)


def test_a_failed_build_stays_failed_when_its_pod_is_deleted_later() -> None:
    report = BuildResult(failure=Failure(reason="StepFailed", message="no")).to_json()
    seen = ended(deleted=True, message=report)
    assert (seen.reason, seen.retry) == ("StepFailed", None)


def test_a_running_pod_that_is_being_deleted_has_a_reason() -> None:
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "executor", "state": {"running": {"startedAt": "2026-11-25T12:01:00Z"}}}],
    }
    assert observe(pod(status), NOW).reason == ""
    seen = observe(pod(status, deleted=True), NOW)
    assert (seen.state, seen.reason, seen.retry) == (PodState.RUNNING, "PodDeleted", RetryCause.POD_DELETED)


def test_injected_sidecars_do_not_hide_the_executor() -> None:
    other = {"name": "proxy", "state": {"running": {"startedAt": "2026-11-25T12:01:00Z"}}}
    executor = {"name": "executor", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    seen = waiting(containerStatuses=[other, executor])
    assert (seen.state, seen.reason) == (PodState.WAITING, "ImagePullFailed")


def test_unschedulable_has_the_schedulers_message() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    seen = waiting(conditions=[condition])
    assert (seen.reason, seen.message, seen.transient) == ("Unschedulable", "0/3 nodes are available", False)


STARTS = "the build then starts by itself, without a rebuild"
LOGIN = {"secret": {"secretName": "regcred", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}}
CREATE_LOGIN = (
    "kubectl create secret docker-registry regcred -n team "
    "--docker-server=HOST --docker-username=USER --docker-password=PASSWORD"
)


def event(reason: str, words: str, second: int = 2, container: str = "") -> dict[str, Any]:
    place = {"fieldPath": f"spec.containers{{{container}}}"} if container else {}
    time = f"2026-11-25T12:00:{second:02}Z"
    return {"reason": reason, "message": words, "lastTimestamp": time, "involvedObject": place}


def unmounted(words: str, second: int = 2) -> dict[str, Any]:
    return event("FailedMount", f'MountVolume.SetUp failed for volume "imagewright-x" : {words}', second)


def mounting(volume: dict[str, Any], *events: dict[str, Any]) -> Observation:
    """A Pod of the namespace ``team`` that waits for its volume ``imagewright-x``."""
    spec = {**LIMITS, "volumes": [{"name": "other"}, {"name": "imagewright-x", **volume}]}
    one = pod({"phase": "Pending"}, spec=spec)
    one["metadata"]["namespace"] = "team"
    return observe(one, NOW, events)


def _source(kind: str, name: str, *keys: str) -> dict[str, Any]:
    return {kind: {"name": name, "items": [{"key": key, "path": "0"} for key in keys]}}


@pytest.mark.parametrize(
    ("volume", "words", "reason", "said"),
    [
        (
            {"secret": {"secretName": "git-login"}},
            'secret "git-login" not found',
            "SecretNotFound",
            'secret "git-login" not found: create it in namespace "team"',
        ),
        (
            {"configMap": {"name": "ctx"}},
            'configmap "ctx" not found',
            "ConfigMapNotFound",
            'configmap "ctx" not found: create it in namespace "team"',
        ),
        (
            LOGIN,
            'secret "regcred" not found',
            "SecretNotFound",
            f'secret "regcred" not found: create it: {CREATE_LOGIN}',
        ),
        (
            LOGIN,
            "references non-existent secret key: .dockerconfigjson",
            "SecretNotFound",
            'secret "regcred" has no key ".dockerconfigjson": its type is not "kubernetes.io/dockerconfigjson", which '
            'a login must have, but another, such as "Opaque"; replace it: kubectl delete secret regcred -n team && '
            f"{CREATE_LOGIN}",
        ),
        (
            {"projected": {"sources": [_source("secret", "a", "one"), _source("secret", "b", "two")]}},
            "references non-existent secret key: two",
            "SecretNotFound",
            'secret "b" has no key "two": add the key',
        ),
        (
            {"projected": {"sources": [_source("configMap", "company-ca", "ca.crt")]}},
            "references non-existent config key: ca.crt",
            "ConfigMapNotFound",
            'configmap "company-ca" has no key "ca.crt": add the key',
        ),
        (
            {"projected": {"sources": [_source("secret", "a", "token"), _source("secret", "b", "token")]}},
            "references non-existent secret key: token",
            "SecretNotFound",
            'one of the secrets "a", "b" has no key "token": add the key',
        ),
        (
            {"secret": {"secretName": "a"}},
            "references non-existent secret key: token",
            "SecretNotFound",
            'a secret has no key "token": add the key',
        ),
    ],
)
def test_a_missing_object_is_named_with_what_to_do_and_starts_the_build_when_it_exists(
    volume: dict[str, Any], words: str, reason: str, said: str
) -> None:
    seen = mounting(volume, unmounted(words))
    assert (seen.reason, seen.transient) == (reason, True)
    assert seen.message == f"{said}; {STARTS}"


VAGUE = [
    unmounted("failed to sync secret cache: timed out waiting for the condition", 9),
    unmounted("failed to sync configmap cache: timed out waiting for the condition", 9),
    event(
        "FailedMount",
        "Unable to attach or mount volumes: unmounted volumes=[imagewright-x], unattached volumes=[], failed to process "
        "volumes=[]: context deadline exceeded",
        9,
    ),
]


@pytest.mark.parametrize("vague", VAGUE)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_vague_event_does_not_replace_the_cause_that_is_known(vague: dict[str, Any], backwards: bool) -> None:
    events = [unmounted('secret "regcred" not found'), vague]
    seen = mounting(LOGIN, *(events[::-1] if backwards else events))
    assert (seen.reason, seen.transient) == ("SecretNotFound", True)


@pytest.mark.parametrize("vague", VAGUE)
def test_a_vague_event_counts_if_nothing_else_is_known(vague: dict[str, Any]) -> None:
    seen = mounting(LOGIN, vague)
    assert (seen.reason, seen.transient) == ("VolumePending", False)
    assert vague["message"].rpartition(" : ")[2] in seen.message


def test_a_volume_that_is_not_mounted_is_named_by_its_objects() -> None:
    assert mounting(LOGIN, VAGUE[0]).message == (
        'cannot mount secret "regcred": failed to sync secret cache: timed out waiting for the condition'
    )


@pytest.mark.parametrize("later", ["Pulling", "Pulled", "Created", "Started"])
def test_a_failure_to_mount_is_history_once_a_container_is_prepared(later: str) -> None:
    seen = mounting(LOGIN, unmounted('secret "regcred" not found'), event(later, "x", 9))
    assert (seen.reason, seen.transient) == ("", False)


def test_a_failure_to_mount_is_history_once_the_pods_volumes_are_mounted() -> None:
    one = pod({"phase": "Pending", "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]})
    assert observe(one, NOW, [unmounted('secret "regcred" not found')]).reason == ""
    one["status"]["conditions"][0]["status"] = "False"
    assert observe(one, NOW, [unmounted('secret "regcred" not found')]).reason != ""


@pytest.mark.parametrize("grace_s", [73786976295, 9 * 10**18, 10**30])
def test_a_grace_period_that_no_calendar_has_counts_from_the_creation(grace_s: int) -> None:
    one = pod({"phase": "Running"})
    one["metadata"] |= {"deletionTimestamp": "2026-11-25T12:00:01Z", "deletionGracePeriodSeconds": grace_s}
    assert observe(one, NOW).deleted == one["metadata"].get("creationTimestamp", "")


def test_a_failure_to_mount_is_history_once_a_sandbox_is_tried() -> None:
    sandbox = event("FailedCreatePodSandBox", "rpc error: context deadline exceeded", 9)
    assert mounting(LOGIN, unmounted('secret "regcred" not found'), sandbox).reason == "PodRejected"


@pytest.mark.parametrize(
    ("state", "words", "events", "reason", "said"),
    [
        (
            "CreateContainerConfigError",
            "failed to sync secret cache: timed out waiting for the condition",
            [event("Failed", 'Error: secret "token" not found', container="executor")],
            "SecretNotFound",
            'secret "token" not found',
        ),
        (
            "ImagePullBackOff",
            'Back-off pulling image "x:1"',
            [
                event("Failed", 'Failed to pull image "x:1": no such host', 1, "executor"),
                event("Failed", 'Failed to pull image "x:1": x:1: not found', 2, "executor"),
                event("Failed", "Error: ErrImagePull", 3, "executor"),
                event("Failed", "Error: ImagePullBackOff", 4, "executor"),
                event("Failed", 'Failed to pull image "y:1": denied', 5, "injected"),
            ],
            "ImagePullFailed",
            "cannot pull the image of the executor: x:1: not found",
        ),
        ("ImagePullBackOff", 'Back-off pulling image "x:1"', [], "ImagePullFailed", 'Back-off pulling image "x:1"'),
        (  # its volumes are mounted now
            "ImagePullBackOff",
            'Back-off pulling image "x:1"',
            [unmounted('secret "regcred" not found')],
            "ImagePullFailed",
            'Back-off pulling image "x:1"',
        ),
    ],
)
def test_a_container_that_waits_has_the_clearest_cause(
    state: str, words: str, events: list[dict[str, Any]], reason: str, said: str
) -> None:
    waits = {"name": "executor", "state": {"waiting": {"reason": state, "message": words}}}
    seen = waiting(events, containerStatuses=[waits])
    assert (seen.reason, seen.transient) == (reason, reason == "SecretNotFound")
    assert said in seen.message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('secret "token" not found', "SecretNotFound"),
        ('configmap "args" not found', "ConfigMapNotFound"),
        ("couldn't find key VERSION in ConfigMap ns/args", "ConfigMapNotFound"),
        ("couldn't find key token in Secret ns/tokens", "SecretNotFound"),
    ],
)
def test_a_missing_source_of_an_environment_variable_is_transient(words: str, reason: str) -> None:
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    seen = waiting(containerStatuses=[{"name": "executor", "state": state}])
    assert (seen.reason, seen.transient) == (reason, True)


def test_the_latest_event_counts() -> None:
    events = [
        {"reason": "FailedMount", "message": 'secret "a" not found', "lastTimestamp": "2026-11-25T12:00:02Z"},
        {"reason": "FailedAttachVolume", "message": "disk is in use", "lastTimestamp": "2026-11-25T12:00:09Z"},
    ]
    assert waiting(events).reason == "VolumePending"
    assert waiting(events[::-1]).reason == "VolumePending"


def test_a_pod_sandbox_that_cannot_be_created() -> None:
    seen = waiting([{"reason": "FailedCreatePodSandBox", "message": "user namespaces are not supported"}])
    assert seen.reason == "PodRejected"
    assert "user namespaces" in seen.message


def test_an_executor_that_succeeded_without_a_termination_message_is_observed_as_succeeded() -> None:
    seen = ended("Succeeded", exitCode=0, reason="Completed", message="")
    assert (seen.state, seen.result) == (PodState.SUCCEEDED, None)


LOST = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}
RUNS: dict[str, Any] = {"running": {"startedAt": "2026-11-25T12:01:00Z"}}
CREATED = {"waiting": {"reason": "ContainerCreating"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


@pytest.mark.parametrize(
    ("state", "before", "count", "restarted"),
    [
        (LOST, LOST, 1, False),  # as the kubelet writes it of an evicted Pod
        (CREATED, LOST, 1, False),  # a moment before
        (LOST, LOST, 2, True),
        (LOST, DONE, 1, True),  # started again, and then lost
        (LOST, {}, 1, True),
        (CREATED, DONE, 1, True),
        (RUNS, LOST, 1, True),
        (DONE, LOST, 1, True),
        (RUNS, {}, 0, False),
        (LOST, {}, 0, False),
    ],
)
@pytest.mark.parametrize("name", ["executor", "runner"])
def test_a_container_that_was_lost_was_not_restarted(
    name: str, state: dict[str, Any], before: dict[str, Any], count: int, restarted: bool
) -> None:
    status = {"name": name, "state": state, "lastState": before, "restartCount": count}
    assert observe(pod({"phase": "Failed", "containerStatuses": [status]}), NOW).restarted is restarted


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (
            'Usage of EmptyDir volume "imagewright-work" exceeds the limit "1Mi". ',
            "raise the operator's setting IMAGEWRIGHT_WORKSPACE_SIZE",
        ),
        (
            'Usage of EmptyDir volume "data" exceeds the limit "1Mi". ',
            'raise emptyDir.sizeLimit of volume "data" in spec.podTemplate.volumes',
        ),
        (
            'Container runner exceeded its local ephemeral storage limit "1Gi". ',
            "raise spec.podTemplate.resources.limits.ephemeral-storage",
        ),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            "raise spec.podTemplate.resources.limits.ephemeral-storage",
        ),
    ],
)
def test_a_full_disk_names_what_to_raise(words: str, remedy: str) -> None:
    seen = ended(pod_status={"reason": "Evicted", "message": words})
    assert (seen.reason, seen.retry) == ("DiskFull", None)
    assert seen.message == f"{words.rstrip('. ')}: the build needs more disk space than its Pod may use; {remedy}"


def test_a_full_disk_of_both_containers_is_the_one_that_runs_commands() -> None:
    made = pod(
        {"phase": "Failed", "reason": "Evicted", "message": "Pod usage exceeds the total limit of containers 1Gi."}
    )
    made["metadata"]["annotations"] = {"imagewright.dev/commands-container": "runner"}
    made["spec"] = {"containers": [{"name": "runner"}, {"name": "executor"}]}
    assert observe(made, NOW).message.endswith("raise spec.podTemplate.resources.limits.ephemeral-storage")


def test_a_full_disk_of_another_container_is_not_the_builds() -> None:
    words = 'Container istio-proxy exceeded its local ephemeral storage limit "1Gi". '
    said = "raise the limit of container istio-proxy where it is added to the Pod"
    assert ended(pod_status={"reason": "Evicted", "message": words}).message == f"{words.rstrip('. ')}: {said}"


def test_a_node_that_is_short_of_disk_is_not_the_builds() -> None:
    words = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. "
    assert ended(pod_status={"reason": "Evicted", "message": words}).reason == "PodEvicted"

"""The reconciler on a simulated cluster: its actions are carried out step by step, and may be interrupted anywhere."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagebuilds.paper import Paper, result, rfc3339

from imagewright.contract import RESULT_LOG_KEY
from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import Reason
from imagewright_operator.api import REQUESTED_AT_ANNOTATION
from imagewright_operator.pods.manifests import pod_name
from imagewright_operator.reconcile import reconciler
from imagewright_operator.reconcile.actions import CreateError
from imagewright_operator.settings import Settings


def built(**spec: Any) -> Paper:
    """One that has been built."""
    paper = Paper(**spec)
    paper.settle()
    paper.starts()
    paper.settle()
    paper.wait(seconds=83)
    paper.ends(result())
    paper.settle()
    return paper


def test_from_apply_to_a_digest() -> None:
    paper = Paper()
    assert paper.kstatus() == "InProgress"
    paper.settle()
    assert paper.status["phase"] == "Pending"
    assert paper.condition("Ready") == "Unknown PodPending"
    paper.starts()
    paper.settle()
    assert paper.status["phase"] == "Running"
    paper.wait(seconds=83)
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    assert paper.condition("Ready") == "True BuildSucceeded"
    assert (paper.condition("Reconciling"), paper.condition("Stalled")) == ("", "")
    assert paper.status["image"] == {
        "reference": "reg.example.com/app:1@sha256:" + "a" * 64,
        "digest": "sha256:" + "a" * 64,
        "shortDigest": "sha256:" + "a" * 12,
        "size": 10,
    }
    assert paper.status["build"]["source"]["commit"] == "c" * 40
    assert paper.status["duration"] == "1m23s"
    assert paper.status["log"]["tail"] == "step 1\nstep 2\n"
    assert [entry["outcome"] for entry in paper.status["history"]] == ["Succeeded"]
    assert [text.split(":")[0] for text in paper.posted.values()] == ["BuildQueued", "BuildStarted", "BuildSucceeded"]
    assert paper.versions == sorted(paper.versions, reverse=True), (
        "InProgress, and Current only once the image is pushed"
    )


def test_the_status_follows_step_and_log_of_a_running_build() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.log = b"[build 1/3] FROM busybox\n  done in 1s\n[build 2/3] RUN make\n  | [build 9/9] not a step\n"
    paper.settle()
    assert "log" not in paper.status, "not at once"
    assert paper.requeue_after_s == 10
    paper.wait(seconds=10)
    paper.settle()
    assert paper.status["build"]["currentStep"] == "[build 2/3] RUN make"
    assert paper.status["log"]["tail"].endswith("| [build 9/9] not a step\n")
    (message,) = [one["message"] for one in paper.status["conditions"] if one["type"] == "Ready"]
    assert message.endswith("is building the image: [build 2/3] RUN make")
    before = json.dumps(paper.status)
    paper.wait(seconds=30)
    paper.settle()
    assert json.dumps(paper.status) == before
    # Output that is longer than what is read has no step in it: the last one known stays.
    paper.log = b"  | more\n"
    paper.wait(minutes=20)
    paper.settle()
    assert paper.status["log"]["tail"] == "  | more\n"
    assert paper.status["build"]["currentStep"] == "[build 2/3] RUN make"
    paper.log = b"  | more and more\n"
    paper.settle()
    assert paper.status["log"]["tail"] == "  | more\n", "not yet"
    assert paper.requeue_after_s == 60, "an old build is looked at every minute"
    paper.ends(result())
    paper.settle()
    assert "currentStep" not in paper.status["build"]
    assert paper.status["log"]["tail"] == "  | more and more\n"


def test_another_pass_changes_nothing() -> None:
    paper = built()
    before = json.dumps(paper.status)
    paper.wait(minutes=30)
    for _ in range(10):
        assert paper.step().create is None
    assert json.dumps(paper.status) == before
    assert len(paper.created) == 1


@pytest.mark.parametrize(
    "field", ["retention", "suspend", "retry", "startTimeout", "timeout", "podTemplate", "sandbox"]
)
def test_what_does_not_change_the_image_builds_nothing(field: str) -> None:
    values: dict[str, Any] = {
        "retention": {"historyLimit": 1},
        "suspend": True,
        "retry": {"limit": 0},
        "podTemplate": {"nodeSelector": {"kubernetes.io/arch": "arm64"}},
        "sandbox": "Root",
    }
    paper = built()
    paper.edit(**{field: values.get(field, "7m")})
    paper.settle()
    assert len(paper.created) == 1
    assert paper.status["observedGeneration"] == 2
    assert paper.kstatus() == "Current"


def test_what_changes_the_image_builds_again_and_keeps_the_last_good_one_meanwhile() -> None:
    paper = built()
    paper.edit(buildArgs=[{"name": "A", "value": "1"}])
    assert paper.kstatus() == "InProgress"
    paper.settle()
    assert len(paper.created) == 2
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64
    assert paper.kstatus() == "InProgress"
    paper.ends(result("sha256:" + "b" * 64))
    paper.settle()
    assert paper.status["image"]["digest"] == "sha256:" + "b" * 64
    assert [entry["number"] for entry in paper.status["history"]] == [2, 1]


def test_the_annotation_asks_for_the_same_build_again() -> None:
    paper = built()
    paper.annotations[REQUESTED_AT_ANNOTATION] = "now"
    paper.settle()
    assert len(paper.created) == 2


def test_a_failed_build_stays_failed_until_the_spec_is_edited() -> None:
    paper = Paper()
    paper.settle()
    failure = Failure(
        reason="StepFailed",
        message="RUN make ended with 2",
        hint="See above.",
        instruction="RUN make",
        line=3,
        exit_code=2,
    )
    paper.ends(BuildResult(failure=failure).to_json(), exit_code=7)
    paper.settle()
    assert paper.status["phase"] == "Failed"
    assert paper.condition("Ready") == "False StepFailed"
    assert paper.condition("Stalled") == "True StepFailed"
    assert paper.kstatus() == "Failed"
    told = paper.status["build"]["failure"]
    assert (told["message"], told["instruction"], told["line"]) == ("RUN make ended with 2. See above.", "RUN make", 3)
    paper.wait(days=1)
    paper.settle()
    assert len(paper.created) == 1
    paper.edit(podTemplate={"env": [{"name": "HTTPS_PROXY", "value": "b"}]})  # it may have been the cause
    paper.settle()
    assert len(paper.created) == 2


def test_an_invalid_spec_builds_nothing_and_recovers_by_being_fixed() -> None:
    paper = Paper(cache={"repository": "reg.example.com/cache:1"}, platforms=["linux/amd64", "linux/arm64"])
    paper.settle()
    assert paper.condition("Stalled") == "True InvalidSpec"
    message = paper.status["conditions"][0]["message"]
    assert "spec.cache.repository: " in message
    assert "spec.platforms" in message
    assert not paper.created
    del paper.spec["cache"], paper.spec["platforms"]
    paper.edit()
    paper.settle()
    assert len(paper.created) == 1


def test_a_build_waits_for_a_missing_secret_and_continues() -> None:
    paper = Paper(startTimeout="5m")
    paper.settle()
    words = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : secret "regcred" not found'
    paper.events = [{"reason": "FailedMount", "message": words, "lastTimestamp": "2026-11-25T12:00:01Z"}]
    paper.settle()
    assert paper.condition("Ready") == "False SecretNotFound"
    assert paper.kstatus() == "InProgress"
    assert 'secret "regcred"' in paper.status["conditions"][0]["message"]
    for _ in range(8):
        paper.wait(minutes=3)
        paper.settle()
        assert paper.condition("Ready") == "False SecretNotFound"
    assert {entry.split(":")[0] for entry in paper.posted.values()} == {"BuildQueued", "SecretNotFound"}
    assert paper.status["build"]["attempt"] == 1, "always the same attempt"
    assert paper.created == [paper.created[0], *(f"{paper.created[0]}-{number}" for number in (1, 2))]
    paper.wait(seconds=10)
    paper.settle()
    paper.events = []
    paper.starts()
    paper.settle()
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"


def test_a_build_waits_on_beyond_the_start_timeout_though_the_latest_event_is_vague() -> None:
    paper = Paper(startTimeout="5m")
    paper.settle()
    mount = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : '
    absent = mount + 'secret "regcred" not found'
    vague = mount + "failed to sync secret cache: timed out waiting for the condition"
    paper.events = [
        {"reason": "FailedMount", "message": absent, "lastTimestamp": "2026-11-25T12:00:01Z"},
        {"reason": "FailedMount", "message": vague, "lastTimestamp": "2026-11-25T12:04:59Z"},
    ]
    for _ in range(3):
        paper.settle()
        assert paper.condition("Ready") == "False SecretNotFound"
        paper.wait(minutes=6)


LOCATED_NOWHERE = {
    "reason": "ContainerStatusUnknown",
    "exitCode": 137,
    "message": "The container could not be located when the pod was terminated",
}


@pytest.mark.parametrize("has_run", [False, True])
def test_a_deleted_pod_whose_container_the_kubelet_cannot_locate_costs_an_attempt_only_if_it_has_run(
    has_run: bool,
) -> None:
    paper = Paper()
    paper.settle()
    if has_run:
        paper.starts()
        paper.settle()
    pod = paper.pod()
    pod["metadata"]["deletionTimestamp"] = rfc3339(paper.now)
    containers = [{"name": "executor", "state": {"terminated": LOCATED_NOWHERE}}]
    pod["status"] = {"phase": "Failed", "containerStatuses": containers}
    paper.settle()
    if has_run:
        assert paper.condition("Ready") == "Unknown NodeLost"
        assert paper.status["build"]["attempt"] == 2
        return
    assert paper.condition("Ready") == "Unknown BuildRetrying"
    paper.pods.clear()
    paper.wait(seconds=1)
    paper.settle()
    assert len(paper.created) == 2
    assert paper.status["build"]["attempt"] == 1, "the same attempt"
    assert "completionTime" not in paper.status["build"]
    paper.starts()
    paper.settle()
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    assert {text.split(":")[0] for text in paper.posted.values()} == {"BuildQueued", "BuildStarted", "BuildSucceeded"}


@pytest.mark.parametrize("waiting", [{}, {"reason": "ImagePullBackOff", "message": "not found"}])
def test_a_pod_that_does_not_start_in_time_fails_the_build(waiting: dict[str, str]) -> None:
    paper = Paper(startTimeout="5m")
    paper.settle()
    paper.pod()["status"]["containerStatuses"] = [{"name": "executor", "state": {"waiting": waiting}}]
    paper.settle()
    paper.wait(minutes=5, seconds=1)
    paper.settle()
    reason = "ImagePullFailed" if waiting else "StartTimeout"
    assert paper.condition("Stalled") == f"True {reason}"
    told = paper.status["build"]["failure"]["message"]
    assert told.endswith(". Request another build when it can: kubectl imagewright rebuild app")
    assert "spec.startTimeout (5m)" in paper.status["build"]["failure"]["message"]
    assert not paper.pods


def test_the_timeout_counts_from_the_start_of_the_container() -> None:
    paper = Paper(timeout="10m")
    paper.settle()
    paper.wait(minutes=9)
    paper.starts()
    paper.settle()
    paper.wait(minutes=9, seconds=59)
    paper.settle()
    assert paper.status["phase"] == "Running"
    assert paper.requeue_after_s == 1
    paper.wait(seconds=2)
    paper.settle()
    assert paper.condition("Stalled") == "True Timeout"
    assert "spec.timeout (10m)" in paper.status["build"]["failure"]["message"]
    assert paper.status["log"]["tail"] == "step 1\nstep 2\n"
    assert not paper.pods


def test_an_evicted_build_is_retried_up_to_the_limit() -> None:
    paper = Paper(retry={"limit": 2})
    for attempt in (1, 2, 3):
        paper.settle()
        paper.wait(minutes=2)
        paper.settle()
        assert paper.status["build"].get("attempt") == attempt
        paper.starts()
        paper.settle()
        paper.ends("", 137, reason="Evicted", message="The node was low on resource: memory.")
    paper.settle()
    assert paper.condition("Stalled") == "True PodEvicted"
    assert len(paper.created) == 3
    assert len({text for text in paper.posted.values() if text.startswith("BuildRetried")}) == 2


def test_a_build_that_failed_by_itself_is_never_retried() -> None:
    paper = Paper()
    paper.settle()
    paper.ends(BuildResult(failure=Failure(reason="PushFailed", message="no")).to_json(), exit_code=6)
    paper.settle()
    paper.wait(hours=1)
    paper.settle()
    assert len(paper.created) == 1


def test_a_build_whose_pod_was_deleted_is_retried() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    paper.pods.clear()
    paper.step()
    assert paper.condition("Ready") == "Unknown PodDeleted"
    assert paper.status["phase"] == "Queued"
    assert not paper.pods, "not at once"
    paper.wait(seconds=11)
    paper.settle()
    assert paper.created == [f"{paper.created[0][:-1]}1", f"{paper.created[0][:-1]}2"]


def test_an_abandoned_attempt_that_pushed_counts() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    name, pod = paper.pods.popitem()
    paper.step()
    assert paper.condition("Ready") == "Unknown PodDeleted"
    paper.pods[name] = pod  # what the last event of the Pod tells
    paper.status["build"]["attempt"] = 1
    paper.ends(result())
    paper.status["build"]["attempt"] = 2
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    assert len(paper.created) == 1


def test_a_pod_on_an_unresponsive_node_is_abandoned() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    paper.pod()["metadata"]["deletionTimestamp"] = rfc3339(paper.now + timedelta(seconds=30))
    paper.pod()["status"]["conditions"] = [
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "taint"}
    ]
    paper.settle()
    assert paper.status["phase"] == "Running"
    (message,) = [one["message"] for one in paper.status["conditions"] if one["type"] == "Ready"]
    assert message.endswith("is being deleted: waiting for its node to report how it ended")
    paper.wait(seconds=91)
    paper.step()
    assert paper.condition("Ready") == "Unknown NodeLost"
    paper.wait(seconds=11)
    paper.step()
    assert len(paper.created) == 2


def test_replace_ends_the_old_build_before_the_new_one_starts() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    old = paper.created[0]
    paper.edit(target="other")
    decision = paper.step(cut_after=1)
    assert [pod.name for pod in decision.delete] == [old]
    assert decision.create is None, "the old one could push after the new one"
    paper.settle()
    assert len(paper.created) == 2
    assert [entry["outcome"] for entry in paper.status["history"]] == ["Replaced"]
    assert old not in paper.pods


def test_queue_lets_the_old_build_end_and_is_not_current_in_between() -> None:
    paper = Paper(concurrencyPolicy="Queue")
    paper.settle()
    paper.starts()
    paper.settle()
    paper.edit(target="other")
    paper.settle()
    assert len(paper.created) == 1
    paper.ends(result())
    paper.settle()
    assert len(paper.created) == 2
    assert "Current" not in paper.versions
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64


def test_cancelled_ends_a_build_and_can_be_unset() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    paper.edit(cancelled=True)
    paper.settle()
    assert paper.status["phase"] == "Cancelled"
    assert paper.condition("Stalled") == "True Cancelled"
    assert not paper.pods
    paper.edit(cancelled=False)
    paper.settle()
    assert len(paper.created) == 2


def test_suspend_starts_nothing_and_ends_nothing() -> None:
    paper = Paper(suspend=True)
    paper.settle()
    assert paper.condition("Ready") == "False Suspended"
    assert not paper.created
    paper.edit(suspend=False)
    paper.settle()
    paper.starts()
    paper.edit(suspend=True)
    paper.settle()
    assert paper.status["phase"] == "Running"


def test_a_build_that_is_not_admitted_stays_queued_with_the_reason() -> None:
    paper = Paper()
    paper.wait_reason = "not yet"
    paper.settle()
    assert paper.created == []
    assert paper.condition("Ready") == "Unknown BuildQueued"
    assert {one["message"] for one in paper.status["conditions"]} == {paper.wait_reason}
    paper.wait_reason = ""
    paper.settle()
    assert len(paper.created) == 1


def test_an_exceeded_quota_keeps_the_build_queued_with_one_event() -> None:
    paper = Paper()
    refusal = CreateError(Reason.QUOTA_EXCEEDED, "exceeded quota: pods", transient=True)
    paper.step(error=refusal)
    said = json.dumps(paper.status["conditions"])
    assert paper.condition("Ready") == "False QuotaExceeded"
    assert paper.status["phase"] == "Queued"
    for _ in range(5):
        paper.wait(seconds=15)
        paper.step(error=refusal)
        assert json.dumps(paper.status["conditions"]) == said
    paper.settle()
    assert paper.status["phase"] == "Pending"
    assert len(paper.created) == 1


def test_a_rejected_pod_fails_the_build_with_the_clusters_message() -> None:
    paper = Paper()
    paper.step(error=CreateError(Reason.POD_REJECTED, 'violates PodSecurity "restricted"', transient=False))
    assert paper.condition("Stalled") == "True PodRejected"
    assert paper.status["build"]["failure"]["message"] == 'violates PodSecurity "restricted"'
    paper.settle()
    assert not paper.created


def test_finished_pods_are_deleted_after_their_ttl_and_the_result_stays() -> None:
    paper = built(retention={"podTTL": "1h"})
    assert paper.requeue_after_s == pytest.approx(3600)
    paper.wait(minutes=59)
    paper.settle()
    assert paper.pods
    paper.wait(minutes=1)
    paper.settle()
    assert not paper.pods
    paper.wait(days=1)
    paper.settle()
    assert (len(paper.created), paper.status["phase"]) == (1, "Succeeded")


def test_an_imagebuild_that_is_being_deleted_is_left_alone() -> None:
    paper = Paper()
    paper.deleted = True
    decision = paper.step()
    assert decision.is_idle(paper.imagebuild().status)


def test_the_result_is_taken_from_the_log_when_the_termination_message_is_empty() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.log = b"building\n" + json.dumps({RESULT_LOG_KEY: json.loads(result())}).encode() + b"\n"
    paper.ends("")
    paper.settle()
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64
    assert paper.status["log"]["tail"] == "building\n"


def test_a_result_printed_by_a_failing_run_is_not_trusted() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.log = json.dumps({RESULT_LOG_KEY: json.loads(result())}).encode()
    paper.ends("", exit_code=1)
    paper.settle()
    assert "image" not in paper.status
    assert paper.condition("Stalled") == "True InternalError"


def test_a_status_that_was_lost_does_not_build_twice() -> None:
    paper = built()
    paper.status = {"observedGeneration": -1}
    paper.settle()
    assert len(paper.created) == 1
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
@pytest.mark.parametrize("moment", range(8))
def test_killed_between_any_two_steps_it_builds_once_and_keeps_the_digest(moment: int, cut: int) -> None:
    paper = Paper()
    happenings = [lambda: None, paper.starts, lambda: paper.ends(result())]
    count = 0
    for happening in happenings:
        if paper.pods:
            happening()
        for _ in range(4):
            paper.step(cut_after=cut if count == moment else 99)
            count += 1
    paper.settle()
    assert len(paper.created) == 1
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64
    assert paper.kstatus() == "Current"


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from("step cut0 cut1 cut2 start end fail evict edit revert vanish wait hour".split()), max_size=40
    )
)
def test_whatever_happens_kstatus_is_current_only_with_an_image_of_these_inputs(happenings: list[str]) -> None:
    paper = Paper()
    pushed: set[str] = set()
    for happening in happenings:
        current = next(
            (pod for name, pod in paper.pods.items() if pod["status"]["phase"] in ("Pending", "Running")), None
        )
        live = current is not None and paper.status.get("build") and paper.pods.get(_current(paper)) is current
        match happening:
            case "step":
                paper.step()
            case "cut0" | "cut1" | "cut2":
                paper.step(cut_after=int(happening[-1]))
            case "start" if live:
                paper.starts()
            case "end" if live:
                pushed.add(paper.status["build"]["inputsHash"])
                paper.ends(result())
            case "fail" if live:
                paper.ends(BuildResult(failure=Failure(reason="StepFailed", message="x")).to_json(), exit_code=7)
            case "evict" if live:
                paper.ends("", 137, reason="Evicted", message="low on memory")
            case "edit":
                paper.edit(target="other")
            case "revert":
                paper.spec.pop("target", None)
                paper.edit()
            case "vanish":
                paper.pods.clear()
            case "wait":
                paper.wait(seconds=20)
            case "hour":
                paper.wait(hours=1)
        if paper.kstatus() == "Current":
            assert reconciler.Inputs.of(paper.imagebuild()).inputs_hash in pushed
        running = [pod for pod in paper.pods.values() if pod["status"]["phase"] in ("Pending", "Running")]
        assert len(running) <= 1, "never two at once"
    assert len(paper.created) == len(set(paper.created)) or "hour" in happenings or "vanish" in happenings


def _current(paper: Paper) -> str:
    build = paper.imagebuild().status.build
    return pod_name("app", build) if build is not None else ""


REFUSED: dict[str, Any] = {"podTemplate": {"labels": {"app": "web"}}}
ALLOWING = Settings.from_environment({"IMAGEWRIGHT_ALLOWED_LABELS": "*"})


def test_a_refused_spec_starts_nothing_and_an_edit_recovers() -> None:
    paper = Paper(**REFUSED)
    paper.settle()
    assert paper.condition("Stalled") == "True InvalidSpec"
    assert paper.created == []
    paper.edit(podTemplate={})
    paper.settle()
    assert len(paper.created) == 1


def test_an_edit_to_what_is_refused_is_reported_at_once() -> None:
    paper = built()
    paper.edit(**REFUSED)
    paper.settle()
    assert paper.condition("Stalled") == "True InvalidSpec"
    paper.edit(podTemplate={})
    paper.settle()
    assert paper.kstatus() == "Current"
    assert len(paper.created) == 1


def test_an_installation_that_allows_less_than_before_leaves_running_and_finished_builds_alone() -> None:
    paper = Paper(**REFUSED)
    paper.settings = ALLOWING
    paper.settle()
    paper.starts()
    paper.settle()
    paper.settings = Settings()  # an upgrade, or another setting
    paper.settle()
    assert paper.status["phase"] == "Running"
    paper.ends(result())
    paper.settle()
    assert paper.kstatus() == "Current"
    paper.annotations[REQUESTED_AT_ANNOTATION] = "now"
    paper.settle()
    assert paper.condition("Stalled") == "True InvalidSpec"
    assert len(paper.created) == 1
    paper.settings = ALLOWING
    paper.settle()
    assert len(paper.created) == 2


def test_it_starts_no_pod_of_a_build_that_was_queued_before() -> None:
    paper = Paper(**REFUSED)
    paper.settings = ALLOWING
    paper.wait_reason = "queued"
    paper.settle()
    assert paper.status["phase"] == "Queued"
    paper.settings, paper.wait_reason = Settings(), ""
    paper.settle()
    assert paper.condition("Stalled") == "True InvalidSpec"
    assert paper.created == []
    assert paper.status["build"]["failure"]["message"] == "replaced: the spec is not allowed"


def test_it_starts_no_further_attempt_and_no_poll() -> None:
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "gone"}
    paper = Paper(**REFUSED)
    paper.settings = ALLOWING
    paper.settle()
    paper.starts()
    paper.settle()
    paper.settings = Settings()
    paper.ends(exit_code=137, conditions=[disruption])
    paper.settle()
    assert (paper.status["build"]["attempt"], paper.status["build"]["outcome"]) == (1, "Failed")

    polled = Paper(**REFUSED, source={"git": {"url": "https://a.example.com/b", "ref": {"branch": "b"}, "poll": "1m"}})
    polled.settings = ALLOWING
    polled.settle()
    polled.ends(result())
    polled.settle()
    polled.settings = Settings()
    polled.wait(hours=1)
    polled.settle()
    assert len(polled.created) == 1

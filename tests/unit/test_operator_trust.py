"""Which Pods are believed, and which are waited for, whatever somebody else creates in the namespace."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from imagebuilds.paper import START, Paper, result, rfc3339

from imagewright_operator.api.status import PodIdentity, Poll
from imagewright_operator.pods.fingerprint import fingerprint
from imagewright_operator.pods.observation import Observation, PodState, observe
from imagewright_operator.reconcile import trust

Json = dict[str, Any]
CURRENT = fingerprint({}).partition("-")[0]  # how this version computes fingerprints
FORGED = "sha256:" + "e" * 64
MISSING = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : secret "regcred" not found'


def without_secret(start_timeout: str) -> Paper:
    """One whose Pod waits for a Secret."""
    paper = Paper(startTimeout=start_timeout)
    paper.events = [{"reason": "FailedMount", "message": MISSING, "lastTimestamp": "2026-11-25T12:00:01Z"}]
    paper.settle()
    return paper


def copied(paper: Paper, pod: Json, **metadata: Any) -> Json:
    """A copy of a Pod, as somebody else creates it: everything but the UID is the same."""
    made = copy.deepcopy(pod)
    made["metadata"] |= {"uid": f"copy-of-{pod['metadata']['uid']}", **metadata}
    paper.pods[made["metadata"]["name"]] = made
    return made


def test_a_copy_of_a_pod_that_never_ran_is_not_believed_instead_of_the_next() -> None:
    paper = without_secret("1m")
    first = paper.pod()
    paper.wait(minutes=1)
    paper.step()
    assert "pod" not in paper.status["build"]
    assert not paper.pods
    paper.ends(result(FORGED), pod=copied(paper, first))
    paper.wait(seconds=1)
    paper.settle()
    assert "image" not in paper.status
    own = paper.pod()
    assert own["metadata"]["name"] == first["metadata"]["name"] + "-1"
    paper.ends(result())
    paper.settle()
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64


def test_a_pod_that_the_status_names_as_a_release_before_signatures_did_is_believed() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    pod = paper.pod()
    pod["metadata"]["annotations"] = {}
    del paper.status["build"]["pod"]
    paper.settle()
    assert paper.status["build"]["pod"] == {"uid": pod["metadata"]["uid"], "fingerprint": fingerprint(pod)}
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"


def test_the_result_of_a_pod_that_was_given_up_counts_if_it_ran_after_all() -> None:
    paper = without_secret("1m")
    first = paper.pod()
    paper.wait(minutes=1)
    paper.step()
    paper.pods = {first["metadata"]["name"]: first}  # the Secret came, and the kubelet was faster
    paper.ends(result(), pod=first)
    paper.settle()
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64
    assert len(paper.created) == 1


def test_pauses_grow_while_pods_are_given_up() -> None:
    paper = without_secret("1s")
    began, pauses = paper.now, []
    while paper.now - began < timedelta(hours=2):
        before = len(paper.created)
        while len(paper.created) == before:
            assert paper.condition("Ready") == "False SecretNotFound"
            assert paper.requeue_after_s is not None
            paper.wait(seconds=max(1.0, paper.requeue_after_s))
            paper.settle()
        pauses.append(paper.now)
    assert len(paper.created) < 40
    assert paper.status["build"]["attempt"] == 1
    assert len(paper.status["build"]["earlierPods"]) <= 20
    assert pauses[-1] - pauses[-2] <= timedelta(minutes=6)


def test_a_copy_of_an_earlier_builds_pod_delays_the_next_for_five_minutes_and_its_attempts_no_more() -> None:
    paper = Paper()
    paper.settle()
    before = copy.deepcopy(paper.pod())
    paper.ends(result())
    paper.settle()
    paper.pods.clear()
    copied(paper, before, deletionTimestamp=rfc3339(paper.now + timedelta(hours=1)))
    paper.edit(buildArgs=[{"name": "A", "value": "1"}])
    paper.settle()
    assert len(paper.created) == 1
    paper.wait(minutes=5)
    paper.settle()
    assert len(paper.created) == 2
    del paper.pods[paper.created[-1]]
    paper.settle()
    paper.wait(minutes=1)
    paper.settle()
    assert len(paper.created) == 3


@pytest.mark.parametrize(
    ("recorded", "found"), [("v0-other", True), ("", True), (f"{CURRENT}-same", True), (f"{CURRENT}-other", False)]
)
def test_a_polls_pod_is_compared_as_far_as_this_version_can(recorded: str, found: bool) -> None:
    poll = Poll(podName="p", pod=PodIdentity(uid="1", fingerprint=recorded))
    seen = Observation(state=PodState.RUNNING, name="p", uid="1", fingerprint=f"{CURRENT}-same")
    assert (trust.poll_pod_of(poll, [seen]) is seen) is found


def test_a_build_waits_for_its_earlier_pod_and_not_for_a_strangers() -> None:
    paper = without_secret("1m")
    first = paper.pod()
    stranger = copied(paper, first, name="app-0-1", deletionTimestamp=rfc3339(paper.now + timedelta(days=2000)))
    paper.wait(minutes=1)
    paper.step()
    paper.pods[first["metadata"]["name"]] = first
    first["metadata"]["deletionTimestamp"] = rfc3339(paper.now + timedelta(seconds=30))
    first["metadata"]["annotations"] = {}  # the status names it, signed or not
    paper.wait(seconds=29)
    paper.settle()
    assert len(paper.created) == 1, "it may still run"
    assert stranger["metadata"]["name"] in paper.pods
    del paper.pods[first["metadata"]["name"]]
    paper.settle()
    assert len(paper.created) == 2
    assert stranger["metadata"]["name"] in paper.pods


def test_a_signed_pod_that_no_status_names_is_waited_for_only_some_minutes() -> None:
    """It may be one of an operator that was stopped before it recorded it, or a copy that somebody makes again."""
    paper = without_secret("1m")
    first = paper.pod()
    paper.wait(minutes=1)
    paper.step()
    copied(paper, first)
    paper.wait(seconds=1)
    paper.step()
    assert len(paper.created) == 1
    copied(paper, first)
    paper.wait(minutes=5)
    paper.step()
    assert len(paper.created) == 2


@pytest.mark.parametrize(
    ("ends", "grace_s", "live_s"),
    [
        (rfc3339(START + timedelta(seconds=30)), 30, 90),
        (rfc3339(START + timedelta(days=365)), 365 * 86400, 3600 + 60),
        ("+292277026596-12-04T15:30:07Z", 2**63 - 1, 60),
        ("0001-01-01T00:00:00+14:00", 30, None),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_however_long_a_pod_may_take_to_end_it_counts_as_gone_an_hour_later(
    ends: str, grace_s: int, live_s: int | None, own: bool
) -> None:
    metadata = {"name": "a", "uid": "1", "creationTimestamp": rfc3339(START), "deletionTimestamp": ends}
    pod = {"metadata": {**metadata, "deletionGracePeriodSeconds": grace_s}, "status": {"phase": "Running"}}
    seen = observe(pod, START, own=own)
    if live_s is None:
        assert seen.is_live(START), "a time that cannot be read tells nothing"
        return
    assert seen.is_live(START + timedelta(seconds=live_s - 1))
    assert not seen.is_live(START + timedelta(seconds=live_s))

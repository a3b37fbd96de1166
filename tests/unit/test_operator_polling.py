"""Polling a branch: when it is polled, and what a move and a failure of the poll do."""

from __future__ import annotations

import json

import pytest
from imagebuilds.paper import Paper, result

from imagewright.errors import Reason
from imagewright_operator.api import REQUESTED_AT_ANNOTATION
from imagewright_operator.pods.manifests import poll_pod_name
from imagewright_operator.reconcile.actions import CreateError

GIT = {"git": {"url": "https://git.example.com/app.git", "ref": {"branch": "main"}, "poll": "10m"}}
SAME, OTHER = "c" * 40, "d" * 40  # the first is what Paper's builds are of


def built() -> Paper:
    paper = Paper(source=GIT)
    paper.settle()
    paper.starts()
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    return paper


def asks(paper: Paper) -> None:
    paper.wait(minutes=11)  # the interval, and its tenth
    paper.settle()
    assert paper.poll_pod()


def test_a_branch_is_polled_by_the_interval_and_not_at_once() -> None:
    paper = built()
    assert paper.requeue_after_s is not None
    assert 600 <= paper.requeue_after_s <= 660
    paper.wait(minutes=9)
    paper.settle()
    assert "poll" not in paper.status or "podName" not in paper.status["poll"]
    asks(paper)
    assert paper.kstatus() == "Current", "a look is not a build"
    assert paper.condition("Ready") == "True BuildSucceeded"


def test_an_unmoved_branch_is_not_built_and_its_poll_pod_is_deleted() -> None:
    paper = built()
    for _ in range(3):
        asks(paper)
        paper.answers(SAME)
        paper.settle()
        assert paper.status["poll"]["commit"] == SAME
        assert "podName" not in paper.status["poll"]
    assert len([name for name in paper.created if "probe" not in name]) == 1
    assert len([name for name in paper.created if "probe" in name]) == 3
    assert not [name for name in paper.pods if "probe" in name]


def test_a_moved_branch_is_built_once_with_an_event() -> None:
    paper = built()
    asks(paper)
    paper.answers(OTHER)
    paper.settle()
    assert paper.status["build"]["number"] == 2
    assert paper.status["build"]["polledCommit"] == OTHER
    assert paper.kstatus() == "InProgress"
    assert any(f"moved to {OTHER[:12]}" in text for text in paper.posted.values())
    paper.starts()
    paper.ends(result("sha256:" + "b" * 64).replace(SAME, OTHER))
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    asks(paper)
    paper.answers(OTHER)
    paper.settle()
    assert paper.status["build"]["number"] == 2


def test_a_failed_build_is_not_repeated_until_the_branch_moves() -> None:
    paper = Paper(source=GIT)
    paper.settle()
    paper.starts()
    paper.ends("", exit_code=1)  # it knows no commit
    paper.settle()
    asks(paper)
    paper.answers(SAME)
    paper.settle()
    assert paper.status["build"]["number"] == 2, "what it was of is not known: once more"
    paper.starts()
    paper.ends("", exit_code=1)
    paper.settle()
    for _ in range(3):
        asks(paper)
        paper.answers(SAME)
        paper.settle()
    assert paper.status["build"]["number"] == 2
    asks(paper)
    paper.answers(OTHER)
    paper.settle()
    assert paper.status["build"]["number"] == 3


def test_a_failed_poll_is_reported_and_changes_nothing_else() -> None:
    paper = built()
    asks(paper)
    paper.answers(reason="GitAuthFailed", message="it refuses the login", hint="Give another.")
    paper.settle()
    assert "it refuses the login" in paper.status["poll"]["message"]
    assert paper.kstatus() == "Current"
    asks(paper)
    paper.answers(SAME)
    paper.settle()
    assert "message" not in paper.status["poll"]


def test_a_failed_poll_does_not_trigger_a_build_of_an_earlier_commit() -> None:
    paper = built()
    asks(paper)
    paper.answers(OTHER)
    paper.settle()
    paper.starts()
    newer = "e" * 40  # it has moved again before it was fetched
    paper.ends(result("sha256:" + "b" * 64).replace(SAME, newer))
    paper.settle()
    asks(paper)
    paper.answers(reason="SourceUnreachable", message="the server has trouble", hint="Try again later.")
    paper.settle()
    assert paper.status["build"]["number"] == 2
    asks(paper)
    paper.answers(newer)
    paper.settle()
    assert paper.status["build"]["number"] == 2
    asks(paper)
    paper.answers(OTHER)
    paper.settle()
    assert paper.status["build"]["number"] == 3, "it was set back"


def test_the_commit_of_a_former_branch_triggers_no_build() -> None:
    paper = built()
    asks(paper)
    paper.answers(SAME)
    paper.settle()
    paper.edit(source={"git": {**GIT["git"], "ref": {"branch": "other"}}})
    paper.settle()
    paper.starts()
    paper.ends(result("sha256:" + "b" * 64).replace(SAME, OTHER))
    paper.settle()
    assert paper.status["build"]["number"] == 2
    asks(paper)
    paper.answers(reason="SourceUnreachable", message="the server has trouble", hint="Try again later.")
    paper.settle()
    assert paper.status["build"]["number"] == 2


def test_a_build_longer_than_the_interval_is_not_followed_by_a_poll_at_once() -> None:
    paper = Paper(source=GIT)
    paper.settle()
    paper.starts()
    paper.wait(minutes=30)
    paper.ends(result())
    paper.settle()
    assert "podName" not in paper.status.get("poll", {})


def test_a_rejected_poll_pod_is_reported_and_retried_after_the_interval() -> None:
    paper = built()
    paper.wait(minutes=11)
    paper.step(error=CreateError(Reason.QUOTA_EXCEEDED, "exceeded quota: pods", transient=True))
    assert paper.status["poll"]["message"] == "exceeded quota: pods"
    assert "podName" not in paper.status["poll"]
    assert paper.kstatus() == "Current"
    asks(paper)
    paper.answers(SAME)
    paper.settle()
    assert "message" not in paper.status["poll"]


def test_a_poll_pod_that_never_ends_is_abandoned() -> None:
    paper = built()
    asks(paper)
    paper.wait(minutes=6)
    paper.settle()
    assert "did not report a commit" in paper.status["poll"]["message"]
    assert not [name for name in paper.pods if "probe" in name]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_operator_killed_at_any_step_creates_one_poll_pod(cut: int) -> None:
    paper = built()
    paper.wait(minutes=11)
    paper.step(cut_after=cut)
    paper.settle()
    assert len([name for name in paper.created if "probe" in name]) == 1


@pytest.mark.parametrize(
    "edit",
    [
        {"suspend": True},
        {"source": {"git": {"url": "https://git.example.com/app.git", "ref": {"branch": "main"}}}},
    ],
    ids=["suspended", "no longer watched"],
)
def test_without_poll_nothing_is_polled(edit: dict[str, object]) -> None:
    paper = built()
    asks(paper)
    paper.edit(**edit)
    paper.settle()
    assert not [name for name in paper.pods if "probe" in name]
    assert "podName" not in paper.status.get("poll", {})
    before = json.dumps(paper.status)
    paper.wait(hours=2)
    paper.settle()
    assert json.dumps(paper.status) == before
    assert paper.status["build"]["number"] == 1, "the interval is not an input of a build"


def test_a_requested_build_ends_the_poll() -> None:
    paper = built()
    asks(paper)
    paper.annotations[REQUESTED_AT_ANNOTATION] = "now"
    paper.settle()
    assert paper.status["build"]["number"] == 2
    assert not [name for name in paper.pods if "probe" in name]
    assert "podName" not in paper.status["poll"]


def test_polls_of_many_imagebuilds_are_spread() -> None:
    papers = []
    for number in range(50):
        paper = Paper(source=GIT)
        paper.uid = f"uid-{number}"
        paper.settle()
        paper.starts()
        paper.ends(result())
        paper.settle()
        papers.append(paper)
    times = sorted(paper.requeue_after_s or 0 for paper in papers)
    assert times[-1] - times[0] > 30
    assert len(set(times)) > 30


def test_no_two_polls_have_the_same_name() -> None:
    """An answer that was copied counts for no later poll: names are told apart by more than anybody can wait for."""
    names = [poll_pod_name("app", "uid-1", number) for number in range(20_000)]
    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {len("app-") + 16 + len("-probe")}

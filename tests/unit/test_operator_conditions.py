"""The table of conditions: an independent one appears, keeps its time and changes no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from imagebuilds.paper import Paper, result, rfc3339

from imagewright_operator.api import Status
from imagewright_operator.reconcile import validation
from imagewright_operator.schema.crd import definition
from imagewright_operator.status.conditions import CONDITIONS, ConditionType, ConditionValue, State


def published(_: State, status: Status) -> ConditionValue | None:
    """Independent of the build's state: absent without an image, and about the last good one."""
    if status.image is None:
        return None
    first = status.image.digest.startswith("sha256:a")
    return ConditionValue("True" if first else "False", f"Size{status.image.size}", status.image.reference)


PUBLISHED = ConditionType("Published", "whether the image is published", published)


def condition(paper: Paper, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next((one for one in paper.status["conditions"] if one["type"] == kind), {})
    return found


def succeeds(paper: Paper, digest: str) -> None:
    paper.settle()
    paper.wait(seconds=5)
    paper.starts()
    paper.settle()
    paper.wait(seconds=5)
    paper.ends(result("sha256:" + digest * 64))
    paper.settle()


def fails(paper: Paper) -> None:
    paper.settle()
    paper.starts()
    paper.settle()
    paper.wait(seconds=5)
    paper.ends(exit_code=1)
    paper.settle()


def suspended(paper: Paper) -> None:
    paper.edit(suspend=True, target=f"stage-{paper.generation}")
    paper.settle()
    paper.edit(suspend=False)


def invalid(paper: Paper) -> None:
    paper.edit(output={"tags": ["No Image"]})
    paper.settle()
    paper.edit(output={"tags": ["reg.example.com/app:1"]})


LIFE: tuple[Callable[[Paper], None], ...] = (
    lambda paper: succeeds(paper, "a"),
    lambda paper: paper.edit(target="other"),
    fails,
    suspended,
    invalid,
    lambda paper: succeeds(paper, "b"),
)


def test_an_independent_condition_keeps_its_time_and_changes_no_other() -> None:
    plain, extended = Paper(), Paper()
    extended.conditions = (*CONDITIONS, PUBLISHED)
    times = []
    for change in LIFE:
        for paper in (plain, extended):
            change(paper)
            paper.wait(minutes=1)
        others = [one for one in extended.status["conditions"] if one["type"] != "Published"]
        assert {**extended.status, "conditions": others} == plain.status
        assert extended.versions == plain.versions, "kstatus reads the same in every version"
        times.append(
            (condition(extended, "Published")["lastTransitionTime"], condition(extended, "Published")["status"])
        )
    assert [status for _, status in times] == ["True"] * 5 + ["False"]
    assert len(set(times[:5])) == 1, "its status did not change"
    assert times[5][0] > times[0][0]
    assert condition(extended, "Published")["observedGeneration"] == extended.generation
    assert condition(extended, "Published")["reason"] == "Size10"
    assert condition(extended, "Ready")["lastTransitionTime"] > times[0][0]


def test_a_condition_is_absent_while_its_rule_returns_none() -> None:
    paper = Paper()
    paper.conditions = (PUBLISHED, *CONDITIONS)
    paper.settle()
    assert condition(paper, "Published") == {}
    assert paper.kstatus() == "InProgress"
    succeeds(paper, "a")
    assert condition(paper, "Published")["lastTransitionTime"] == rfc3339(paper.now)


def test_a_new_reason_is_not_a_transition() -> None:
    reasons = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    paper = Paper()
    paper.conditions = (ConditionType("Counted", "x", lambda *_: ConditionValue("Unknown", next(reasons))), *CONDITIONS)
    paper.step(cut_after=3)
    first = condition(paper, "Counted")
    paper.wait(minutes=1)
    paper.step()
    second = condition(paper, "Counted")
    assert (first["reason"], second["reason"]) == ("A", "B")
    assert first["lastTransitionTime"] == second["lastTransitionTime"]


def test_the_crd_allows_the_condition_types_of_the_table() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    allowed = schema["properties"]["status"]["properties"]["conditions"]["items"]["properties"]["type"]["enum"]
    assert allowed == ["Ready", "Reconciling", "Stalled"]


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_an_unknown_condition_type_does_not_make_an_object_unreadable(phase: str) -> None:
    newer = {"type": "Signed", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z", "reason": "Signed"}
    paper = Paper()
    body = {"metadata": {"name": "app"}, "spec": paper.spec, "status": {"phase": phase, "conditions": [newer]}}
    imagebuild, problem = validation.read(body)
    assert (imagebuild.status.phase, problem) == (phase, "")

"""The judge of status versions finds what is wrong: otherwise what it finds right means nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from imagebuilds.recorder import problems

Json = dict[str, Any]


def version(number: int, phase: str, conditions: dict[str, str], reason: str, **status: Any) -> Json:
    told = [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": "words",
            "observedGeneration": 1,
            "lastTransitionTime": f"2026-11-27T08:00:0{number}Z",
        }
        for kind, value in conditions.items()
    ]
    metadata = {"name": "app", "namespace": "n", "resourceVersion": str(number), "generation": 1}
    return {"metadata": metadata, "status": {"observedGeneration": 1, "phase": phase, "conditions": told, **status}}


def good() -> list[Json]:
    progress = {"Ready": "Unknown", "Reconciling": "True"}
    running = {"number": 1, "podNames": ["app-1"], "startTime": "2026-11-27T08:00:02Z"}
    queued = version(1, "Queued", progress, "BuildQueued", build={"number": 1})
    runs = version(2, "Running", progress, "BuildRunning", build=running)
    for one, old in zip(runs["status"]["conditions"], queued["status"]["conditions"], strict=True):
        one["lastTransitionTime"] = old["lastTransitionTime"]
    history = [{"number": 1, "outcome": "Succeeded", "digest": "sha256:a"}]
    end = {"build": {**running, "outcome": "Succeeded"}, "image": {"digest": "sha256:a"}, "history": history}
    return [queued, runs, version(3, "Succeeded", {"Ready": "True"}, "BuildSucceeded", **end)]


def test_a_good_life_has_no_problems() -> None:
    assert problems(good()) == []


def without(*path: str | int) -> Callable[[Json], None]:
    def change(status: Json) -> None:
        place: Any = status
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def with_(value: Any, *path: str | int) -> Callable[[Json], None]:
    def change(status: Json) -> None:
        place: Any = status
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (0, without("conditions"), "no conditions, though"),
        (1, without("conditions", 1), "no row of the table"),
        (1, with_("Succeeded", "phase"), "phase is not one of"),
        (1, with_("other", "conditions", 1, "reason"), "different reasons"),
        (1, with_(0, "conditions", 1, "observedGeneration"), "another generation than the status"),
        (1, with_(2, "observedGeneration"), "of no generation that was"),
        (1, with_("2026-11-27T08:00:02Z", "conditions", 0, "lastTransitionTime"), "moves without its status"),
        (1, without("build", "podNames"), "running without a Pod"),
        (2, with_("2026-11-27T08:00:00Z", "conditions", 0, "lastTransitionTime"), "goes back"),
        (2, without("image"), "done without an image"),
        (2, without("history"), "without a build that succeeded"),
        (2, with_(0, "build", "number"), "back to an earlier build"),
    ],
)
def test_each_thing_that_is_wrong_is_found(number: int, change: Callable[[Json], None], said: str) -> None:
    versions = copy.deepcopy(good())
    change(versions[number]["status"])
    assert [problem for problem in problems(versions) if said in problem]

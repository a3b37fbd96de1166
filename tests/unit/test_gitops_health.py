"""What Argo CD and Flux make of an ImageBuild: Lua and CEL, by real interpreters, against kstatus's rules.

Every state comes from ``reconcile`` itself, played on paper.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from imagebuilds.gitops import argocd, disagreements
from imagebuilds.paper import Paper, result

from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import Reason
from imagewright_operator.reconcile.actions import CreateError
from imagewright_operator.schema import crd

Json = dict[str, Any]


def body(paper: Paper) -> Json:
    return {"metadata": {"name": "app", "generation": paper.generation}, "spec": paper.spec, "status": paper.status}


def not_seen() -> Paper:
    paper = Paper()
    schema = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert paper.status == schema["properties"]["status"]["default"]
    return paper


def pending() -> Paper:
    paper = Paper()
    paper.settle()
    return paper


def running() -> Paper:
    paper = pending()
    paper.starts()
    paper.settle()
    return paper


def succeeded() -> Paper:
    paper = running()
    paper.ends(result())
    paper.settle()
    return paper


def failed() -> Paper:
    paper = running()
    failure = Failure(reason="StepFailed", message="RUN make ended with 2", hint="See above.")
    paper.ends(BuildResult(failure=failure).to_json(), exit_code=7)
    paper.settle()
    return paper


def edited(paper: Paper) -> Paper:
    paper.edit(buildArgs=[{"name": "A", "value": "1"}])
    return paper


def settled(paper: Paper) -> Paper:
    paper.settle()
    return paper


def refused(transient: bool) -> Paper:
    paper = Paper()
    reason = Reason.QUOTA_EXCEEDED if transient else Reason.POD_REJECTED
    paper.step(error=CreateError(reason, "says the API server", transient=transient))
    return paper


def waiting_for_a_secret() -> Paper:
    paper = pending()
    words = 'MountVolume.SetUp failed for volume "imagewright-docker-config" : secret "regcred" not found'
    paper.events = [{"reason": "FailedMount", "message": words, "lastTimestamp": "2026-11-25T12:00:01Z"}]
    return settled(paper)


def retried() -> Paper:
    paper = running()
    paper.ends("", exit_code=137, conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "Evicted"}])
    return settled(paper)


def cancelled() -> Paper:
    paper = running()
    paper.edit(cancelled=True)
    return settled(paper)


STATES: dict[str, tuple[Callable[[], Paper], str]] = {
    "not seen by the operator": (not_seen, "Progressing"),
    "pending": (pending, "Progressing"),
    "running": (running, "Progressing"),
    "queued by a quota": (lambda: refused(transient=True), "Progressing"),
    "waiting for a secret": (waiting_for_a_secret, "Progressing"),
    "tried again": (retried, "Progressing"),
    "succeeded": (succeeded, "Healthy"),
    "succeeded, then edited": (lambda: edited(succeeded()), "Progressing"),
    "rebuilding": (lambda: settled(edited(succeeded())), "Progressing"),
    "failed": (failed, "Degraded"),
    "failed, then edited": (lambda: edited(failed()), "Progressing"),
    "building again after a failure": (lambda: settled(edited(failed())), "Progressing"),
    "rejected": (lambda: refused(transient=False), "Degraded"),
    "cancelled": (cancelled, "Degraded"),
    "suspended": (lambda: settled(Paper(suspend=True)), "Suspended"),
    "invalid": (lambda: settled(Paper(cache={"repository": "reg.example.com/cache:1"})), "Degraded"),
}


@pytest.mark.parametrize("state", STATES)
def test_argo_cd_and_flux_agree_with_kstatus(state: str) -> None:
    make, expected = STATES[state]
    shown = body(make())
    assert list(disagreements(shown)) == []
    assert argocd(shown)[0] == expected


def test_argo_cd_flux_and_kstatus_agree_on_every_combination_of_conditions() -> None:
    for ready, reconciling, stalled, seen in product(
        ("True", "False", "Unknown"), ("", "True", "False"), ("", "True", "False"), (-1, 2, 3)
    ):
        values = {"Ready": ready, "Reconciling": reconciling, "Stalled": stalled}
        conditions = [{"type": kind, "status": value, "reason": "R"} for kind, value in values.items() if value]
        shown = {"metadata": {"generation": 3}, "status": {"observedGeneration": seen, "conditions": conditions}}
        assert list(disagreements(shown)) == [], shown


def test_argo_cd_shows_the_image_of_a_success_and_the_reason_of_a_failure() -> None:
    assert argocd(body(succeeded()))[1] == "reg.example.com/app:1@sha256:" + "a" * 64
    assert argocd(body(failed()))[1] == "StepFailed: RUN make ended with 2. See above."
    assert argocd({"metadata": {"generation": 1}})[0] == "Progressing", "without any status, too"

"""When the reconciler requeues for a waiting Pod: a thousand unschedulable ones must not be polled."""

from __future__ import annotations

from typing import Any

import pytest
from imagebuilds.paper import Paper

NO_NODE = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}],
}
NO_IMAGE = {
    "phase": "Pending",
    "containerStatuses": [{"name": "executor", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}],
}


@pytest.mark.parametrize(("status", "least_s", "most_s"), [(NO_NODE, 300, 600), (NO_IMAGE, 300, 600), ({}, 1, 10)])
def test_only_reasons_that_the_pod_status_does_not_report_are_polled(
    status: dict[str, Any], least_s: float, most_s: float
) -> None:
    paper = Paper()
    paper.settle()
    paper.pod()["status"] = status
    paper.settle()
    assert paper.requeue_after_s is not None
    assert least_s <= paper.requeue_after_s <= most_s

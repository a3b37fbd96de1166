"""A real kubelet restarts a container whose image is changed, whatever the Pod's restart policy: its result is void."""

from __future__ import annotations

import json
from typing import Any

import pytest
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_a_pod_whose_image_was_changed_and_changed_back_is_not_believed(builds: Namespace, operator: Operator) -> None:
    builds.apply(source={"inline": {"dockerfile": "FROM busybox\nRUN sleep 300\n"}})
    builds.becomes("Unknown BuildRunning", patience_s=90)
    operator.freeze()
    name = builds.pods()[0]["metadata"]["name"]

    def status() -> dict[str, Any]:
        statuses = builds.get("pod", name)["status"]["containerStatuses"]
        return next(one for one in statuses if one["name"] == "executor")

    def change(image: str) -> str:
        containers = builds.get("pod", name)["spec"]["containers"]
        index = [one["name"] for one in containers].index("executor")
        patch = [{"op": "replace", "path": f"/spec/containers/{index}/image", "value": image}]
        builds.kubectl("patch", "pod", name, "--type=json", f"--patch={json.dumps(patch)}")
        return str(containers[index]["image"])

    before = change(str(status()["imageID"]))  # the same by another name: it is about who may choose it
    eventually(lambda: status()["restartCount"] > 0, "the kubelet to restart it")
    change(before)
    operator.thaw()
    found = builds.becomes("False PodUntrusted")
    assert "a container was restarted" in found["build"]["failure"]["message"]
    assert "image" not in found
    eventually(
        lambda: not builds.pods(),
        "its Pod to go",
    )

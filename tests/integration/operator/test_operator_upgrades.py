"""Objects of earlier versions under today's CRD, on a real API server, taken over by today's operator."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

RELEASED = sorted((Path(__file__).parents[2] / "released").glob("*.json"))


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_stored_imagebuilds_stay_valid_complete_and_built(
    file: Path, namespace: Namespace, operators: Callable[..., Operator]
) -> None:
    stored = json.loads(file.read_text())
    for each in stored:
        body = {key: value for key, value in each.items() if key != "status"}
        namespace.kubectl("create", "--validate=strict", "--filename=-", given=body)
        name = each["metadata"]["name"]
        patch = json.dumps({"status": each["status"]})
        namespace.kubectl("patch", "imagebuild", name, "--subresource=status", "--type=merge", f"--patch={patch}")
    before = {one["metadata"]["name"]: one for one in namespace.get("imagebuilds")["items"]}
    for each in stored:
        there = before[each["metadata"]["name"]]
        assert there["status"] == each["status"], "nothing was pruned"
        assert contains(there["spec"], each["spec"])
    # A branch that is watched would be looked at again, whose last look is long ago.
    namespace.kubectl("patch", "imagebuild", "everything", "--type=merge", '--patch={"spec":{"suspend":true}}')
    before["everything"] = namespace.get("imagebuild", "everything")
    operator = operators(RESYNC_SECONDS="1")

    def ready() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/readyz").status == 200)
        except (urllib.error.URLError, OSError):
            return False

    eventually(ready, "the operator to have looked at all")
    namespace.apply("new")
    namespace.pod("new")
    after = {one["metadata"]["name"]: one for one in namespace.get("imagebuilds")["items"]}
    for name, one in before.items():
        assert after[name]["status"].get("build") == one["status"].get("build"), name
    assert len(namespace.get("pods")["items"]) == 1


def contains(whole: object, part: object) -> bool:
    """Whether ``whole`` is ``part`` and what the definition has filled in."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and contains(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part

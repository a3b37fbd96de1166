"""Statuses of earlier versions keep their meaning: an upgrade starts no build and posts no Event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagewright_operator.api import ImageBuild
from imagewright_operator.reconcile.actions import ReconcileInput
from imagewright_operator.reconcile.reconciler import reconcile
from imagewright_operator.settings import Settings
from imagewright_operator.status.records import status_json

RELEASED = sorted((Path(__file__).parents[1] / "released").glob("*.json"))
OBJECTS = [(file.stem, stored) for file in RELEASED for stored in json.loads(file.read_text())]
LATER = datetime(2026, 11, 25, 12, 5, tzinfo=UTC)  # than the times in them, and before a watched branch is due


def test_there_are_statuses_to_upgrade_from() -> None:
    assert RELEASED


@pytest.mark.parametrize(
    ("version", "stored"), OBJECTS, ids=[f"{version}-{stored['metadata']['name']}" for version, stored in OBJECTS]
)
def test_a_stored_status_is_left_unchanged(version: str, stored: dict[str, Any]) -> None:
    metadata = {**stored["metadata"], "namespace": "ns", "uid": "uid-1", "generation": 1}
    imagebuild = ImageBuild.parse({**stored, "metadata": metadata})
    known = status_json(imagebuild.status)
    if "image" in known:
        assert known["image"].pop("shortDigest") == "sha256:" + "a" * 12, "derived: it only adds a column"
    assert known == stored["status"], "nothing of it is unknown today"
    decision = reconcile(ReconcileInput(imagebuild, (), LATER), Settings())
    assert decision.is_idle(imagebuild.status)
    assert not decision.events

"""kstatus's rules, and the objects that ``kubectl get --watch`` writes one after another. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def kstatus(body: Mapping[str, Any]) -> str:
    """What Flux and Argo CD make of an object: the generic rules of cli-utils' kstatus."""
    status = body.get("status", {})
    if status.get("observedGeneration", body["metadata"]["generation"]) != body["metadata"]["generation"]:
        return "InProgress"
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def documents(text: str) -> Iterator[Any]:
    """One JSON document after another."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        document, position = decoder.raw_decode(text, position)
        yield document

"""The store of ImageBuilds: the latest state counts, whether it is from a list or a pass."""

from __future__ import annotations

from typing import Any

from imagebuilds.clock import Clock

from imagewright_operator.reconcile.limiter import ObjectKey
from imagewright_operator.watch.store import ObjectStore, StoredObject

KEY = ObjectKey("team", "app")


def body(version: int, phase: str = "", uid: str = "u") -> dict[str, Any]:
    status = {"phase": phase} if phase else {}
    return {
        "metadata": {"namespace": "team", "name": "app", "uid": uid, "resourceVersion": str(version)},
        "status": status,
    }


def test_an_older_list_does_not_overwrite_newer_state() -> None:
    clock = Clock()
    store = ObjectStore(clock)
    clock.now = 5.0
    store.update(body(2, "Running"))
    store.update(body(1), at=4.0)
    assert store.phases() == {"Running": 1}
    assert store.by_uid() == {"u": StoredObject(KEY, "Running")}
    store.update(body(3, "Succeeded"), at=6.0)
    assert store.phases() == {"Succeeded": 1}
    clock.now = 7.0
    store.delete(KEY)
    store.update(body(3, "Succeeded"), at=6.0)
    assert store.phases() == {}
    store.update(body(4, uid="another"), at=8.0)
    assert store.phases() == {"New": 1}


def test_objects_missing_from_a_list_are_dropped_unless_they_are_newer() -> None:
    clock = Clock()
    store = ObjectStore(clock)
    store.update(body(1, "Succeeded"))
    clock.now = 5.0
    store.retain([KEY], 5.0)
    assert store.phases() == {"Succeeded": 1}
    store.retain([], 0.0)
    assert store.phases() == {"Succeeded": 1}, "it came when the list was begun"
    store.retain([], 5.0)
    assert store.phases() == {}


def test_an_idle_object_stays_idle_until_it_changes() -> None:
    store = ObjectStore(Clock())
    store.mark_idle(body(1))
    assert not store.is_idle(body(1)), "never seen"
    store.update(body(1, "Succeeded"))
    store.mark_idle(body(1))
    assert store.is_idle(body(1))
    store.update(body(1, "Succeeded"))
    assert store.is_idle(body(1))
    assert not store.is_idle(body(2))
    assert not store.is_idle(body(1, uid="another"))
    store.update(body(2, "Succeeded"))
    assert not store.is_idle(body(1))
    store.mark_idle(body(1))
    assert not store.is_idle(body(1)), "that version is no more"

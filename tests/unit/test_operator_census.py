"""What the operator knows of every ImageBuild: the latest holds, whether a list or a pass has told of it."""

from __future__ import annotations

from typing import Any

from imagebuilds.clock import Clock

from imagewright_operator.reconcile.limiter import Key
from imagewright_operator.watch.store import Census, Known

KEY = Key("team", "app")


def body(version: int, phase: str = "", uid: str = "u") -> dict[str, Any]:
    status = {"phase": phase} if phase else {}
    return {
        "metadata": {"namespace": "team", "name": "app", "uid": uid, "resourceVersion": str(version)},
        "status": status,
    }


def test_a_list_that_was_begun_earlier_undoes_nothing() -> None:
    clock = Clock()
    census = Census(clock)
    clock.now = 5.0
    census.see(body(2, "Running"))
    census.see(body(1), at=4.0)
    assert census.phases() == {"Running": 1}
    assert census.known() == {"u": Known(KEY, "Running")}
    census.see(body(3, "Succeeded"), at=6.0)
    assert census.phases() == {"Succeeded": 1}
    clock.now = 7.0
    census.gone(KEY)
    census.see(body(3, "Succeeded"), at=6.0)
    assert census.phases() == {}
    census.see(body(4, uid="another"), at=8.0)
    assert census.phases() == {"New": 1}


def test_what_a_list_does_not_have_is_gone_unless_it_came_later() -> None:
    clock = Clock()
    census = Census(clock)
    census.see(body(1, "Succeeded"))
    clock.now = 5.0
    census.keep([KEY], 5.0)
    assert census.phases() == {"Succeeded": 1}
    census.keep([], 0.0)
    assert census.phases() == {"Succeeded": 1}, "it came when the list was begun"
    census.keep([], 5.0)
    assert census.phases() == {}


def test_what_has_nothing_to_do_has_it_until_it_changes() -> None:
    census = Census(Clock())
    census.settle(body(1))
    assert not census.is_settled(body(1)), "never seen"
    census.see(body(1, "Succeeded"))
    census.settle(body(1))
    assert census.is_settled(body(1))
    census.see(body(1, "Succeeded"))
    assert census.is_settled(body(1))
    assert not census.is_settled(body(2))
    assert not census.is_settled(body(1, uid="made anew"))
    census.see(body(2, "Succeeded"))
    assert not census.is_settled(body(1))
    census.settle(body(1))
    assert not census.is_settled(body(1)), "that version is no more"

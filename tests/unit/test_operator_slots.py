"""Who may build: limits that are never exceeded, nobody forgotten, and an order that is fair between namespaces."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from imagebuilds.clock import Clock

from imagewright_operator.reconcile.limiter import Claim, Key, PodKey, Slots
from imagewright_operator.settings import Limits


def claim(namespace: str, name: str, since: int = 0) -> Claim:
    return Claim(Key(namespace, name), PodKey(namespace, f"{name}-pod"), f"2026-11-27T08:00:{since:02}Z")


def counted(total: int = 0, per_namespace: int = 0) -> Slots:
    slots = Slots(Limits(total, per_namespace), Clock())
    slots.recount((), -1.0, ())
    return slots


def test_without_limits_everything_may_start_at_once() -> None:
    slots = Slots(Limits())
    assert [slots.take(claim("a", str(number))) for number in range(100)] == [""] * 100


def test_nothing_starts_before_what_runs_was_counted() -> None:
    slots = Slots(Limits(total=2))
    assert "just started" in slots.take(claim("a", "one"))
    # A Pod of before, and one that is claimed but was not yet looked at.
    assert slots.recount([PodKey("b", "old")], float("inf"), [claim("a", "one"), claim("a", "two", 1)]) == [
        ("a", "one")
    ]


def test_a_slot_is_free_again_when_its_pod_has_ended() -> None:
    slots = counted(total=1)
    assert slots.take(claim("a", "one")) == ""
    assert slots.take(claim("a", "one")) == "", "asked again for the same Pod"
    assert slots.take(claim("a", "two")) == "waits its turn: one build may run at once"
    assert slots.release(PodKey("a", "one-pod")) == [("a", "two")]
    assert slots.take(claim("a", "two")) == ""
    assert slots.release(PodKey("a", "one-pod")) == [], "an event that comes twice frees nothing"


def test_who_no_longer_waits_lets_the_next_one_go() -> None:
    slots = counted(total=1)
    slots.take(claim("a", "one"))
    assert slots.take(claim("a", "two", 1))
    assert slots.take(claim("a", "three", 2))
    assert slots.leave(Key("a", "two")) == []
    assert slots.release(PodKey("a", "one-pod")) == [("a", "three")]
    assert slots.leave(Key("a", "two")) == [], "it did not wait"


def test_a_limit_of_a_namespace_is_its_own() -> None:
    slots = counted(per_namespace=1)
    assert slots.take(claim("a", "one")) == ""
    assert slots.take(claim("a", "two")) == "waits its turn: one build may run at once in a namespace"
    assert slots.take(claim("b", "one")) == ""


def test_the_namespace_with_fewer_builds_goes_first_then_the_oldest() -> None:
    slots = counted(total=3)
    for name in ("one", "two", "three"):
        assert slots.take(claim("many", name)) == ""
    for number, (namespace, name) in enumerate([("many", "four"), ("few", "one"), ("other", "one"), ("few", "two")]):
        assert slots.take(claim(namespace, name, number))
    assert slots.release(PodKey("many", "one-pod")) == [("few", "one")]
    assert slots.take(claim("many", "four")), "it is not its turn"
    assert slots.take(claim("few", "one", 1)) == ""
    assert slots.release(PodKey("many", "two-pod")) == [("other", "one")]


def test_what_happened_after_a_list_was_begun_is_not_lost_by_it() -> None:
    clock = Clock()
    slots = Slots(Limits(total=2), clock)
    slots.recount((), 0.0, ())
    slots.take(claim("a", "gone"))
    clock.now = 10.0
    began = clock()
    slots.take(claim("a", "new"))
    slots.take(claim("a", "waits", 5))
    assert slots.recount((), began, ()) == [("a", "waits")], "the one whose Pod no list has is gone"
    assert slots.take(claim("a", "waits", 5)) == ""
    assert slots.take(claim("a", "more", 6))


def test_a_slot_of_which_no_pod_came_is_the_next_ones_and_its_build_waits_a_moment() -> None:
    """An admission webhook that is broken in one namespace must not keep all others from building."""
    clock = Clock()
    slots = Slots(Limits(total=1), clock)
    slots.recount((), -1.0, ())
    first = claim("broken", "one", 1)
    assert slots.take(first) == ""
    assert slots.take(claim("fine", "one", 2))
    assert slots.give_back(first, 5.0) == [("fine", "one")]
    slots.give_back(first)  # its status met a 409: the pause stays
    assert slots.take(first) == "waits its turn: others are before it"
    assert slots.take(claim("fine", "one", 2)) == ""
    clock.now = 6.0
    assert slots.release(PodKey("fine", "one-pod")) == [("broken", "one")]


def test_a_claim_that_lost_a_race_keeps_no_slot() -> None:
    """The spec was edited while its Pod was about to be created: the build of the new one has another Pod."""
    slots = counted(total=1)
    old = claim("a", "app")
    assert slots.take(old) == ""
    slots.give_back(old)
    assert slots.take(Claim(old.key, PodKey("a", "another-pod"), old.since)) == ""


def test_a_namespace_whose_quota_is_full_takes_nobodys_turn() -> None:
    clock = Clock()
    slots = Slots(Limits(total=1), clock)
    full = [claim("full", str(number), number) for number in range(5)]
    slots.recount((), -1.0, [*full, claim("other", "one", 50)])
    assert slots.take(full[0]) == ""
    assert slots.give_back(full[0], 15.0, namespace=True) == [("other", "one")]
    assert slots.take(full[1]), "the quota is the namespace's"
    assert slots.take(claim("other", "one", 50)) == ""
    clock.now = 20.0
    slots.release(PodKey("other", "one-pod"))
    assert slots.ready() == [("full", "0")] or slots.ready() == [("full", "1")]


def test_what_has_ended_while_a_list_was_read_is_not_counted_again() -> None:
    clock = Clock()
    slots = Slots(Limits(total=1), clock)
    slots.recount((), -1.0, ())
    slots.take(claim("a", "one"))
    slots.take(claim("a", "gone", 1))
    slots.take(claim("a", "two", 2))
    clock.now = 10.0
    began = clock()
    listed = [PodKey("a", "one-pod")]
    clock.now = 11.0
    slots.release(PodKey("a", "one-pod"))
    slots.leave(Key("a", "gone"))
    assert slots.recount(listed, began, [claim("a", "gone", 1), claim("a", "two", 2)]) == [("a", "two")]


@given(
    st.integers(0, 4),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=60),
)
def test_limits_hold_and_nobody_who_could_start_is_left_waiting(
    total: int, per_namespace: int, steps: list[tuple[str, int, bool]]
) -> None:
    slots = counted(total, per_namespace)
    running: set[PodKey] = set()
    waiting: dict[Key, Claim] = {}

    def ask(one: Claim) -> None:
        if slots.take(one):
            waiting[one.key] = one
        else:
            waiting.pop(one.key, None)
            running.add(one.pod)

    for number, (namespace, name, ends) in enumerate(steps):
        one = claim(namespace, str(name), number % 60)
        if ends:
            running.discard(one.pod)
            for key in slots.release(one.pod):
                ask(waiting[key])
        elif one.pod not in running:
            ask(waiting.get(one.key, one))
        count = Counter(pod.namespace for pod in running)
        assert not total or len(running) <= total
        assert not per_namespace or all(each <= per_namespace for each in count.values())
        if not total or len(running) < total:
            assert all(per_namespace and count[key.namespace] >= per_namespace for key in waiting)

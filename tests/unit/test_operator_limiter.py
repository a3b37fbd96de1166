"""The concurrency limiter: limits are kept, no build is forgotten, and the order is fair between namespaces."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from imagebuilds.clock import Clock

from imagewright_operator.reconcile.limiter import ConcurrencyLimiter, ObjectKey, PodKey, QueuedBuild
from imagewright_operator.settings import Limits


def queued(namespace: str, name: str, since: int = 0) -> QueuedBuild:
    return QueuedBuild(ObjectKey(namespace, name), PodKey(namespace, f"{name}-pod"), f"2026-11-27T08:00:{since:02}Z")


def limited(total: int = 0, per_namespace: int = 0) -> ConcurrencyLimiter:
    limiter = ConcurrencyLimiter(Limits(total, per_namespace), Clock())
    limiter.resync((), -1.0, ())
    return limiter


def test_without_limits_every_build_is_admitted() -> None:
    limiter = ConcurrencyLimiter(Limits())
    assert [limiter.acquire(queued("a", str(number))) for number in range(100)] == [""] * 100


def test_no_build_is_admitted_before_running_builds_are_counted() -> None:
    limiter = ConcurrencyLimiter(Limits(total=2))
    assert "just started" in limiter.acquire(queued("a", "one"))
    # A Pod of before, and one that is claimed but was not yet looked at.
    assert limiter.resync([PodKey("b", "old")], float("inf"), [queued("a", "one"), queued("a", "two", 1)]) == [
        ("a", "one")
    ]


def test_the_next_build_starts_when_a_pod_has_ended() -> None:
    limiter = limited(total=1)
    assert limiter.acquire(queued("a", "one")) == ""
    assert limiter.acquire(queued("a", "one")) == "", "asked again for the same Pod"
    assert limiter.acquire(queued("a", "two")) == "queued: the limit of one running build is reached"
    assert limiter.release(PodKey("a", "one-pod")) == [("a", "two")]
    assert limiter.acquire(queued("a", "two")) == ""
    assert limiter.release(PodKey("a", "one-pod")) == [], "an event that comes twice frees nothing"


def test_a_withdrawn_build_does_not_hold_back_the_next() -> None:
    limiter = limited(total=1)
    limiter.acquire(queued("a", "one"))
    assert limiter.acquire(queued("a", "two", 1))
    assert limiter.acquire(queued("a", "three", 2))
    assert limiter.withdraw(ObjectKey("a", "two")) == []
    assert limiter.release(PodKey("a", "one-pod")) == [("a", "three")]
    assert limiter.withdraw(ObjectKey("a", "two")) == [], "it did not wait"


def test_a_namespace_limit_does_not_affect_other_namespaces() -> None:
    limiter = limited(per_namespace=1)
    assert limiter.acquire(queued("a", "one")) == ""
    assert limiter.acquire(queued("a", "two")) == "queued: the limit of one running build for a namespace is reached"
    assert limiter.acquire(queued("b", "one")) == ""


def test_the_namespace_with_fewer_builds_goes_first_then_the_oldest_build() -> None:
    limiter = limited(total=3)
    for name in ("one", "two", "three"):
        assert limiter.acquire(queued("many", name)) == ""
    for number, (namespace, name) in enumerate([("many", "four"), ("few", "one"), ("other", "one"), ("few", "two")]):
        assert limiter.acquire(queued(namespace, name, number))
    assert limiter.release(PodKey("many", "one-pod")) == [("few", "one")]
    assert limiter.acquire(queued("many", "four")), "it is not its turn"
    assert limiter.acquire(queued("few", "one", 1)) == ""
    assert limiter.release(PodKey("many", "two-pod")) == [("other", "one")]


def test_changes_after_a_list_was_begun_are_kept() -> None:
    clock = Clock()
    limiter = ConcurrencyLimiter(Limits(total=2), clock)
    limiter.resync((), 0.0, ())
    limiter.acquire(queued("a", "gone"))
    clock.now = 10.0
    began = clock()
    limiter.acquire(queued("a", "new"))
    limiter.acquire(queued("a", "waits", 5))
    assert limiter.resync((), began, ()) == [("a", "waits")], "the one whose Pod no list has is gone"
    assert limiter.acquire(queued("a", "waits", 5)) == ""
    assert limiter.acquire(queued("a", "more", 6)) == "queued: the limit of 2 running builds is reached"


def test_a_build_whose_pod_was_not_created_backs_off_and_the_next_one_starts() -> None:
    """An admission webhook that is broken in one namespace must not keep all others from building."""
    clock = Clock()
    limiter = ConcurrencyLimiter(Limits(total=1), clock)
    limiter.resync((), -1.0, ())
    first = queued("broken", "one", 1)
    assert limiter.acquire(first) == ""
    assert limiter.acquire(queued("fine", "one", 2))
    assert limiter.back_off(first, 5.0) == [("fine", "one")]
    limiter.back_off(first)  # its status met a 409: the pause stays
    assert limiter.acquire(first) == "queued behind other builds"
    assert limiter.acquire(queued("fine", "one", 2)) == ""
    clock.now = 6.0
    assert limiter.release(PodKey("fine", "one-pod")) == [("broken", "one")]


def test_a_replaced_build_does_not_count_as_running() -> None:
    """The spec was edited while its Pod was about to be created: the build of the new one has another Pod."""
    limiter = limited(total=1)
    old = queued("a", "app")
    assert limiter.acquire(old) == ""
    limiter.back_off(old)
    assert limiter.acquire(QueuedBuild(old.key, PodKey("a", "another-pod"), old.since)) == ""


def test_a_namespace_without_quota_backs_off_as_a_whole() -> None:
    clock = Clock()
    limiter = ConcurrencyLimiter(Limits(total=1), clock)
    full = [queued("full", str(number), number) for number in range(5)]
    limiter.resync((), -1.0, [*full, queued("other", "one", 50)])
    assert limiter.acquire(full[0]) == ""
    assert limiter.back_off(full[0], 15.0, namespace=True) == [("other", "one")]
    assert limiter.acquire(full[1]), "the quota is the namespace's"
    assert limiter.acquire(queued("other", "one", 50)) == ""
    clock.now = 20.0
    limiter.release(PodKey("other", "one-pod"))
    assert limiter.startable() == [("full", "0")] or limiter.startable() == [("full", "1")]


def test_a_pod_that_ends_while_a_list_is_read_is_not_counted_again() -> None:
    clock = Clock()
    limiter = ConcurrencyLimiter(Limits(total=1), clock)
    limiter.resync((), -1.0, ())
    limiter.acquire(queued("a", "one"))
    limiter.acquire(queued("a", "gone", 1))
    limiter.acquire(queued("a", "two", 2))
    clock.now = 10.0
    began = clock()
    listed = [PodKey("a", "one-pod")]
    clock.now = 11.0
    limiter.release(PodKey("a", "one-pod"))
    limiter.withdraw(ObjectKey("a", "gone"))
    assert limiter.resync(listed, began, [queued("a", "gone", 1), queued("a", "two", 2)]) == [("a", "two")]


@given(
    st.integers(0, 4),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=60),
)
def test_limits_are_kept_and_no_startable_build_waits(
    total: int, per_namespace: int, steps: list[tuple[str, int, bool]]
) -> None:
    limiter = limited(total, per_namespace)
    running: set[PodKey] = set()
    waiting: dict[ObjectKey, QueuedBuild] = {}

    def ask(one: QueuedBuild) -> None:
        if limiter.acquire(one):
            waiting[one.key] = one
        else:
            waiting.pop(one.key, None)
            running.add(one.pod)

    for number, (namespace, name, ends) in enumerate(steps):
        one = queued(namespace, str(name), number % 60)
        if ends:
            running.discard(one.pod)
            for key in limiter.release(one.pod):
                ask(waiting[key])
        elif one.pod not in running:
            ask(waiting.get(one.key, one))
        count = Counter(pod.namespace for pod in running)
        assert not total or len(running) <= total
        assert not per_namespace or all(each <= per_namespace for each in count.values())
        if not total or len(running) < total:
            assert all(per_namespace and count[key.namespace] >= per_namespace for key in waiting)

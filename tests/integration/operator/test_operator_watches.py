"""Watches that begin late, deliver twice, late or out of order, or end; an API server and an etcd that are killed."""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.fake_kubelet import FakeKubelet, Part, digest_of, pushed, timed
from imagebuilds.operator_process import Operator
from imagebuilds.proxy import PASS, Proxy
from imagebuilds.recorder import Recorder
from imagebuilds.rest import DirectNamespace, Rest
from imagebuilds.scale import ready_in_s
from imagebuilds.waiting import eventually

# The lists of the watches; those of the resync come in pages.
LISTS = re.compile(r"GET /[^?]*/(imagebuilds|pods)(\?(?!.*(limit|watch)=).*)?$")

WATCHES = re.compile(r"GET /[^?]*/(imagebuilds|pods)\?.*watch=true")


@pytest.fixture
def place(api: ApiServer) -> Iterator[DirectNamespace]:
    rest = Rest(api)
    made = DirectNamespace(api, rest, f"watch-{uuid.uuid4().hex[:8]}")
    yield made
    made.clear()
    rest.close()


def test_changes_before_the_watches_begin_do_not_wait_for_the_next_resync(
    api: ApiServer, place: DirectNamespace, operators: Callable[..., Operator], proxy: Proxy
) -> None:
    open_now = threading.Event()
    proxy.rule = lambda line: PASS if not LISTS.match(line) or open_now.wait(120) else 503
    operator = operators(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="3600")
    ready_in_s(operator)
    place.apply()
    open_now.set()
    digest = place.pushes(place.pod())
    assert place.phase("Succeeded")["image"]["digest"] == digest


Lines = Iterator[bytes]
EXPIRED = (
    b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}\n'
)


def twice(lines: Lines) -> Lines:
    for line in lines:
        yield line
        yield line


def late(lines: Lines) -> Lines:
    for number, line in enumerate(lines):
        time.sleep(0.4 * (number % 3))
        yield line


def in_the_wrong_order(lines: Lines) -> Lines:
    """Each pair the other way round: what is told last is old."""
    while pair := list(itertools.islice(lines, 2)):
        yield from reversed(pair)


def expired(lines: Lines) -> Lines:
    """410 after every third, as after a compaction of etcd."""
    yield from itertools.islice(lines, 3)
    yield EXPIRED


def lost(lines: Lines) -> Lines:
    """Every other one is never told."""
    return itertools.islice(lines, 0, None, 2)


@pytest.mark.parametrize("reshape", [twice, late, in_the_wrong_order, expired, lost])
def test_every_imagebuild_is_built_once_whatever_the_watches_deliver(
    api: ApiServer,
    place: DirectNamespace,
    operators: Callable[..., Operator],
    proxy: Proxy,
    reshape: Callable[[Lines], Lines],
) -> None:
    proxy.reshape = reshape
    operators(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="3")
    names = [f"app-{number}" for number in range(6)]
    with Recorder(place.rest, place.path("imagebuilds")) as recorder:
        kubelet = FakeKubelet(place.rest, lambda pod: Part(0.2, 0.5, pushed(pod)))
        for name in names:
            place.apply(name)
        eventually(lambda: recorder.count("Current") == len(names), "all at their ends")
        kubelet.close()
    assert not recorder.problems()
    built_once(place, names)


def test_a_frozen_watch_is_renewed_and_delivers_what_was_missed(
    api: ApiServer, place: DirectNamespace, operators: Callable[..., Operator], proxy: Proxy
) -> None:
    """Without a look at everything: the next watch goes on from where the frozen one was."""
    frozen = threading.Event()

    def freezing(lines: Lines) -> Lines:
        """One that has begun before stays open, and says nothing more."""
        begun_before = not frozen.is_set()
        for line in lines:
            if not (begun_before and frozen.is_set()):
                yield line

    proxy.reshape = freezing
    operator = operators(api.kubeconfig("operator-token", proxy.address), RESYNC_SECONDS="3600")
    ready_in_s(operator)
    place.apply("before")
    place.pushes(place.pod("before"))
    place.phase("Succeeded", "before")
    frozen.set()
    proxy.requests.clear()
    place.apply("meanwhile")
    digest = place.pushes(place.pod("meanwhile"))
    assert place.phase("Succeeded", "meanwhile")["image"]["digest"] == digest
    assert proxy.count(WATCHES) >= 2
    assert not proxy.count(LISTS), "all of it from the watches"


def built_once(place: DirectNamespace, names: list[str]) -> None:
    """Each has the digest of its only Pod."""
    for name in names:
        (pod,) = place.pods(name)
        assert place.status(name)["image"]["digest"] == digest_of(pod)
        assert place.status(name)["build"]["number"] == 1


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_killed_and_restarted_during_builds(
    api: ApiServer, place: DirectNamespace, operator: Operator, program: str
) -> None:
    names = ["running", "ended-meanwhile", "claimed"]
    for name in names[:2]:
        place.apply(name)
    pods = {name: place.pod(name) for name in names[:2]}
    place.starts(pods["running"])
    place.kubelet(pods["ended-meanwhile"], timed(pushed(pods["ended-meanwhile"])))
    place.apply("claimed")
    again = api.kill(program)
    time.sleep(6)  # several attempts of the operator's, with pauses that grow
    assert operator.is_running()
    again()
    place.kubelet(pods["running"], timed(pushed(pods["running"])))
    pod = place.pod("claimed")
    place.kubelet(pod, timed(pushed(pod)))
    for name in names:
        place.phase("Succeeded", name)
    built_once(place, names)

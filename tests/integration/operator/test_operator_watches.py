"""Watches that begin late, tell twice, late or in the wrong order, or end: no build waits for the next resync or is made twice."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.operator_process import Operator
from imagebuilds.proxy import PASS, Proxy
from imagebuilds.rest import DirectNamespace, Rest
from imagebuilds.scale import ready_in_s

# The lists of the watches; those of the resync come in pages.
LISTS = re.compile(r"GET /[^?]*/(imagebuilds|pods)(\?(?!.*(limit|watch)=).*)?$")


@pytest.fixture
def place(api: ApiServer) -> Iterator[DirectNamespace]:
    rest = Rest(api)
    made = DirectNamespace(api, rest, f"watch-{uuid.uuid4().hex[:8]}")
    yield made
    made.clear()
    rest.close()


def test_what_comes_before_the_watches_begin_does_not_wait_for_the_next_resync(
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

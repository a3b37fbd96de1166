"""Hostile Dockerfiles: planning takes work in proportion to their length and bounded memory, or names the limit."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hostile.work import lines, peak_bytes, written

from imagewright.dockerfile.parser import parse
from imagewright.errors import DockerfileError, Reason
from imagewright.oci.platform import Platform
from imagewright.plan.options import PlanOptions
from imagewright.plan.resolve import make_plan

ENTRIES = json.loads((Path(__file__).parents[1] / "hostile" / "dockerfiles.json").read_text())
PLATFORM = Platform.parse("linux/amd64")
BYTES = 200 << 20
LINES = 3_000_000


def dockerfile(entry: dict[str, Any], part: float = 1) -> bytes:
    """``{}`` in what is repeated is the number of the repetition, ``{-1}`` that of the one before."""
    text, count = entry["repeat"]
    first = entry.get("from", 0)
    repeated = []
    for number in range(first, first + int(count * part)):
        repeated.append(re.sub(r"\{(-1)?\}", lambda found, at=number: str(at + int(found[1] or 0)), text))
    return (written(entry["text"]) + "".join(repeated) + entry.get("end", "")).encode()


def plan(data: bytes) -> None:
    make_plan(parse(data, "Dockerfile"), PlanOptions("", {}, PLATFORM, PLATFORM), lambda _: pytest.fail("asked"))


LINEAR = [entry for entry in ENTRIES if "reason" not in entry]
LIMITED = [entry for entry in ENTRIES if "reason" in entry]


@pytest.mark.parametrize("entry", LINEAR, ids=[entry["name"] for entry in LINEAR])
def test_twice_as_much_is_twice_the_work(entry: dict[str, Any]) -> None:
    half, whole = (lines(functools.partial(plan, dockerfile(entry, part)), LINES) for part in (0.5, 1))
    assert 0 < whole < half * 2.4


@pytest.mark.parametrize("entry", LIMITED, ids=[entry["name"] for entry in LIMITED])
def test_a_limit_is_named(entry: dict[str, Any]) -> None:
    data = dockerfile(entry)

    def refused() -> None:
        with pytest.raises(DockerfileError) as caught:
            plan(data)
        assert caught.value.reason is Reason(entry["reason"])
        assert caught.value.hint
        assert caught.value.location is not None
        assert len(caught.value.render()) < 1500

    lines(refused, LINES)
    assert peak_bytes(refused) < BYTES


@pytest.mark.parametrize("entry", LINEAR, ids=[entry["name"] for entry in LINEAR])
def test_memory_is_bounded(entry: dict[str, Any]) -> None:
    data = dockerfile(entry)

    def planned() -> None:
        with contextlib.suppress(DockerfileError):
            plan(data)

    assert peak_bytes(planned) < 20 << 20

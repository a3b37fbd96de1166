"""Every case built by the engine: files, configuration and history are what is recorded, and what BuildKit makes of it.

``result.txt``     what the engine makes of the case (``IMAGEWRIGHT_RECORD=1`` rewrites it)
``buildkit.txt``   what BuildKit makes of it, only where that is something else (``IMAGEWRIGHT_RECORD=peers``);
                   then case.toml says why, in ``differs``

The engine builds each case in each run. The peers' answers are kept (``peers.answers``), and are asked for again in
parts (``conftest``): one that answers otherwise than before fails the test, as does a case that was changed since it
was asked.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from peers.answers import ERROR, Answers, answer_of, buildah_version, buildkit_version, keep
from peers.case import CASES, Case, all_cases
from peers.flatten import files_of
from peers.station import Station

pytestmark = [
    pytest.mark.root,
    pytest.mark.registry,
    pytest.mark.skipif(os.geteuid() != 0, reason="buildkitd needs root"),
]

_RECORD = os.environ.get("IMAGEWRIGHT_RECORD", "")
_TRIES = 3
_CASES = [case for case in all_cases() if not case.not_executed]
_PLANNABLE = [case for case in _CASES if not (case.folder / "error.txt").exists()]
_BUILDAH = tomllib.loads((CASES / "buildah.toml").read_text())
_NOT_BUILDAH = {name for group in _BUILDAH["differs"] for name in group["cases"]}
# On BusyBox alone: buildah copies its base for every layer.
_COMPARED = [
    case
    for case in _CASES
    if case.folder.name.startswith(tuple(_BUILDAH["compared"]))
    and not re.search(b"FROM (debian|python)", case.dockerfile)
]
_BY_BUILDAH = [case for case in _COMPARED if case.folder.name not in _NOT_BUILDAH]


def _name(case: Case) -> str:
    return case.folder.name


def _ours(case: Case) -> str:
    """What is recorded of the engine: the image, or the error."""
    return case.expected("result.txt") or case.expected("error.txt")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another builder: what it said to each case, and how it is asked again."""

    name: str
    version: str
    answers: Answers
    ask: Callable[[Station, Case], str]

    def answer(self, case: Case, expected: str, request: pytest.FixtureRequest) -> str:
        """What it makes of a case, as ``answer_of`` has it: asked now, or else as kept."""
        known = self.answers.of(case, self.version)
        asks_now = request.node.get_closest_marker("xdist_group") is not None
        if known is None and not asks_now and self.answers.version != self.version and self.name == "buildah":
            asks_now = True  # another Debian's: its answers can't be kept, but they can be asked for
        if not asks_now:
            hint = f"IMAGEWRIGHT_RECORD=peers scripts/test --peers -k {case.folder.name}"
            assert known, (
                f"{self.name} {self.version} hasn't been asked what it makes of this case as it is now: {hint}"
            )
            return known
        wanted = answer_of(expected) if _RECORD == "peers" else known or answer_of(expected)
        text = self._asked(request.getfixturevalue("peers"), case, wanted)
        if _RECORD == "peers":
            keep(self.name, self.version, case, answer_of(text))
            if self.name == "buildkit":
                _write_what_differs(case, text)
        elif answer_of(text) != wanted or (case.differs and self.name == "buildkit" and text != expected):
            by_itself = answer_of(text) == ERROR
            said = (
                "failed by itself, which says nothing of the engine" if by_itself else "answers otherwise than is kept"
            )
            pytest.fail(f"{self.name} {self.version} {said}, {_TRIES} times:\n{text}")
        return answer_of(text)

    def _asked(self, station: Station, case: Case, wanted: str) -> str:
        """The text; one that isn't what was wanted is asked for again, since a peer may fail for reasons of its own."""
        for _ in range(_TRIES):
            text = self.ask(station, case)
            if answer_of(text) == wanted:
                break
        return text


def _write_what_differs(case: Case, text: str) -> None:
    recorded = case.folder / "buildkit.txt"
    recorded.unlink(missing_ok=True)
    if answer_of(text) != answer_of(_ours(case)):
        recorded.write_text(text)


@pytest.fixture(scope="session")
def buildkit() -> Peer:
    return Peer("buildkit", buildkit_version(), Answers.kept("buildkit"), Station.theirs)


@pytest.fixture(scope="session")
def buildah() -> Peer:
    return Peer("buildah", buildah_version(), Answers.kept("buildah"), Station.files_of_buildah)


@pytest.mark.parametrize("case", _PLANNABLE, ids=_name)
def test_the_engine_builds_what_is_recorded(here: Station, case: Case) -> None:
    text = here.ours(case)
    if _RECORD == "1":
        (case.folder / "result.txt").write_text(text)
    assert text == case.expected("result.txt")


@pytest.mark.parametrize("case", _CASES, ids=_name)
def test_buildkit_makes_the_same_of_it(buildkit: Peer, case: Case, request: pytest.FixtureRequest) -> None:
    """An error of one is an error of the other; the words are each one's own."""
    answer = buildkit.answer(case, case.expected("buildkit.txt") or _ours(case), request)
    differs = case.expected("buildkit.txt")  # read again: recording has just rewritten it
    assert answer == answer_of(differs or _ours(case))
    assert bool(differs) == bool(case.differs), "case.toml says in 'differs' what is not as BuildKit has it"


@pytest.mark.parametrize("case", _BY_BUILDAH, ids=_name)
def test_buildah_makes_the_same_files_of_it(buildah: Peer, case: Case, request: pytest.FixtureRequest) -> None:
    ours = _ours(case)
    expected = ours if answer_of(ours) == ERROR else files_of(ours)
    assert buildah.answer(case, expected, request) == answer_of(expected)


@pytest.mark.parametrize(("peer", "cases"), [("buildkit", _CASES), ("buildah", _BY_BUILDAH)])
def test_no_answer_is_kept_of_a_case_that_is_gone(peer: str, cases: list[Case]) -> None:
    assert set(Answers.kept(peer).by_case) <= {case.folder.name for case in cases}


def test_what_buildah_makes_differently_is_a_case() -> None:
    assert {case.folder.name for case in _COMPARED} >= _NOT_BUILDAH

"""Every case built, by the engine and by BuildKit: files, configuration and history are what is recorded, and the same.

``result.txt``     what the engine makes of the case (``IMAGEWRIGHT_RECORD=1`` writes it anew)
``buildkit.txt``   what BuildKit makes of it, only where that is something else (``IMAGEWRIGHT_RECORD=buildkit``);
                   then case.toml says why, in ``differs``

BuildKit runs each time: what it does is not remembered but seen. It builds in a thread beside the engine's tests.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from peers.case import CASES, Case, all_cases
from peers.flatten import files_of
from peers.station import Station, station

pytestmark = [
    pytest.mark.root,
    pytest.mark.registry,
    pytest.mark.skipif(os.geteuid() != 0, reason="buildkitd needs root"),
]

_RECORD = os.environ.get("IMAGEWRIGHT_RECORD", "")
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


def _name(case: Case) -> str:
    return case.folder.name


@pytest.fixture(scope="session")
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], str]]:
    """What BuildKit makes of the cases that were selected: begun at once, one after the other."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    selected = [item.callspec.params["case"] for item in items if item.obj is test_buildkit_makes_the_same_of_it]
    if not selected:
        yield lambda case: ""
        return
    with (
        station(tmp_path_factory.mktemp("buildkit"), _CASES, with_buildkit=True) as there,
        ThreadPoolExecutor(1) as pool,
    ):
        results = {case.folder.name: pool.submit(there.theirs, case) for case in selected}
        yield lambda case: results[case.folder.name].result()
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def here(theirs: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """Where the engine builds. ``theirs`` only so that BuildKit begins first."""
    with station(tmp_path_factory.mktemp("peers"), _CASES, with_buildkit=False) as made:
        yield made


@pytest.mark.parametrize("case", _PLANNABLE, ids=_name)
def test_the_engine_builds_what_is_recorded(here: Station, case: Case) -> None:
    text = here.ours(case)
    if _RECORD == "1":
        (case.folder / "result.txt").write_text(text)
    assert text == case.expected("result.txt")


@pytest.mark.parametrize("case", _CASES, ids=_name)
def test_buildkit_makes_the_same_of_it(theirs: Callable[[Case], str], case: Case) -> None:
    """An error of one is an error of the other; the words are each one's own."""
    text = theirs(case)
    ours = case.expected("result.txt") or case.expected("error.txt")
    recorded = case.folder / "buildkit.txt"
    same = text == ours or (_is_error(text) and _is_error(ours))
    if _RECORD == "buildkit":
        recorded.unlink(missing_ok=True)
        if not same:
            recorded.write_text(text)
    assert text == case.expected("buildkit.txt") if recorded.exists() else same, text
    assert recorded.exists() == bool(case.differs), "case.toml says in 'differs' what is not as BuildKit has it"


@pytest.mark.parametrize("case", [case for case in _COMPARED if case.folder.name not in _NOT_BUILDAH], ids=_name)
def test_buildah_makes_the_same_files_of_it(here: Station, case: Case) -> None:
    text = here.files_of_buildah(case)
    ours = case.expected("result.txt") or case.expected("error.txt")
    assert text == files_of(ours) or (_is_error(text) and _is_error(ours)), text


def test_what_buildah_makes_differently_is_a_case() -> None:
    assert {case.folder.name for case in _COMPARED} >= _NOT_BUILDAH


def _is_error(text: str) -> bool:
    return text.startswith("error: ")

"""Every case that only copies files, built by a user without any rights where no namespace can be made: as root builds
it.

As in a Pod of Pod Security ``restricted`` under the runtime's default seccomp profile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.case import Case, all_cases
from peers.station import Station, station

from imagewright.plan.steps import CopyStep, RunStep, WorkdirStep

pytestmark = [
    pytest.mark.root,
    pytest.mark.registry,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becomes another user: needs root"),
]


_FOR_ROOT_ONLY = {"copy-modes-are-kept"}  # its context has a file that no ordinary user may read


def _only_copies(case: Case) -> bool:
    """Whether the case writes files, executes no command, and isn't about the Dockerfile alone."""
    if case.not_executed or (case.folder / "error.txt").exists() or case.folder.name.startswith("lint-"):
        return False
    kinds = {type(step) for stage in case.plan()[0].stages for step in stage.steps}
    return bool(kinds & {CopyStep, WorkdirStep}) and RunStep not in kinds


_CASES = [case for case in all_cases() if _only_copies(case) and case.folder.name not in _FOR_ROOT_ONLY]


@pytest.fixture(scope="module")
def open_station() -> Iterator[Station]:
    """Where the user builds: pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="imagewright-cases-"))
    folder.chmod(0o755)
    try:
        with station(folder, _CASES, with_buildkit=False) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.folder.name)
def test_user_without_rights_builds_what_is_recorded_of_root(open_station: Station, case: Case) -> None:
    assert open_station.ours(case, restricted=True) == case.expected("result.txt")

"""Every case without a RUN, built by a user without any rights where no namespace can be made: the image is root's.

As in a Pod of Pod Security ``restricted`` under the runtime's default seccomp profile.
"""

from __future__ import annotations

import os
import shutil

import pytest
from peers.case import Case, all_cases
from peers.station import Station

from imagewright.plan.steps import RunStep

pytestmark = [
    pytest.mark.root,
    pytest.mark.registry,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becomes another user: needs root"),
]

_PLANNABLE = [case for case in all_cases() if not case.not_executed and not (case.folder / "error.txt").exists()]


def _has_run(case: Case) -> bool:
    return any(isinstance(step, RunStep) for stage in case.plan()[0].stages for step in stage.steps)


@pytest.mark.parametrize("case", [case for case in _PLANNABLE if not _has_run(case)], ids=lambda case: case.folder.name)
def test_user_without_rights_builds_what_is_recorded_of_root(here: Station, case: Case) -> None:
    assert here.ours(case, restricted=True) == case.expected("result.txt")

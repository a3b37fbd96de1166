"""Where cases are built, and which of them BuildKit and buildah are asked about again in this run.

What a peer made of a case is data (``peers.answers``). In every run a part of the cases is asked again, another part
for each commit, so that after some commits all have been; ``--peers=again`` asks all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.case import all_cases
from peers.station import Station, station
from proof.tiers import PEERS_GROUP

PARTS = 11  # a prime: whatever number of commits lands at a time, the part is another one
_ASKING = ("test_buildkit_makes_the_same_of_it", "test_buildah_makes_the_same_files_of_it")
_EXECUTED = [case for case in all_cases() if not case.not_executed]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What asks a peer shares a worker, and so one BuildKit."""
    asked = asked_again(config)
    for item in items:
        asks = isinstance(item, pytest.Function) and item.originalname in _ASKING
        if asks and item.callspec.params["case"].folder.name in asked:
            item.add_marker(pytest.mark.xdist_group(PEERS_GROUP))


def asked_again(config: pytest.Config) -> frozenset[str]:
    """The cases that this run asks the peers about, although their answers are known."""
    names = [case.folder.name for case in _EXECUTED]
    which = "again" if os.environ.get("IMAGEWRIGHT_RECORD") == "peers" else config.getoption("--peers")
    if which == "part":
        names = names[_commits() % PARTS :: PARTS]
    return frozenset(names if which != "recorded" else ())


def _commits() -> int:
    """How many commits lead to this one; 0 outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-list", "--count", "HEAD"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 else 0


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """Where the engine builds."""
    with station(tmp_path_factory.mktemp("engine"), _EXECUTED, with_buildkit=False) as made:
        yield made


@pytest.fixture(scope="session")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """Where BuildKit and buildah build."""
    with station(tmp_path_factory.mktemp("peers"), _EXECUTED, with_buildkit=True) as made:
        yield made

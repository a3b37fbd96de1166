"""The cluster that end-to-end tests run on: one for all workers, started where it isn't up, left up only if it was.

With ``$IMAGEWRIGHT_KEEP_CLUSTER`` it stays up for the next session: ``scripts/test`` has several, and takes it down
itself.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator

import pytest
from cluster.client import Cluster
from cluster.lifecycle import down, up
from cluster.places import places_from_environment
from cluster.processes import Processes


def why_not() -> str:
    """Why this machine can't run a cluster; empty when it can."""
    if os.geteuid() != 0:
        return "the test cluster needs root"
    missing = [program for program in ("ip", "nft", "mmdebstrap", "busybox") if shutil.which(program) is None]
    return f"the test cluster needs {', '.join(missing)}: run scripts/setup as root" if missing else ""


_WAS_UP = pytest.StashKey[bool]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_WAS_UP] = Processes(places_from_environment()).supervisor_pid() != 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The last of all to end is the process that controls the workers, if there are any."""
    a_worker = hasattr(session.config, "workerinput")
    keeps = session.config.stash[_WAS_UP] or os.environ.get("IMAGEWRIGHT_KEEP_CLUSTER")
    places = places_from_environment()
    if not a_worker and not keeps and Processes(places).supervisor_pid():
        down(places)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """A cluster with a ready node, two registries and base images."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    places = places_from_environment()
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # the first time takes minutes: its progress is to be seen
        up(places)
    return Cluster(places)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    cluster.wait_for(path)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")

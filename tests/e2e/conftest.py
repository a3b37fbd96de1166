"""The cluster that end-to-end tests run on: one for the session, started where it isn't up, left up only if it was."""

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


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster with a ready node, two registries and base images."""
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    places = places_from_environment()
    was_up = Processes(places).supervisor_pid() != 0
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # the first time takes minutes: its progress is to be seen
        up(places)
    yield Cluster(places)
    if not was_up:
        down(places)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    cluster.wait_for(path)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")

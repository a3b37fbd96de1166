"""``kubectl imagewright`` with real builds: kubectl finds it, and their logs are followed to the end."""

from __future__ import annotations

import pytest
from cluster.client import Cluster
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.plugin import Plugin

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_logs_follow_a_build_through_a_retry_and_end_with_its_exit_code(
    cluster: Cluster, builds: Namespace, operator: Operator
) -> None:
    plugin = Plugin(cluster.kubeconfig, builds.name)
    builds.apply(source={"inline": {"dockerfile": "FROM alpine\nRUN echo one; sleep 5; echo two\n"}})
    with plugin.start("logs", "-f", "app") as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert next(line for line in following.stdout if line.rstrip().endswith("| one"))
        builds.kubectl("delete", "pod", builds.pods()[0]["metadata"]["name"], "--wait=false")
        lines, err = following.stdout.read().splitlines(), following.stderr.read()
    assert following.returncode == 0, err
    assert [line.rpartition("| ")[2] for line in lines if "| " in line] == ["one", "two"]
    assert not [line for line in lines if "imagewrightResult" in line]
    status = builds.status()
    assert ", attempt 2\n" in err
    assert err.endswith(f"built: {status['image']['reference']}\n")
    assert plugin.output("wait", "app").endswith(f"built: {status['image']['reference']}\n")
    tree = plugin.output("tree", "app").splitlines()
    assert tree[2].split()[1:5] == ["build", "1,", "attempt", "2"]
    assert tree[-1].split()[1:] == [
        f"Pod/{status['build']['podNames'][0]}",
        "Succeeded",
        "attempt",
        "2,",
        "on",
        cluster.node,
    ]
    builds.apply(source={"inline": {"dockerfile": "FROM alpine\nRUN echo three; exit 9\n"}})
    failed = plugin.run("logs", "--follow", "app")
    assert failed.returncode == 7
    assert "| three" in failed.stdout
    assert "| two" not in failed.stdout  # that is the build before
    assert "[StepFailed]\n  --> Dockerfile:2\n" in failed.stderr

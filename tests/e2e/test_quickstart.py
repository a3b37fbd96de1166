"""Quickstart with a cluster and a registry that a user has: what they see, and that --down takes away what it
brought.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.client import Cluster
from quickstart.images import ROOT

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]


def quickstart(cluster: Cluster, *flags: str) -> subprocess.CompletedProcess[str]:
    host = cluster.registry.host
    given = [f"--kubeconfig={cluster.kubeconfig}", f"--registry={host}/imagewright", "--insecure", f"--mirror={host}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "DOCKER_CONFIG": "/nonexistent"}
    command = [sys.executable, "-m", "quickstart", *given, *flags]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def nobodys(cluster: Cluster) -> None:
    """A cluster without ImageBuilds that another test, which was ended, may have left: quickstart would respect
    them.
    """
    found = json.loads(cluster.try_kubectl("get", "imagebuilds", "-A", "-o", "json").stdout or '{"items": []}')
    for place in (item["metadata"] for item in found["items"]):
        if place["namespace"].startswith("test-"):
            cluster.try_kubectl("delete", "imagebuild", "-n", place["namespace"], place["name"])


def test_from_a_cluster_and_a_registry_to_a_pushed_image(cluster: Cluster, nobodys: None) -> None:
    done = quickstart(cluster)
    assert done.returncode == 0, done.stderr
    table, _, rest = done.stdout.partition("Pushed ")
    assert re.search(
        r"^hello +Succeeded +BuildSucceeded +\S+/imagewright/hello:1.0 +sha256:[0-9a-f]{12} ", table, re.MULTILINE
    )
    assert "digest sha256:" in rest
    commands = rest.partition("What you would type next:")[2]
    assert all(f"kubectl {verb}" in commands for verb in ("logs", "describe", "apply"))
    path = re.search(r"PATH=\$PATH:(\S+)", commands)
    assert path is not None
    assert all(shutil.which(program, path=path[1]) for program in ("kubectl", "kubectl-imagewright"))
    assert '[stage-0 2/2] RUN echo "Built inside Kubernetes' in done.stderr  # the log, while it ran
    again = quickstart(cluster)
    assert again.returncode == 0, again.stderr
    assert "Building the" not in again.stderr  # nothing is built twice
    gone = quickstart(cluster, "--down")
    assert gone.returncode == 0, gone.stderr
    namespaces = ("imagewright-system", "imagewright-quickstart")
    assert cluster.kubectl("get", "namespace", *namespaces, "--ignore-not-found") == "", gone.stdout + gone.stderr
    assert "imagewright.dev" not in cluster.kubectl("api-resources")


_KIND = """#!/bin/sh
case "$1 $2" in
  "get clusters") echo imagewright-quickstart ;;
  "get kubeconfig") cat {kubeconfig} ;;
  "get nodes") ;;
  "delete cluster") touch {folder}/deleted ;;
  *) exit 1 ;;
esac
"""
_DOCKER = """#!/bin/sh
case "$1" in
  info | rm | start) ;;
  ps) echo imagewright-quickstart-registry ;;
  port) echo {host} ;;
  *) exit 1 ;;
esac
"""


def test_from_an_installed_kind_to_a_pushed_image(cluster: Cluster, nobodys: None, tmp_path: Path) -> None:
    """kind and docker are stand-ins: cluster and registry are those of the tests."""
    for name, text in (("kind", _KIND), ("docker", _DOCKER)):
        script = text.format(kubeconfig=cluster.kubeconfig, folder=tmp_path, host=cluster.registry.host)
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "DOCKER_CONFIG": "/nonexistent",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "quickstart"]
    given = ["--with=kind", f"--mirror={cluster.registry.host}"]
    done = subprocess.run([*command, *given], check=False, capture_output=True, text=True, env=environment)
    try:
        assert done.returncode == 0, done.stderr
        assert "Using kind, which is installed" in done.stdout + done.stderr
        assert f"Pushed {cluster.registry.host}/imagewright/hello:1.0" in done.stdout
        gone = subprocess.run([*command, "--down"], check=False, capture_output=True, text=True, env=environment)
        assert gone.returncode == 0, gone.stderr
        assert (tmp_path / "deleted").exists()
    finally:
        quickstart(cluster, "--down")


def test_a_kubeconfig_without_a_registry_is_refused(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "quickstart", f"--kubeconfig={cluster.kubeconfig}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "--kubeconfig and --registry belong together" in done.stderr

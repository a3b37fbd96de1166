"""The operator's rights are what it needs: with them it does all that it can do, and none is left over.

A record of all its requests, which the API server itself keeps, is compared with the roles of deploy/.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.rendered import Json, environment, manifest, objects, one, renamed, rights
from imagebuilds.waiting import eventually

ROOT = Path(__file__).parents[3]
SYSTEM = "imagewright-system"
OPERATOR, LEADER, KEY = "imagewright-operator", "imagewright-operator-leader", "imagewright-operator-key"

Right = tuple[str, str, str]  # group, resource, verb
NODES: Right = ("", "nodes", "list")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[ApiServer]:
    """An API server of this module's own, which keeps a record."""
    server = ApiServer(tmp_path_factory.mktemp("audited"), programs, audited=True)
    yield server
    server.stop()


@dataclass(frozen=True, slots=True)
class Installed:
    """An installation: the rights of its roles, who has them, its operator's settings, and a namespace that it
    serves.
    """

    rights: set[Right]
    system: str
    user: str
    kubeconfig: Path
    settings: dict[str, str]
    builds: Namespace


@pytest.fixture
def install(audited: ApiServer) -> Callable[..., Installed]:
    """Applies a folder of deploy/ as it is, but for the names of namespaces, and logs in as its ServiceAccount."""

    def do(folder: str, *roles: tuple[str, str]) -> Installed:
        builds, system = f"builds-{uuid.uuid4().hex[:8]}", f"system-{uuid.uuid4().hex[:8]}"
        audited.kubectl("create", "namespace", builds)
        audited.kubectl("create", "serviceaccount", "default", f"--namespace={builds}")
        names = {"builds": builds, SYSTEM: system}
        documents = list(
            renamed(objects(audited.kubectl("kustomize", str(ROOT / folder))), lambda text: names.get(text, text))
        )
        done = audited.try_kubectl("apply", "--server-side", "--filename=-", stdin=manifest(documents))
        assert done.returncode == 0, done.stderr
        audited.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
        found = objects(manifest(documents))
        token = audited.kubectl("create", "token", "imagewright-operator", f"--namespace={system}")
        return Installed(
            {right for kind, called in roles for right in rights(one(found, kind, called))},
            system,
            f"system:serviceaccount:{system}:imagewright-operator",
            audited.kubeconfig(token.strip()),
            {name.removeprefix("IMAGEWRIGHT_"): value for name, value in environment(found).items()},
            Namespace(audited.try_kubectl, builds),
        )

    return do


# With high availability the operator of the whole cluster has the rights of deploy/ and those on its lease.
INSTALLATIONS: dict[str, tuple[tuple[tuple[str, str], ...], set[Right]]] = {
    "high-availability": ((("ClusterRole", OPERATOR), ("Role", KEY), ("Role", LEADER)), set()),
    "namespaced": ((("Role", OPERATOR), ("Role", KEY)), {NODES}),
}


@pytest.mark.parametrize("overlay", INSTALLATIONS)
def test_the_operator_needs_exactly_the_permissions_that_it_has(
    audited: ApiServer,
    install: Callable[..., Installed],
    operators: Callable[..., Operator],
    monkeypatch: pytest.MonkeyPatch,
    overlay: str,
) -> None:
    roles, refused = INSTALLATIONS[overlay]
    installed = install(f"deploy/overlays/{overlay}", *roles)
    monkeypatch.setenv("POD_NAMESPACE", installed.system)
    settings = {**installed.settings, "LOG_REFRESH_SECONDS": "1", "RESYNC_SECONDS": "2", "SIGNING_KEY_FILE": ""}
    operator = operators(installed.kubeconfig, **settings)
    builds = installed.builds
    reads_a_log = ("", "pods/log", "get")
    waits_for_a_secret_runs_and_is_tidied_up(
        builds, lambda: reads_a_log in asked_for(audited.requests_of(installed.user))[True]
    )
    is_cancelled(builds)
    sees_that_the_branch_has_moved(builds)
    has_its_quota_exceeded(builds)
    operator.stop()
    meets_a_pod_in_its_way(builds, lambda: operators(installed.kubeconfig, **settings))

    asked = asked_for(audited.requests_of(installed.user))
    assert asked[False] == refused, "what it may not do"
    assert installed.rights - asked[True] == set(), "rights that nothing uses"
    assert asked[True] - installed.rights == set(), "rights that it has from elsewhere"


def asked_for(events: list[Json]) -> dict[bool, set[Right]]:
    """Groups, resources and verbs that were allowed (True), and those that were not."""
    asked: dict[bool, set[Right]] = {True: set(), False: set()}
    for event in events:
        allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow"
        about = event.get("objectRef")
        if about is None:  # what kinds there are, which everybody may ask
            assert allowed, event["requestURI"]
            continue
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        asked[allowed].add((about.get("apiGroup", ""), resource, event["verb"]))
    return asked


def waits_for_a_secret_runs_and_is_tidied_up(builds: Namespace, reads_the_log: Callable[[], bool]) -> None:
    builds.apply("whole", retention={"podTTL": "1s"})
    pod = builds.pod("whole")
    builds.pod_event(pod, "FailedMount", 'MountVolume.SetUp failed for volume "x" : secret "regcred" not found')
    builds.becomes("False SecretNotFound", "whole")
    builds.starts(pod)
    builds.becomes("Unknown BuildRunning", "whole")
    eventually(reads_the_log, "a look at the log of the build that runs")
    builds.pushes(pod)
    builds.phase("Succeeded", "whole")
    eventually(lambda: not builds.pods("whole"), "its Pod to go")
    eventually(lambda: "BuildSucceeded" in builds.events("whole"), "its Events")


def is_cancelled(builds: Namespace) -> None:
    builds.apply("cancelled")
    builds.starts(builds.pod("cancelled"))
    builds.becomes("Unknown BuildRunning", "cancelled")
    builds.apply("cancelled", cancelled=True)
    builds.phase("Cancelled", "cancelled")


def sees_that_the_branch_has_moved(builds: Namespace) -> None:
    git = {"url": "https://git.example.com/a.git", "ref": {"branch": "main"}, "poll": "1m"}
    builds.apply("polled", source={"git": git})
    builds.pushes(builds.pod("polled"))
    builds.phase("Succeeded", "polled")
    past = "2020-01-01T00:00:00Z"  # as if the minute had gone by
    patch = {"status": {"build": {"queueTime": past, "completionTime": past}}}
    builds.kubectl(
        "patch", "imagebuild", "polled", "--subresource=status", "--type=merge", f"--patch={json.dumps(patch)}"
    )
    name = eventually(lambda: builds.status("polled").get("poll", {}).get("podName"), "a look at the branch")
    eventually(lambda: builds.try_kubectl("get", "pod", name).returncode == 0, "its Pod")
    builds.ends(builds.get("pod", name), {"source": {"commit": "c" * 40}})
    eventually(lambda: builds.status("polled")["build"]["number"] == 2, "another build")


def has_its_quota_exceeded(builds: Namespace) -> None:
    quota: dict[str, Any] = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    hard = {"count/pods": "0"}
    builds.kubectl("create", "--filename=-", given={**quota, "spec": {"hard": hard}})
    status = json.dumps({"status": {"hard": hard, "used": hard}})  # what the controller manager does
    builds.kubectl("patch", "resourcequota", "few", "--subresource=status", "--type=merge", f"--patch={status}")
    builds.apply("many")
    builds.becomes("False QuotaExceeded", "many")
    builds.kubectl("delete", "resourcequota", "few")
    builds.kubectl("annotate", "imagebuild", "many", "a=b")  # any event: nobody has to wait for the next try
    builds.pushes(builds.pod("many"))
    builds.phase("Succeeded", "many")


def meets_a_pod_in_its_way(builds: Namespace, starts: Callable[[], Operator]) -> None:
    """Of an operator that has begun while another Pod has the name that follows from the claim."""
    build = builds.status("polled")["build"]
    name = (build.get("podNames") or [builds.pods("polled")[0]["metadata"]["name"]])[0]
    builds.kubectl("delete", "pod", name, "--force")
    foreign: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    builds.kubectl("create", "--filename=-", given={**foreign, "spec": {"containers": [{"name": "a", "image": "x"}]}})
    forget = json.dumps({"status": {"build": {"podNames": None, "pod": None}}})
    builds.kubectl("patch", "imagebuild", "polled", "--subresource=status", "--type=merge", f"--patch={forget}")
    starts()
    builds.becomes("False PodNameTaken", "polled")
    builds.kubectl("delete", "pod", name, "--force")
    builds.kubectl("annotate", "imagebuild", "polled", "a=b")
    builds.pushes(builds.pod("polled"))
    builds.phase("Succeeded", "polled")

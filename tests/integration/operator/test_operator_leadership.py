"""Leader election on a real API server: the standby replaces a leader that is killed, stopped, frozen or cut off."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.proxy import CUT, Proxy
from imagebuilds.rendered import Json, manifest, name, objects
from imagebuilds.waiting import eventually

ROOT = Path(__file__).parents[3]
LEASE = re.compile(r"(GET|PUT|POST) /apis/coordination\.k8s\.io/v1/namespaces/[^/]+/leases")
SHORT_S = 6  # where a test waits until it is over


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operator and the proxy that all its requests go through."""

    operator: Operator
    proxy: Proxy

    def work(self) -> list[str]:
        """What it has asked for besides the lease."""
        return [line for line in self.proxy.requests if not LEASE.match(line)]

    def probe(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.operator.port}{path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except urllib.error.URLError:
            return 0

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operator.port}/metrics") as answer:
            return str(answer.read().decode())


class Election:
    """Candidates for one lease, in a namespace of their own with the rights of the component."""

    def __init__(self, api: ApiServer, start: Callable[..., Operator], namespace: str) -> None:
        self._api, self._start, self.namespace = api, start, namespace
        self._proxies: list[Proxy] = []

    def stand(self, **settings: str) -> Candidate:
        proxy = Proxy(self._api.port, self._api.certificate)
        self._proxies.append(proxy)
        given = {"LEADER_ELECTION": "true", **settings}
        return Candidate(self._start(self._api.kubeconfig("operator-token", proxy.address), **given), proxy)

    def lease(self) -> Json:
        done = self._api.try_kubectl(
            "get", "lease", "imagewright-operator", f"--namespace={self.namespace}", "--output=json"
        )
        spec: Json = json.loads(done.stdout)["spec"] if done.returncode == 0 else {}
        return spec

    def holder(self) -> str:
        return self.lease().get("holderIdentity") or ""

    def leads(self, candidate: Candidate) -> None:
        eventually(lambda: "became the leader" in candidate.operator.log(), "a leader")

    def stands_by(self, candidate: Candidate) -> None:
        eventually(lambda: candidate.probe("/readyz") == 200, "one that stands by and is ready")
        assert "standing by: " in candidate.operator.log()

    def pair(self, **settings: str) -> tuple[Candidate, Candidate]:
        """Who leads, and who stands by."""
        first = self.stand(**settings)
        self.leads(first)
        second = self.stand(**settings)
        self.stands_by(second)
        return first, second

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()


@pytest.fixture
def election(api: ApiServer, operators: Callable[..., Operator], monkeypatch: pytest.MonkeyPatch) -> Iterator[Election]:
    namespace = f"system-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("POD_NAMESPACE", namespace)
    monkeypatch.setenv("POD_NAME", "imagewright-operator-1")
    api.kubectl("create", "namespace", namespace)
    rendered = objects(api.kubectl("kustomize", str(ROOT / "deploy/overlays/high-availability")))
    roles = [one for one in rendered.values() if name(one)[2] == "imagewright-operator-leader"]
    assert len(roles) == 2
    for one in roles:
        one["metadata"]["namespace"] = namespace
    done = api.try_kubectl("apply", "--filename=-", stdin=manifest(roles))
    assert done.returncode == 0, done.stderr
    made = Election(api, operators, namespace)
    yield made
    made.close()
    api.kubectl("delete", "namespace", namespace, "--wait=false")


def runs(namespace: Namespace) -> Json:
    """A build that its operator has seen running; its Pod."""
    namespace.apply()
    pod = namespace.pod()
    namespace.starts(pod)
    namespace.phase("Running")
    return pod


def is_built_once(namespace: Namespace, digest: str) -> None:
    status = namespace.phase("Succeeded")
    assert status["image"]["digest"] == digest
    assert (status["build"]["number"], status["build"]["attempt"], len(status["history"])) == (1, 1, 1)
    assert len(namespace.pods()) == 1
    eventually(lambda: "BuildSucceeded" in namespace.events(), "the last Event")
    assert sorted(namespace.events()) == ["BuildQueued", "BuildStarted", "BuildSucceeded"]


def test_a_standby_is_ready_and_requests_only_the_lease(election: Election, namespace: Namespace) -> None:
    leader, standby = election.pair()
    pod = runs(namespace)
    is_built_once(namespace, namespace.pushes(pod))
    eventually(lambda: leader.probe("/readyz") == 200, "a leader that has looked at everything")
    assert standby.work() == []
    assert (standby.probe("/readyz"), standby.probe("/healthz"), leader.probe("/healthz")) == (200, 200, 200)
    assert "imagewright_leader 1.0" in leader.metrics()
    assert "imagewright_leader 0.0" in standby.metrics()
    assert 'imagewright_api_requests_total{code="200",resource="leases",verb="GET"}' in standby.metrics()
    assert set(re.findall(r'requests_total{[^}]*resource="([^"]*)"', standby.metrics())) == {"leases"}

    before = election.lease()
    assert re.fullmatch(r"imagewright-operator-1_[0-9a-f-]{36}", before["holderIdentity"])
    assert (before["leaseDurationSeconds"], before["leaseTransitions"]) == (15, 0)
    eventually(lambda: election.lease()["renewTime"] > before["renewTime"], "a renewal")
    after = election.lease()
    assert after["acquireTime"] == before["acquireTime"] < after["renewTime"]
    assert standby.operator.stop() == 0
    assert election.holder() == before["holderIdentity"], "who stands by takes nothing along"
    assert not any(line.startswith(("PUT", "POST")) for line in standby.proxy.requests)


def test_the_standby_continues_the_build_of_a_killed_leader(election: Election, namespace: Namespace) -> None:
    leader, standby = election.pair(LEASE_SECONDS=str(SHORT_S), MAX_BUILDS="1")
    first = election.lease()
    pod = runs(namespace)
    namespace.apply("next")
    namespace.phase("Queued", "next")
    leader.operator.kill()
    election.leads(standby)
    eventually(lambda: standby.probe("/readyz") == 200, "one that has looked at everything")
    assert namespace.pods("next") == [], "it has counted what runs"
    is_built_once(namespace, namespace.pushes(pod))
    namespace.pod("next")
    last = election.lease()
    assert last["leaseTransitions"] == 1
    assert last["holderIdentity"] != first["holderIdentity"]
    assert last["acquireTime"] > first["acquireTime"]


def test_a_stopped_leader_releases_the_lease_with_its_last_request(election: Election, namespace: Namespace) -> None:
    """Nobody waits here for a lease to be over, which takes longer than any test does."""
    leader, standby = election.pair(LEASE_SECONDS="3600")
    pod = runs(namespace)
    assert leader.operator.stop() == 0
    assert leader.proxy.requests[-1].startswith("PUT /apis/coordination.k8s.io/")
    election.leads(standby)
    is_built_once(namespace, namespace.pushes(pod))
    assert standby.operator.stop() == 0
    lease = election.lease()
    assert (lease.get("holderIdentity", ""), lease["leaseDurationSeconds"], lease["leaseTransitions"]) == ("", 1, 1)


def test_a_leader_that_was_frozen_past_its_lease_ends(election: Election, namespace: Namespace) -> None:
    leader, standby = election.pair(LEASE_SECONDS=str(SHORT_S), RESYNC_SECONDS="1")
    pod = runs(namespace)
    leader.operator.freeze()
    election.leads(standby)
    digest = namespace.pushes(pod)
    is_built_once(namespace, digest)
    asked = len(leader.work())
    leader.operator.thaw()
    eventually(lambda: not leader.operator.is_running(), "the end of the one that was frozen")
    assert [line for line in leader.work()[asked:] if "watch=true" not in line] == []
    assert leader.operator.exit_code() == 1
    assert "lost the lease: " in leader.operator.log()
    is_built_once(namespace, digest)


def test_a_leader_without_connection_ends_before_the_standby_takes_over(
    election: Election, namespace: Namespace
) -> None:
    leader, standby = election.pair(LEASE_SECONDS=str(SHORT_S))
    pod = runs(namespace)
    late: list[str] = []
    leader.proxy.rule = lambda _: CUT

    def began(line: str) -> None:
        if not LEASE.match(line) and not late:
            late.append(f"{len(leader.work())}")

    standby.proxy.after = began
    eventually(lambda: not leader.operator.is_running(), "the end of the one that is cut off")
    assert leader.operator.exit_code() == 1
    assert "lost the lease: " in leader.operator.log()
    election.leads(standby)
    is_built_once(namespace, namespace.pushes(pod))
    assert late == [str(len(leader.work()))], "it has asked for nothing since the other works"


def test_after_an_api_server_outage_past_the_deadline_one_operator_leads_again(
    api: ApiServer, election: Election, namespace: Namespace
) -> None:
    leader, standby = election.pair(LEASE_SECONDS=str(SHORT_S))
    pod = runs(namespace)
    api.signal_api(signal.SIGSTOP)
    try:
        eventually(lambda: not leader.operator.is_running(), "the end of the leader")
        assert standby.operator.is_running()
    finally:
        api.signal_api(signal.SIGCONT)
    assert leader.operator.exit_code() == 1
    before = leader.operator.log()
    leader.operator.start()  # as the kubelet does

    def working() -> list[Candidate]:
        """Either may win: the lease is over for both at once."""
        logs = ((leader, leader.operator.log().removeprefix(before)), (standby, standby.operator.log()))
        return [one for one, log in logs if "became the leader" in log]

    eventually(working, "a leader")
    is_built_once(namespace, namespace.pushes(pod))
    eventually(lambda: leader.probe("/readyz") == standby.probe("/readyz") == 200, "two that are ready")
    assert len(working()) == 1
    assert election.lease()["leaseTransitions"] == 1


def test_a_lost_response_does_not_end_leadership(election: Election) -> None:
    leader = election.stand()
    election.leads(leader)
    renewals = [0]

    def strike(line: str, _: bytes, answered: bool) -> bool:
        """The first renewal is stored and its answer lost."""
        if answered and line.startswith("PUT") and LEASE.match(line):
            renewals[0] += 1
            return renewals[0] == 1
        return False

    leader.proxy.strike = strike
    eventually(lambda: renewals[0] >= 3, "renewals after the one whose answer was lost")
    assert leader.operator.is_running()
    assert election.lease()["leaseTransitions"] == 0


def test_without_permission_it_is_not_ready_and_logs_the_api_servers_message(
    api: ApiServer, election: Election
) -> None:
    api.kubectl("delete", "rolebinding", "imagewright-operator-leader", f"--namespace={election.namespace}")
    candidate = election.stand()
    eventually(lambda: "cannot read or write the lease: 403" in candidate.operator.log(), "what is missing")
    assert (candidate.probe("/readyz"), candidate.probe("/healthz")) == (503, 200)
    assert candidate.work() == []


def test_leader_election_requires_the_own_namespace(
    operators: Callable[..., Operator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    operator = operators(LEADER_ELECTION="true")
    eventually(lambda: not operator.is_running(), "the operator to end")
    assert operator.exit_code() == 2
    assert "[UsageInvalid]\nhint: Set POD_NAMESPACE" in operator.log()

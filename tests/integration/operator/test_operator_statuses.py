"""Every status version of thirty scenarios, judged by kstatus's rules and the table of conditions.

All are played at once against one operator and recorded by a watch; then each is judged by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from imagebuilds.apiserver import ApiServer
from imagebuilds.gitops import disagreements
from imagebuilds.operator_process import operators_in
from imagebuilds.recorder import Line, Recorder, problems
from imagebuilds.rest import DirectNamespace, Json, Rest
from imagebuilds.scenarios import Actor, Script, play

QUEUED, PENDING, RUNNING = "Unknown BuildQueued", "Unknown PodPending", "Unknown BuildRunning"
DONE = "True BuildSucceeded"
STEP = {"failure": {"reason": "StepFailed", "message": "RUN make ended with exit code 2", "line": 7, "exitCode": 2}}
SCENARIOS: dict[str, tuple[Callable[[Actor], Script], tuple[str, ...]]] = {}


def scenario(*told: str) -> Callable[[Callable[[Actor], Script]], Callable[[Actor], Script]]:
    """``told`` is what its Ready condition says, one after the other."""

    def add(script: Callable[[Actor], Script]) -> Callable[[Actor], Script]:
        SCENARIOS[script.__name__.replace("_", "-")] = script, told
        return script

    return add


def to_pod(actor: Actor, **spec: Any) -> Script:
    """Applied, and its Pod pending."""
    actor.applies(**spec)
    yield actor.is_told(PENDING)
    yield actor.has_pod


def to_running(actor: Actor, **spec: Any) -> Script:
    yield from to_pod(actor, **spec)
    actor.starts()
    yield actor.is_told(RUNNING)


def pod_to_done(actor: Actor) -> Script:
    """The next Pod of a build that goes on: from pending to done."""
    yield actor.is_told(PENDING)
    yield actor.has_pod
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, RUNNING, DONE)
def pushes(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, RUNNING, "False StepFailed")
def fails_in_run(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(STEP)
    yield actor.is_told("False StepFailed")


@scenario(QUEUED, PENDING, RUNNING, "False BaseImagePullFailed", QUEUED, PENDING, RUNNING, DONE)
def fails_then_its_environment_is_mended(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails({"failure": {"reason": "BaseImagePullFailed", "message": "busybox can't be pulled"}})
    yield actor.is_told("False BaseImagePullFailed")
    actor.edits(registries=[{"host": "docker.io", "mirrors": ["mirror.example.com"]}])
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, "False SecretNotFound", RUNNING, DONE)
def misses_a_secret_that_appears(actor: Actor) -> Script:
    yield from to_pod(actor)
    actor.mounts('MountVolume.SetUp failed for volume "a" : secret "regcred" not found')
    yield actor.is_told("False SecretNotFound")
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, "False ConfigMapNotFound", RUNNING, DONE)
def misses_a_key_of_a_config_map(actor: Actor) -> Script:
    yield from to_pod(actor)
    actor.waits("CreateContainerConfigError", "couldn't find key version in ConfigMap default/args")
    yield actor.is_told("False ConfigMapNotFound")
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, "False SecretNotFound", PENDING, "False SecretNotFound", RUNNING, DONE)
def misses_a_secret_for_longer_than_it_may_take_to_start(actor: Actor) -> Script:
    yield from to_pod(actor, startTimeout="8s")
    words = 'MountVolume.SetUp failed for volume "a" : secret "regcred" not found'
    actor.mounts(words)
    yield actor.is_told("False SecretNotFound")
    yield actor.has_pod  # another one, with a new deadline
    actor.mounts(words)
    yield actor.is_told("False SecretNotFound")
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario("False InvalidSpec", QUEUED, PENDING, RUNNING, DONE)
def is_invalid_then_mended(actor: Actor) -> Script:
    actor.applies(podTemplate={"serviceAccountName": "admin"})
    yield actor.is_told("False InvalidSpec")
    actor.edits(podTemplate=None)
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, DONE, "False InvalidSpec", DONE)
def is_done_then_made_invalid_and_back(actor: Actor) -> Script:
    yield from pushes(actor)
    actor.edits(podTemplate={"serviceAccountName": "admin"})
    yield actor.is_told("False InvalidSpec")
    actor.edits(podTemplate=None)
    yield actor.is_told(DONE)


@scenario("False Suspended", QUEUED, PENDING, RUNNING, DONE)
def is_suspended_then_resumed(actor: Actor) -> Script:
    actor.applies(suspend=True)
    yield actor.is_told("False Suspended")
    actor.edits(suspend=False)
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, "False Cancelled")
def is_cancelled_as_it_runs(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.edits(cancelled=True)
    yield actor.is_told("False Cancelled")


@scenario("False Cancelled", QUEUED, PENDING, RUNNING, DONE)
def is_cancelled_from_the_start_then_wanted(actor: Actor) -> Script:
    actor.applies(cancelled=True)
    yield actor.is_told("False Cancelled")
    actor.edits(cancelled=False)
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, QUEUED, PENDING, RUNNING, DONE)
def is_replaced_as_it_runs(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.edits(target="other")
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, QUEUED, PENDING, RUNNING, DONE)
def is_queued_behind_the_build_that_runs(actor: Actor) -> Script:
    yield from to_running(actor, concurrencyPolicy="Queue")
    actor.edits(target="other")
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, DONE, QUEUED, PENDING, RUNNING, "False StepFailed")
def is_asked_for_again_and_fails(actor: Actor) -> Script:
    yield from pushes(actor)
    actor.annotates(**{"imagewright.dev/requestedAt": "later"})
    yield actor.is_told(PENDING)
    yield actor.has_pod
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.fails(STEP)
    yield actor.is_told("False StepFailed")


@scenario(QUEUED, PENDING, RUNNING, "Unknown PodEvicted", QUEUED, PENDING, RUNNING, DONE)
def is_evicted_and_retried(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(None, 137, reason="Evicted", message="The node was low on resource: memory.")
    yield actor.is_told("Unknown PodEvicted")
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, "False PodEvicted")
def is_evicted_once_too_often(actor: Actor) -> Script:
    yield from to_running(actor, retry={"limit": 0})
    actor.fails(None, 137, reason="Evicted", message="The node was low on resource: memory.")
    yield actor.is_told("False PodEvicted")


@scenario(QUEUED, PENDING, RUNNING, "Unknown NodeLost", QUEUED, PENDING, RUNNING, DONE)
def loses_its_node(actor: Actor) -> Script:
    yield from to_running(actor)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "a taint"}
    actor.fails(None, 137, conditions=[condition])
    yield actor.is_told("Unknown NodeLost")
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, "Unknown PodDeleted", QUEUED, PENDING, RUNNING, DONE)
def loses_its_pod(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.place.rest.delete(actor.place.path("pods", actor.pod["metadata"]["name"]))
    yield actor.is_told("Unknown PodDeleted")
    yield from pod_to_done(actor)


@scenario(QUEUED, PENDING, RUNNING, "Unknown PodEvicted", "False Cancelled")
def is_cancelled_between_two_attempts(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(None, 137, reason="Evicted", message="The node was low on resource: memory.")
    yield actor.is_told("Unknown PodEvicted")
    actor.edits(cancelled=True)
    yield actor.is_told("False Cancelled")


@scenario(QUEUED, PENDING, RUNNING, "False Timeout")
def takes_longer_than_the_operator_waits(actor: Actor) -> Script:
    yield from to_running(actor, timeout="3s")
    yield actor.is_told("False Timeout")


@scenario(QUEUED, PENDING, RUNNING, "False Timeout")
def takes_longer_than_the_kubelet_waits(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(None, 137, reason="DeadlineExceeded", message="Pod was active on the node longer than the deadline")
    yield actor.is_told("False Timeout")


@scenario(QUEUED, PENDING, RUNNING, "False OutOfMemory")
def runs_out_of_memory(actor: Actor) -> Script:
    yield from to_running(actor)
    status = ended_by("OOMKilled")
    actor.kubelet(status)
    yield actor.is_told("False OutOfMemory")


@scenario(QUEUED, PENDING, RUNNING, "Unknown NodeOutOfMemory", QUEUED, PENDING, RUNNING, DONE)
def is_killed_from_outside_and_retried(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.kubelet(ended_by("Error"))
    yield actor.is_told("Unknown NodeOutOfMemory")
    yield from pod_to_done(actor)


def ended_by(reason: str) -> Json:
    terminated = {"exitCode": 137, "reason": reason, "startedAt": "NOW", "finishedAt": "NOW"}
    state = {"terminated": terminated}
    executor = {"name": "executor", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Failed", "containerStatuses": [executor]}


@scenario(QUEUED, PENDING, RUNNING, "False DiskFull")
def fills_its_disk(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(None, 137, reason="Evicted", message='Usage of EmptyDir volume "work" exceeds the limit "1Gi". ')
    yield actor.is_told("False DiskFull")


@scenario(QUEUED, PENDING, RUNNING, "False InternalError")
def ends_without_a_report(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.fails(None, 1)
    yield actor.is_told("False InternalError")


@scenario(QUEUED, PENDING, "False ImagePullFailed", "False ImagePullFailed")
def cannot_pull_the_executor(actor: Actor) -> Script:
    yield from to_pod(actor, startTimeout="8s")
    actor.waits("ImagePullBackOff", 'Back-off pulling image "imagewright/executor"')
    yield actor.is_told("False ImagePullFailed")
    yield lambda: actor.lines()[-1].verdict == "Failed"


@scenario(QUEUED, PENDING, "False Unschedulable", RUNNING, DONE)
def finds_no_node_for_a_while(actor: Actor) -> Script:
    yield from to_pod(actor)
    actor.is_unscheduled("0/3 nodes are available: 3 Insufficient memory.")
    yield actor.is_told("False Unschedulable")
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, "False VolumePending", RUNNING, DONE)
def waits_for_a_volume(actor: Actor) -> Script:
    yield from to_pod(actor)
    actor.mounts('MountVolume.SetUp failed for volume "cache" : the claim is not bound')
    yield actor.is_told("False VolumePending")
    actor.starts()
    yield actor.is_told(RUNNING)
    actor.pushes()
    yield actor.is_told(DONE)


@scenario(QUEUED, PENDING, "False StartTimeout")
def never_starts(actor: Actor) -> Script:
    actor.applies(startTimeout="8s")
    yield actor.is_told("False StartTimeout")


@scenario(QUEUED, "False QuotaExceeded", PENDING, RUNNING, DONE)
def has_no_quota_for_a_while(actor: Actor) -> Script:
    place = actor.place
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/pods": "0"}}}
    place.rest.post(place.path("resourcequotas"), quota)
    used = {"status": {"hard": {"count/pods": "0"}, "used": {"count/pods": "0"}}}
    place.rest.merge(place.path("resourcequotas", "none") + "/status", used)  # no controller manager does it here
    actor.applies()
    yield actor.is_told("False QuotaExceeded")
    place.rest.delete(place.path("resourcequotas", "none"))
    yield from pod_to_done(actor)


@scenario(QUEUED, "False PodRejected")
def is_refused_by_pod_security(actor: Actor) -> Script:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    actor.place.rest.merge(f"/api/v1/namespaces/{actor.place.name}", {"metadata": {"labels": labels}})
    actor.applies()
    yield actor.is_told("False PodRejected")


@scenario(QUEUED, PENDING, RUNNING, QUEUED, PENDING, RUNNING, DONE)
def is_deleted_and_made_anew(actor: Actor) -> Script:
    yield from to_running(actor)
    actor.deletes()
    yield actor.is_gone
    actor.applies()
    yield from pod_to_done(actor)


@pytest.fixture(scope="module")
def played(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, list[list[Json]]]]:
    """All versions of every scenario, by object."""
    rest = Rest(api)
    run = uuid.uuid4().hex[:6]
    places = {name: DirectNamespace(api, rest, f"{name}-{run}"[-63:].lstrip("-")) for name in SCENARIOS}
    with operators_in(tmp_path_factory.mktemp("statuses")) as start, Recorder(rest) as recorder:
        start(api.kubeconfig("operator-token"))
        actors = {name: Actor("app", place, recorder) for name, place in places.items()}
        play({name: script(actors[name]) for name, (script, _) in SCENARIOS.items()}, actors)
    by_place: dict[str, list[list[Json]]] = {place.name: [] for place in places.values()}
    for versions in recorder.versions().values():
        namespace = versions[0]["metadata"]["namespace"]
        if namespace in by_place:
            by_place[namespace].append(versions)
    yield {name: by_place[place.name] for name, place in places.items()}
    for place in places.values():
        place.clear()
    rest.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_version_of_the_status_is_right(played: Mapping[str, list[list[Json]]], name: str) -> None:
    told: list[str] = []
    for versions in played[name]:
        found = problems(versions)
        lines = [str(Line.of(body)) for body in versions]
        print(f"{name}: {len(versions)} versions, {len(found)} wrong", *lines, sep="\n  ")
        assert not found
        assert lines[0].endswith("-> InProgress"), "read as done before it was looked at"
        last = ""
        for body in versions:
            for ready in (body["status"].get("conditions") or [])[:1]:
                says = f"{ready['status']} {ready['reason']} {kind(body)}"
                told += [f"{ready['status']} {ready['reason']}"] if says != last else []
                last = says
    assert tuple(told) == SCENARIOS[name][1]


def test_argo_cd_and_flux_agree_with_kstatus_on_every_version(played: Mapping[str, list[list[Json]]]) -> None:
    bodies = [body for objects in played.values() for versions in objects for body in versions]
    assert len(bodies) > 5 * len(SCENARIOS)
    found = [f"{Line.of(body)}: {words}" for body in bodies for words in disagreements(body)]
    assert not found


def kind(body: Json) -> str:
    """Which conditions there are: the same reason may first be waited for and then be the end."""
    return " ".join(one["type"] for one in body["status"]["conditions"])

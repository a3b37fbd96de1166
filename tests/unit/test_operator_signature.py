"""Signatures of Pods: what they cover, what webhooks may add all the same, and where the key comes from."""

from __future__ import annotations

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from imagebuilds.paper import Paper, result
from kubernetes import client
from servers.scripted import Answer, Asked, ScriptedServer

from imagewright.errors import UsageError
from imagewright_operator.api.envrules import is_reserved
from imagewright_operator.kubeapi.errors import ApiError
from imagewright_operator.pods.fingerprint import destinations, fingerprint, is_comparable
from imagewright_operator.pods.signature import SIGNATURE_ANNOTATION, Signer
from imagewright_operator.signingkey import KeySecret, SigningKey, key_of_file

Json = dict[str, Any]
SIGNER = Signer(b"k" * 32)
LOGIN = {"pushSecretRef": {"name": "regcred"}}


@pytest.fixture
def pod() -> Json:
    """A signed Pod of an ImageBuild, of two containers."""
    paper = Paper(output={"tags": ["reg.example.com/app:1"], **LOGIN})
    paper.settle()
    return copy.deepcopy(paper.pod())


def executor(pod: Json) -> Json:
    found: Json = next(one for one in pod["spec"]["containers"] if one["name"] == "executor")
    return found


def rename(pod: Json) -> None:
    pod["metadata"]["name"] += "0"


def give_to_another(pod: Json) -> None:
    pod["metadata"]["ownerReferences"][0]["uid"] = "other"


def move(pod: Json) -> None:
    pod["metadata"]["namespace"] = "other"


def claim_inputs(pod: Json) -> None:
    pod["metadata"]["annotations"]["imagewright.dev/inputs-hash"] = "v1-0"


@pytest.mark.parametrize("change", [rename, give_to_another, move, claim_inputs])
def test_a_signature_is_of_one_imagebuild_one_name_and_one_hash(pod: Json, change: Callable[[Json], None]) -> None:
    assert SIGNER.is_authentic(pod)
    assert SIGNER.is_unchanged(pod)
    assert not Signer(b"x" * 32).is_authentic(pod)
    change(pod)
    assert not SIGNER.is_authentic(pod)
    assert not SIGNER.is_unchanged(pod)


def test_a_pod_without_a_signature_is_not_authentic(pod: Json) -> None:
    given: list[Json | None] = [{}, None, {SIGNATURE_ANNOTATION: ""}, {SIGNATURE_ANNOTATION: "v1-é"}]
    for one in given:
        pod["metadata"]["annotations"] = one
        assert not SIGNER.is_authentic(pod)


CHANGES: dict[str, Callable[[Json], object]] = {
    "image": lambda pod: executor(pod).update(image="evil"),
    "image of the runner": lambda pod: pod["spec"]["containers"][0].update(image="evil"),
    "command": lambda pod: executor(pod).update(command=["/evil"]),
    "arguments": lambda pod: executor(pod).update(args=["evil"]),
    "request": lambda pod: executor(pod)["env"][0].update(value="evil"),
    "a second request": lambda pod: executor(pod)["env"].append({"name": "IMAGEWRIGHT_REQUEST", "value": "evil"}),
    "LD_PRELOAD": lambda pod: executor(pod)["env"].append({"name": "LD_PRELOAD", "value": "/evil.so"}),
    "working directory": lambda pod: executor(pod).update(workingDir="/evil"),
    "hook": lambda pod: executor(pod).update(lifecycle={"postStart": {"exec": {"command": ["evil"]}}}),
    "probe": lambda pod: executor(pod).update(livenessProbe={"exec": {"command": ["evil"]}}),
    "report": lambda pod: executor(pod).update(terminationMessagePath="/evil"),
    "mount in the engine's folder": lambda pod: executor(pod)["volumeMounts"].append({"name": "a", "mountPath": "/kaniko/x"}),
    "mount above it": lambda pod: executor(pod)["volumeMounts"].append({"name": "a", "mountPath": "/"}),
    "another volume in the engine's folder": lambda pod: executor(pod)["volumeMounts"][0].update(name="a"),
    "the workspace in another container": lambda pod: pod["spec"]["containers"].append(
        {"name": "a", "volumeMounts": [{"name": "imagewright-work", "mountPath": "/a"}]}
    ),
    "the workspace in an init container": lambda pod: pod["spec"].update(
        initContainers=[{"name": "a", "volumeMounts": [{"name": "imagewright-work", "mountPath": "/a"}]}]
    ),
    "shared processes": lambda pod: pod["spec"].update(shareProcessNamespace=True),
    "restarts": lambda pod: pod["spec"].update(restartPolicy="Always"),
    "report by the log": lambda pod: executor(pod).update(terminationMessagePolicy="FallbackToLogsOnError"),
    "variables of a ConfigMap": lambda pod: executor(pod).update(envFrom=[{"configMapRef": {"name": "evil"}}]),
    "a proxy": lambda pod: executor(pod)["env"].append({"name": "HTTPS_PROXY", "value": "http://evil"}),
    "more rights": lambda pod: executor(pod).update(securityContext={"privileged": True}),
    "a right not refused": lambda pod: executor(pod).update(securityContext={"allowPrivilegeEscalation": False}),
    "root": lambda pod: executor(pod).update(securityContext={"runAsUser": 0}),
    "more rights of the runner": lambda pod: pod["spec"]["containers"][0].update(securityContext={"privileged": True}),
    "more rights of the Pod": lambda pod: pod["spec"].update(securityContext={"sysctls": [{"name": "a", "value": "1"}]}),
    "a mount elsewhere": lambda pod: executor(pod)["volumeMounts"].append({"name": "a", "mountPath": "/etc/ssl"}),
    "a mount over the tokens": lambda pod: executor(pod)["volumeMounts"].append({"name": "a", "mountPath": "/var/run/secrets"}),
    "a token of the API": lambda pod: executor(pod)["volumeMounts"].append(
        {"name": "a", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    ),
    "a mount that leaves the tokens": lambda pod: executor(pod)["volumeMounts"].append(
        {"name": "a", "mountPath": "/var/run/secrets/../../../kaniko"}
    ),
    "a mount that can be written": lambda pod: executor(pod)["volumeMounts"][-1].update(readOnly=False),
    "propagation": lambda pod: executor(pod)["volumeMounts"][0].update(mountPropagation="Bidirectional"),
    "a raw device": lambda pod: executor(pod).update(volumeDevices=[{"name": "a", "devicePath": "/dev/a"}]),
    "the source of a volume": lambda pod: pod["spec"]["volumes"][-1].update(secret={"secretName": "evil"}),
    "the modes of a volume": lambda pod: pod["spec"]["volumes"][-1]["secret"].update(defaultMode=0o666),
    "a volume that no container mounts": lambda pod: pod["spec"]["volumes"].append(
        {"name": "imagewright-x", "secret": {"secretName": "evil"}}
    ),
    "the workspace in an ephemeral container": lambda pod: pod["spec"].update(
        ephemeralContainers=[{"name": "a", "volumeMounts": [{"name": "imagewright-work", "mountPath": "/a"}]}]
    ),
    "the node's network": lambda pod: pod["spec"].update(hostNetwork=True),
    "the node's processes": lambda pod: pod["spec"].update(hostPID=True),
    "the node's memory": lambda pod: pod["spec"].update(hostIPC=True),
    "the node's users": lambda pod: pod["spec"].update(hostUsers=True),
    "names of hosts": lambda pod: pod["spec"].update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["reg.example.com"]}]),
    "name servers": lambda pod: pod["spec"].update(dnsConfig={"nameservers": ["10.0.0.1"]}),
    "policy of name servers": lambda pod: pod["spec"].update(dnsPolicy="None"),
    "account": lambda pod: pod["spec"].update(serviceAccountName="evil"),
    "token": lambda pod: pod["spec"].update(automountServiceAccountToken=True),
    "variables of Services": lambda pod: pod["spec"].pop("enableServiceLinks"),
    "runtime": lambda pod: pod["spec"].update(runtimeClassName="evil"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_decides_what_a_pod_runs_is_in_its_fingerprint(pod: Json, change: Callable[[Json], object]) -> None:
    change(pod)
    assert SIGNER.is_authentic(pod), "it is still the operator's"
    assert not SIGNER.is_unchanged(pod)


ADDITIONS: dict[str, Callable[[Json], object]] = {
    "container": lambda pod: pod["spec"]["containers"].append({"name": "mesh", "image": "mesh"}),
    "init container": lambda pod: pod["spec"].update(initContainers=[{"name": "mesh", "image": "mesh"}]),
    "variable": lambda pod: executor(pod)["env"].append({"name": "AWS_ROLE_ARN", "value": "role"}),
    "volume": lambda pod: pod["spec"]["volumes"].append({"name": "token"}),
    "mount": lambda pod: executor(pod)["volumeMounts"].append({"name": "token", "mountPath": "/var/run/secrets/cloud"}),
    "label": lambda pod: pod["metadata"]["labels"].update(a="b"),
    "annotation": lambda pod: pod["metadata"]["annotations"].update(a="b"),
    "toleration": lambda pod: pod["spec"]["tolerations"].append({"key": "a"}),
    "resources": lambda pod: executor(pod).update(resources={"limits": {"cpu": "1"}}),
    "placement": lambda pod: pod["spec"].update(nodeSelector={"a": "b"}, priority=0, schedulerName="default-scheduler"),
    "pull secrets": lambda pod: pod["spec"].update(imagePullSecrets=[{"name": "a"}]),
    "defaults of a container": lambda pod: executor(pod).update(imagePullPolicy="Always", lifecycle=None),
    "defaults of a Pod": lambda pod: pod["spec"].update(
        dnsPolicy="ClusterFirst", serviceAccountName="default", serviceAccount="default", securityContext={}
    ),
    "defaults of another container": lambda pod: pod["spec"]["containers"][0].update(
        terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File"
    ),
    "a canonical size": lambda pod: pod["spec"]["volumes"][0].update(emptyDir={"sizeLimit": "1Gi"}),
}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_what_a_clusters_webhooks_add_is_not(pod: Json, add: Callable[[Json], object]) -> None:
    add(pod)
    assert SIGNER.is_unchanged(pod)


def test_a_fingerprint_of_another_version_is_not_compared(pod: Json) -> None:
    assert is_comparable(fingerprint(pod))
    assert not is_comparable("v1-" + "0" * 40)
    assert not is_comparable("")


def test_destinations_are_those_of_the_request_whatever_else_it_holds(pod: Json) -> None:
    assert destinations(pod) == ("reg.example.com/app:1",)
    variable = executor(pod)["env"][0]
    newer = {"output": {"destinations": ["a:1", "b:1"], "added": 1}, "added": {}}
    variable["value"] = base64.b64encode(json.dumps(newer).encode()).decode()
    assert destinations(pod) == ("a:1", "b:1")
    for broken in (
        "",
        "!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"output": {"destinations": 1}}').decode(),
        base64.b64encode(b"[" * 100_000).decode(),
    ):
        variable["value"] = broken
        assert destinations(pod) == ()
    executor(pod)["env"] = []
    assert destinations(pod) == ()
    assert destinations({"spec": {}}) == ()


def test_a_pod_recorded_by_another_version_of_the_fingerprint_is_believed_by_its_uid() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    paper.status["build"]["pod"]["fingerprint"] = "v0-1"
    paper.ends(result())
    paper.settle()
    assert paper.status["phase"] == "Succeeded"


def test_a_late_result_counts_only_of_a_recorded_attempt() -> None:
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    first = paper.pod()
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "gone"}
    paper.ends(exit_code=137, conditions=[disruption])
    paper.step()
    assert paper.status["build"]["attempt"] == 2
    assert paper.status["build"]["earlierPods"] == [{"uid": "pod-1", "fingerprint": fingerprint(first)}]
    copied = copy.deepcopy(first)
    copied["metadata"]["uid"] = "copy"
    paper.pods = {first["metadata"]["name"]: copied}
    paper.ends(result("sha256:" + "e" * 64), pod=copied)
    paper.step()
    assert "image" not in paper.status
    paper.pods = {first["metadata"]["name"]: first}
    paper.ends(result(), pod=first)
    paper.step()
    assert paper.status["image"]["digest"] == "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "name",
    [
        *("GIT_EXEC_PATH", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "OPENSSL_CONF", "OPENSSL_MODULES", "SSL_CERT_FILE"),
        *("SSL_CERT_DIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "HOME", "BASH_ENV"),
        *("IMAGEWRIGHT_REQUEST", "DOCKER_CONFIG", "GLIBC_TUNABLES", "GCONV_PATH", "SSH_AUTH_SOCK", "KANIKO_DIR"),
    ],
)
def test_variables_that_change_what_the_engine_runs_are_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "GIT_TOKEN", "GIT_PULL_METHOD", "AWS_REGION", "S3_ENDPOINT"])
def test_variables_of_logins_and_proxies_are_not(name: str) -> None:
    assert not is_reserved(name)


class Secrets:
    """An API server with one Secret, or none yet; ``rival`` is one that another operator creates first."""

    def __init__(self, data: Json | None = None, rival: Json | None = None) -> None:
        self.data, self.rival = data, rival
        self.server = ScriptedServer(self._answer)
        self.key = KeySecret(client.ApiClient(client.Configuration(host=f"http://{self.server.host}")), "system", "key")

    def _answer(self, asked: Asked) -> Answer:
        if asked.method == "POST":
            if self.rival is not None:
                self.data = self.rival
                return Answer(409, {}, b'{"message": "already exists"}')
            self.data = json.loads(asked.body)
        return Answer(200, {}, json.dumps(self.data).encode()) if self.data else Answer(404, {}, b"{}")


def secret(key: bytes) -> Json:
    return {"data": {"key": base64.b64encode(key).decode()}}


def test_the_first_operator_creates_the_key_and_all_others_read_it() -> None:
    api = Secrets()
    key = api.key.read()
    assert len(key) == 32
    assert api.data is not None
    assert api.data["immutable"] is True
    assert api.key.read() == key
    assert [asked.method for asked in api.server.asked] == ["GET", "POST", "GET"]
    api.server.close()


def test_of_two_operators_that_start_at_once_one_creates_the_key() -> None:
    api = Secrets(rival=secret(b"r" * 32))
    assert api.key.read() == b"r" * 32
    api.server.close()


@pytest.mark.parametrize("data", [{"metadata": {}}, secret(b"short"), {"data": {"key": "!"}}])
def test_a_secret_without_a_usable_key_is_an_error_that_says_what_to_do(data: Json) -> None:
    api = Secrets(data)
    key = SigningKey(api.key.read)
    with pytest.raises(
        ApiError, match=r'Secret "system/key".*no entry "key" of at least 32 bytes. Name another Secret'
    ):
        key.signer()
    api.data = secret(b"g" * 32)
    assert key.signer() is key.signer()
    api.server.close()


def test_a_mounted_key_must_be_readable_and_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(UsageError, match="cannot read IMAGEWRIGHT_SIGNING_KEY_FILE"):
        key_of_file(str(file))
    file.write_bytes(b"k" * 31)
    with pytest.raises(UsageError, match="it has 31 bytes") as caught:
        key_of_file(str(file))
    assert caught.value.hint.startswith("Mount a Secret")
    file.write_bytes(b"k" * 32)
    assert key_of_file(str(file)) == b"k" * 32


def test_the_operator_does_not_start_without_the_key_that_it_is_told_to_use(tmp_path: Path) -> None:
    cluster = {"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    users = [{"name": "a", "user": {}}]
    kubeconfig = {"current-context": "a", "clusters": [cluster], "contexts": [context], "users": users}
    (tmp_path / "config").write_text(json.dumps(kubeconfig))
    given = {"IMAGEWRIGHT_SIGNING_KEY_FILE": str(tmp_path / "key"), "KUBECONFIG": str(tmp_path / "config")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMAGEWRIGHT_", "KUBE"))}
    command = [sys.executable, "-m", "imagewright_operator"]
    done = subprocess.run(command, env={**kept, **given}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f'error: cannot read IMAGEWRIGHT_SIGNING_KEY_FILE "{tmp_path}/key": No such file' in done.stderr
    assert "hint: Mount a Secret" in done.stderr


def test_a_key_is_in_no_representation() -> None:
    assert "kkkk" not in repr(SIGNER)

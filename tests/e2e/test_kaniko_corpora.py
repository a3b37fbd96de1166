"""The corpora of hostile layers, archives, copies and programs in Pods of one container, as kaniko is run: in the
``root`` sandbox among mounted volumes, and as an ordinary user.

Each Pod builds all of its own, since a start of the engine costs more than most of them: those that make an image are
stages of one build; of those that are refused, one for each reason is a build of its own. The volumes' and the programs
are for the ``root`` sandbox alone: elsewhere nothing is mounted where images are built, and no program of the engine's
runs there.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from archives.hostile import Archive
from archives.tars import make_tar, of_line
from cluster.client import Cluster
from containers.programs import hostile_files
from imagebuilds.installation import image
from servers.git import GitServer, GitServerOptions

from imagewright.errors import FileSystemError
from imagewright.fs.layer.unpack import unpack_layer
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.reader import read_rest

pytestmark = [pytest.mark.root, pytest.mark.cluster]

HOSTILE = Path(__file__).parents[1] / "hostile"
ARCHIVES = json.loads((HOSTILE / "archives.json").read_text())
ATTACKS = json.loads((HOSTILE / "mounted-volumes.json").read_text())
VOLUMES = ("/data", "/srv/deep/volume", "/var/run/secrets/token")
TOKEN = "token-of-the-repository"
LARGE = 20_000  # bytes of a part of an archive, of which a tenth is enough to be refused
TYPES = "application/vnd.oci.image"
DRIVER = """
import json, os, re, subprocess, tarfile
tarfile.open("/corpus/cases.tar.gz").extractall("/cases", filter="data")
for volume in VOLUMES:
    os.makedirs(volume + "/sub")
    for name in ("/keep", "/sub/keep"):
        open(volume + name, "w").write("kept")
# Open, since a mount moves with the directories that an image replaces by links.
tops = [os.open(top, os.O_RDONLY) for top in (*VOLUMES, "/etc/config", "/kaniko/executor", "/imagewright/executor-image")]
def state():
    found = []
    for top in (f"/proc/self/fd/{number}/." if number in tops[:3] else f"/proc/self/fd/{number}" for number in tops):
        below = [os.path.join(at, name) for at, folders, files in os.walk(top) for name in folders + files]
        for path in (top, *sorted(below)):
            info = os.stat(path) if path == top else os.lstat(path)
            data = open(path, "rb").read() if os.path.isfile(path) else b""
            found.append((path, info.st_mode, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, data))
    return found
before = state()
for case in json.load(open("/cases/cases.json")):
    words = ["/kaniko/executor", "--no-push", "--work-dir=/cases/work", *case["flags"]]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    reasons = re.findall(r"^(?:error|.*ERROR).*\\[(\\w+)\\]$", done.stdout, re.MULTILINE)
    said = {"name": case["name"], "reason": reasons[-1] if reasons else "", "code": done.returncode}
    stolen = open("/kaniko/stolen").read() if os.path.exists("/kaniko/stolen") else ""
    found = {"kept": state() == before, "stolen": stolen, "log": done.stdout[-3000:]}
    print(json.dumps({**said, **found}), flush=True)
"""
RUN = 'RUN ["/bin/busybox", "touch", "/built"]\n'  # unpacks what is below it
# After the first RUN, which has the image's files replace the container's. The repository is fetched with a login.
PROGRAMS = """\
FROM busybox
COPY programs /
RUN true
ADD {0} /src
RUN --mount=type=ssh test -S $SSH_AUTH_SOCK && cp /src/file /seen
"""
# The sandbox that is taken, the container's security context, and what is built besides the archives.
PODS: dict[str, tuple[str, dict[str, Any], Sequence[Mapping[str, Any]]]] = {
    "root": ("root", {"seccompProfile": {"type": "RuntimeDefault"}}, ATTACKS),
    "user": ("namespace", {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True}, ()),
}


def _tar(lines: Sequence[str]) -> bytes:
    return make_tar(*map(of_line, lines))


def _layout(layers: Sequence[bytes]) -> Mapping[str, bytes]:
    """The files of an OCI layout with an image of these layers."""
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def keep(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"{TYPES}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]}
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{TYPES}.manifest.v1+json",
        "config": keep(json.dumps(config).encode(), "config.v1+json"),
        "layers": [keep(gzip.compress(data, 1, mtime=0), "layer.v1.tar+gzip") for data in layers],
    }
    index = {"schemaVersion": 2, "manifests": [keep(json.dumps(manifest).encode(), "manifest.v1+json")]}
    return {**files, "index.json": json.dumps(index).encode()}


def _bases(attacks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[bytes], Sequence[Mapping[str, Any]]]]:
    """The name of each entry, the layers of its base, and its further steps."""
    for entry in ARCHIVES:
        if "limits" not in entry:  # else those of the engine are others
            part = 0.1 if any(each.get("size", 0) > LARGE for each in entry["parts"] if each["times"] > 1) else 1
            stream = Archive(entry, part)
            yield entry["name"], [stream.read()], ()
    for attack in attacks:
        kinds = [next(iter(step)) for step in attack["steps"]]
        layers = [step for step in attack["steps"] if "layer" in step]
        if "remove" not in kinds and kinds[: len(layers)] == ["layer"] * len(layers):
            yield attack["name"], [_tar(step["layer"]) for step in layers], attack["steps"][len(layers) :]


def _instruction(step: Mapping[str, Any], folder: str, files: dict[str, bytes]) -> str:
    kind = next(iter(step))
    if kind == "workdir":
        return f"WORKDIR {step['workdir']}\n"
    if kind == "add":
        files[f"{folder}.tar"] = _tar(step["add"])
        return f"ADD {folder}.tar {step['to']}\n"
    for line in step[kind]:
        if " -> " in line:
            return f"COPY --from=links-{folder} / {step['to']}\n"
        name, _, data = line.partition(" = ")
        files[f"{folder}/{name}"] = data.encode()
    flag = "--link " if kind == "linked" else ""
    return f"COPY {flag}{folder}/{step.get('file', '')} {step['to']}\n"


def _refusal(layers: Sequence[bytes], root: Path) -> str:
    """The reason, "" if the layers can be unpacked."""
    root.mkdir()
    try:
        for layer in layers:
            stream = io.BytesIO(layer)
            unpack_layer(Rootfs(str(root)), stream)
            read_rest(stream, "the layer")
    except FileSystemError as error:
        return error.reason.value
    return ""


def _with_programs(folder: Path, repository: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a build of an image with hostile programs, which fetches a repository, and its case."""
    hostile_files(folder / "programs")
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    files = {f"context/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["context/programs.Dockerfile"] = PROGRAMS.format(repository).encode()
    files |= {"secret/header": f"bearer {TOKEN}".encode(), "secret/key": files.pop("context/key")}
    flags = ["--context=dir:///cases/context", "--dockerfile=programs.Dockerfile"]
    logins = ["--secret=id=GIT_AUTH_HEADER,src=/cases/secret/header", "--ssh=default=/cases/secret/key"]
    return files, {"name": "programs", "flags": [*flags, *logins]}


def corpus(attacks: Sequence[Mapping[str, Any]], folder: Path, repository: str) -> tuple[bytes, dict[str, str]]:
    """The archives and these attacks as a compressed tar, and the reasons for which they are refused."""
    folder.mkdir()
    files: dict[str, bytes] = {}
    stages, contexts, cases = "", [], []
    refused: dict[str, str] = {}
    program = f"COPY --from=busybox /bin/busybox /bin/busybox\n{RUN}"
    for number, (name, layers, steps) in enumerate(_bases(attacks)):
        files |= {f"base-{number}/{path}": data for path, data in _layout(layers).items()}
        context = f"--build-context=base-{number}=oci-layout:///cases/base-{number}"
        for at, step in enumerate(steps):
            links = [line for line in step.get(next(iter(step)), ()) if " -> " in line] if "copy" in step else []
            if links:
                linked = _layout([_tar(links)])
                files |= {f"links-{number}-{at}/{path}": data for path, data in linked.items()}
                contexts.append(f"--build-context=links-{number}-{at}=oci-layout:///cases/links-{number}-{at}")
        text = "".join(_instruction(step, f"{number}-{at}", files) for at, step in enumerate(steps))
        if reason := _refusal(layers, folder / str(number)):
            if reason in refused.values():
                continue  # a build of its own for each takes long
            files[f"context/{number}.Dockerfile"] = f"FROM base-{number}\n{program}".encode()
            flags = ["--context=dir:///cases/context", f"--dockerfile={number}.Dockerfile", context]
            cases.append({"name": name, "flags": flags})
            refused[name] = reason
        else:
            stages += f"# {name}\nFROM base-{number} AS stage-{number}\n{program}{text}"
            contexts.append(context)
    made = "".join(f"COPY --from=stage-{n} /built /{n}\n" for n in range(number + 1) if f"stage-{n}\n" in stages)
    files["context/Dockerfile"] = f"{stages}FROM scratch\n{made}".encode()
    files = {path if "/" in path and not path[0].isdigit() else f"context/{path}": data for path, data in files.items()}
    cases.append(
        {"name": "all others", "flags": ["--context=dir:///cases/context", "--compression-level=1", *contexts]}
    )
    if repository:  # the last, since a further engine would start with the image's library
        more, case = _with_programs(folder / "hostile", repository)
        files |= more
        cases.append(case)
    files["cases.json"] = json.dumps(cases).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o600 if path.startswith("secret/") else 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue(), dict.fromkeys((each["name"] for each in cases), "") | refused


def run(cluster: Cluster, namespace: str, name: str, cases: bytes) -> str:
    """The output of a Pod with these cases."""
    text = {"driver.py": f"VOLUMES = {VOLUMES!r}\n{DRIVER}", "config": "kept"}
    metadata = {"name": name, "namespace": namespace}
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text}
    cluster.apply({**content, "binaryData": {"cases.tar.gz": base64.b64encode(cases).decode()}})
    places = ["/cases", *VOLUMES]
    volumes: list[dict[str, Any]] = [{"name": f"v{number}", "emptyDir": {}} for number in range(len(places))]
    mounts: list[dict[str, Any]] = [{"name": f"v{number}", "mountPath": at} for number, at in enumerate(places)]
    container = {
        "name": name,
        "image": image(cluster, "executor"),
        "command": ["/imagewright/usr/bin/python3", "-I", "/corpus/driver.py"],
        "env": [
            {"name": "KANIKO_REGISTRY_MIRROR", "value": cluster.registry.host},
            {"name": "IMAGEWRIGHT_INSECURE_REGISTRY", "value": cluster.registry.host},
        ],
        "securityContext": PODS[name][1],
        "volumeMounts": [
            *mounts,
            {"name": "corpus", "mountPath": "/corpus"},
            {"name": "corpus", "mountPath": "/etc/config", "subPath": "config"},
        ],
    }
    volumes.append({"name": "corpus", "configMap": {"name": name}})
    return cluster.run_pod(name, "", namespace=namespace, container=container, volumes=volumes)


def test_hostile_images_harm_nothing(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    image(cluster, "executor")
    for name in ("repositories", "server"):
        (tmp_path / name).mkdir()
    host = cluster.host_address
    options = GitServerOptions(tmp_path / "repositories", tmp_path / "server", (host,), host, tls=False, bearer=TOKEN)
    with GitServer(options) as server, ThreadPoolExecutor() as pool:
        server.repository("repo.git").commit({"file": "of the repository\n"})
        repositories = {"root": server.url("repo.git")}
        made = {
            name: corpus(attacks, tmp_path / name, repositories.get(name, "")) for name, (_, _, attacks) in PODS.items()
        }
        logs = {name: pool.submit(run, cluster, namespace, name, cases) for name, (cases, _) in made.items()}
    for name, log in logs.items():
        refused = made[name][1]
        said = {one["name"]: one for one in map(json.loads, log.result().splitlines())}
        assert said.keys() == refused.keys()
        assert f"sandbox {PODS[name][0]}: " in next(iter(said.values()))["log"]
        for one in said.values():
            assert one["kept"], one["name"]
            assert one["stolen"] == "", one["name"]
            assert "Traceback" not in one["log"], one["log"]
            assert one["reason"] == refused[one["name"]], one["log"]
            assert bool(one["code"]) == bool(one["reason"]), one["log"]

"""The cases of RUN in real executor Pods, one for each sandbox mode and profile: the images are those recorded.

The Pod is the operator's for the profile; in it the cases are built by the command line, one after another, as in a CI
job's container. ``peers.flatten`` then checks the registry's content.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import rootfs
from cluster.client import Cluster
from cluster.machine import this_machine
from cluster.push import Image, Registry
from cluster.toolchain import find_go
from imagebuilds import many_builds
from imagebuilds.manifests import container
from peers.case import Case, all_cases
from peers.flatten import Layout, describe
from peers.station import flags_of

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import executor_pod
from imagewright_operator.settings import Profile, Settings

pytestmark = [pytest.mark.root, pytest.mark.cluster]

PYTHON = "/imagewright/usr/bin/python3"
CASES = [case for case in all_cases() if case.folder.name.startswith("run-") and (case.folder / "result.txt").exists()]
_CLOCK_S = 1.0  # file systems' clocks tick coarsely, and behind time.time()


DOCUMENT = Path(__file__).parents[3] / "docs" / "sandbox.md"
# Cases whose outcome is another one where nothing can be mounted, by the words of the document that say so.
_COPY = "what the command writes is lost. A copy can be written to even without `rw`"
_ON_DISK = "the folder on disk can have any size"
_NO_NETWORK = "needs the capability SYS_ADMIN in `root` and `chroot`, which the Pod doesn't have"
_NO_PROC = "| `/proc` | its own; in a Pod the container's [2] | the container's | none |"
_LEFT_ALONE = "in `root` also the paths that it doesn't touch"
_BY_OTHER_MEANS = {
    "run-mount-bind": _COPY,
    "run-mount-cache-readonly": _COPY,
    "run-mount-tmpfs": _ON_DISK,
    "run-mount-tmpfs-fraction": _ON_DISK,
    "run-mount-shared-memory": _ON_DISK,
    "run-network-none": _NO_NETWORK,
}
DIFFERS: dict[str, dict[str, str]] = {
    "namespace": {},
    "root": {
        **_BY_OTHER_MEANS,
        "run-mount-over-name-service": _LEFT_ALONE,
        "run-mount-shared-memory": _LEFT_ALONE,
    },
    "chroot": {**_BY_OTHER_MEANS, "run-network-host": _NO_PROC},
}


@dataclass(frozen=True, slots=True)
class PodVariant:
    """A Pod of ``profile`` that builds cases with ``--sandbox``, which results in ``mode``.

    Only every ``step``-th case is built: a second profile with the same mode does not need all of them.
    """

    profile: Profile
    sandbox: str
    mode: str
    step: int = 1


VARIANTS = {
    "userns": PodVariant(Profile.USERNS, "auto", "namespace"),
    "plain": PodVariant(Profile.PLAIN, "auto", "namespace", step=4),
    "hardened": PodVariant(Profile.HARDENED, "auto", "root"),
    "chroot": PodVariant(Profile.PLAIN, "chroot", "chroot"),
}


def test_known_differences_are_documented() -> None:
    text = " ".join(DOCUMENT.read_text().split())
    assert [words for cases in DIFFERS.values() for words in cases.values() if words not in text] == []


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_pod_builds_the_cases_of_run_as_recorded(
    cluster: Cluster, namespace: str, build_settings: dict[str, str], tmp_path: Path, variant: PodVariant
) -> None:
    cases = CASES[:: variant.step]
    assert len(cases) > 5
    since = time.time() - _CLOCK_S
    _start_pod(cluster, namespace, build_settings, variant.profile)
    repositories = {case.folder.name: f"{namespace}/{case.folder.name}" for case in cases}
    _publish(cluster, cases, repositories)
    results = _build_all(cluster, namespace, (cases, tmp_path), variant.sandbox)
    wrong = {}
    for case in cases:
        name = case.folder.name
        result = results[name]
        assert f"sandbox {variant.mode}:" in result["log"], result["log"]
        if result["code"]:
            text = _last_words(result["log"])
        else:
            text = describe(_pull(cluster, repositories[name], tmp_path / "layouts" / name), since)
        differs = text != case.expected("result.txt")
        if differs != (name in DIFFERS[variant.mode]):
            wrong[name] = text if differs else "it is as recorded, although docs/sandbox.md says otherwise"
    assert not wrong, "\n".join(f"--- {name}\n{text}" for name, text in wrong.items())


def _start_pod(cluster: Cluster, namespace: str, settings: dict[str, str], profile: Profile) -> None:
    """The operator's Pod for this profile, waiting instead of building."""
    body = {
        "metadata": {"name": "cases", "namespace": namespace, "uid": "none"},
        "spec": {"source": {"inline": {"dockerfile": "FROM scratch"}}, "output": {"tags": ["none/none"]}},
    }
    environment = {f"IMAGEWRIGHT_{name}": value for name, value in settings.items()}
    build = Build(id="0", inputs_hash="", attempt=1)
    pod = executor_pod(ImageBuild.parse(body), build, Settings.from_environment(environment), profile)
    pod["metadata"] = {"name": "cases", "namespace": namespace}
    executor = container(pod)
    executor |= {"command": [PYTHON, "-I", "-c", "import signal; signal.pause()"], "args": [], "env": []}
    pod["spec"] |= {"containers": [executor], "terminationGracePeriodSeconds": 1}
    cluster.apply(pod)
    cluster.kubectl("wait", "pod", "cases", "-n", namespace, "--for=condition=Ready", "--timeout=240s")


def _publish(cluster: Cluster, cases: Sequence[Case], repositories: Mapping[str, str]) -> None:
    """The images that cases describe, below a name of the case's own: two may describe the same one differently."""
    busybox = rootfs.layer(rootfs.busybox, this_machine(find_go()), {})
    registry = Registry(cluster.registry.host)
    for case in cases:
        for reference, platform in case.images():
            if reference.tag and not case.is_catalogued(reference.familiar()):
                image = Image((busybox,), case.image(reference.familiar()), platform.architecture)
                registry.push(image, f"{repositories[case.folder.name]}/{reference.repository}", [reference.tag])


def _build_all(
    cluster: Cluster, namespace: str, work: tuple[Sequence[Case], Path], sandbox: str
) -> dict[str, dict[str, Any]]:
    """What ``many_builds`` says of each case. ``work``: the cases, and a folder to lay them out in."""
    cases, folder = work
    host = cluster.registry.host
    builds = []
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for case in cases:
            name = case.folder.name
            case.lay_out(folder / "laid-out" / name)
            tar.add(folder / "laid-out" / name, name)
            place = Path(many_builds.FOLDER, name)
            flags = [
                "build", f"--context={place}/context", f"--destination={host}/{namespace}/{name}:built",
                f"--insecure-registry={host}", f"--registry-endpoint=docker.io={host}",
                f"--registry-map=docker.io={host}/{namespace}/{name}", "--work-dir=/kaniko/work",
                f"--sandbox={sandbox}", *flags_of(case, place),
            ]  # fmt: skip
            builds.append({"name": name, "flags": flags})
        listed = tarfile.TarInfo("builds.json")
        content = json.dumps(builds).encode()
        listed.size = len(content)
        tar.addfile(listed, io.BytesIO(content))
    command = [
        str(cluster.programs / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "exec", "-i", "cases", "-n", namespace,
        "--", PYTHON, "-I", "-c", Path(many_builds.__file__).read_text(),
    ]  # fmt: skip
    done = subprocess.run(command, input=archive.getvalue(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}


def _pull(cluster: Cluster, repository: str, folder: Path) -> Layout:
    folder.parent.mkdir(exist_ok=True)
    command = [
        "skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{cluster.registry.host}/{repository}:built",
        f"oci:{folder}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return Layout(folder)


def _last_words(log: str) -> str:
    found = re.search(r"^error: .*", log, re.MULTILINE | re.DOTALL)
    return found[0] if found else log[-2000:]

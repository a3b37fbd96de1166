"""kaniko as people run it: GitLab, Tekton, Jenkins, Argo, Cloud Build, Drone and others, unchanged but for the image's
name.

Each file of tests/invocations is applied as it is. What the cluster is told beside it: where registry.example.com and
Docker Hub are (variables, a certificate), as an administrator would say it once.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from archives.tars import tar_of
from cluster.client import Cluster
from cluster.places import ClusterError
from cluster.processes import eventually
from imagebuilds.installation import images
from servers.git import GitServer, GitServerOptions
from servers.registryclient import Client

from imagewright.contract.request import RegistrySettings
from imagewright.registry.auth import Login
from imagewright.registry.pull import RemoteImage

pytestmark = [pytest.mark.root, pytest.mark.cluster]

FOLDER = Path(__file__).parents[1] / "invocations"
FILES = {
    "Dockerfile": (
        "FROM busybox AS tools\nRUN echo tool >/tool\n"
        "FROM busybox AS app\nARG MESSAGE=none\nARG CI_COMMIT_SHORT_SHA\nLABEL message=$MESSAGE sha=$CI_COMMIT_SHORT_SHA\n"
        "COPY --from=tools /tool /tool\nCOPY main.sh /main.sh\n"
        "RUN mkdir -p /var/cache/x && echo x >/var/cache/x/y && echo made >/made\nUSER 1000\n"
        'CMD ["sh", "/main.sh"]\n'
    ),
    "Dockerfile.secret": (
        "FROM busybox\nRUN --mount=type=secret,id=NPM_TOKEN,env=NPM_TOKEN --mount=type=secret,id=token "
        'test "${#NPM_TOKEN}" = 16 && grep -q s3cr3t /run/secrets/token && echo ok >/ok\n'
    ),
    "main.sh": "echo it runs\n",
}
KANIKO = ("gcr.io/kaniko-project/", "ghcr.io/osscontainertools/kaniko")


@dataclass(frozen=True, slots=True)
class Expected:
    """``tags`` of registry.example.com were pushed.

    ``says`` is in the log, ``labels`` are the image's; ``layers`` is how many.
    """

    tags: tuple[str, ...]
    says: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    layers: int = 4  # busybox, two copies, what RUN made


TABLE: dict[str, Expected] = {
    "gitlab-ci": Expected(("gitlab/app:1.0",)),
    "gitlab-ci-cache": Expected(
        ("gitlab/cached:0123abcd", "gitlab/cached:latest"),
        ("--snapshot-mode has no effect here", "steps were cached in registry.example.com/gitlab/cached/cache"),
        {"sha": "0123abcd", "org.opencontainers.image.revision": "0123abcd"},
    ),
    "gitlab-ci-ca": Expected(("gitlab/ca:1",)),
    "gitlab-ci-spaces": Expected(("gitlab/spaces:1",), (), {"message": "a value with spaces"}),
    "tekton-task": Expected(("tekton/app:1",), ("registry.example.com/tekton/app:1@sha256:",)),
    "jenkins-pod": Expected(("jenkins/app:1",)),
    "argo-workflow": Expected(("argo/app:1",)),
    "cloud-build": Expected(("cloudbuild/app:1",), ("--cleanup has no effect here",)),
    "drone-plugin": Expected(
        ("drone/app:1.0.1", "drone/app:1.0", "drone/app:latest"), ("UNUSED",), {"message": "drone"}
    ),
    "job": Expected(("job/app:1",)),
    "scan-before-push": Expected(("scan/app:1",), ("manifest.json",)),
    "layout-and-login": Expected(("layout/app:1",), ("FF_KANIKO_SQUASH_STAGES: ", "layout/app@sha256:")),
    "single-snapshot": Expected(("arc/app:1",), ("--snapshot-mode has no effect here",), {}, 2),
    "secret-and-dryrun": Expected(("secret/app:1",), ("COPY --from=tools /tool /tool",), {}, 2),
    "warmed": Expected(("warmed/app:1",)),
    "standard-input": Expected(("stdin/app:1",)),
}


class Runner:
    """Runs invocations in a namespace, with what an administrator would have set up there."""

    def __init__(self, cluster: Cluster, namespace: str, executors: dict[str, str], git_host: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._executors = executors
        self._git_host = git_host

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin)

    def adapted(self, name: str) -> dict[str, Any]:
        """The object of a file with our image's name, and the addresses of this cluster."""
        text = (FOLDER / f"{name}.yaml").read_text().replace("git.example.com", self._git_host)
        (item,) = yaml.safe_load_all(text)
        spec = item["spec"]["template"]["spec"] if item["kind"] == "Job" else item["spec"]
        certificates = item["metadata"].pop("annotations", {}).get("test/certificates") != "none"
        private = self.cluster.private_registry
        variables = {
            "KANIKO_REGISTRY_MIRROR": self.cluster.registry.host,
            "IMAGEWRIGHT_INSECURE_REGISTRY": self.cluster.registry.host,
            "IMAGEWRIGHT_REGISTRY_ENDPOINT": f"registry.example.com={private.host}",
            "CI_REGISTRY_USER": private.username,
            "CI_REGISTRY_PASSWORD": private.password,
        }
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            image = container["image"]
            if not image.startswith(KANIKO):
                container["image"] = f"{self.cluster.registry.host}/library/{image}"
                continue
            container["image"] = self._executors["executor-debug" if "debug" in image else "executor"]
            container.setdefault("env", []).extend({"name": k, "value": v} for k, v in variables.items())
            if certificates:
                mount = {"name": "cluster-certificates", "mountPath": "/kaniko/ssl/certs"}
                container.setdefault("volumeMounts", []).append(mount)
        if certificates:
            spec["volumes"].append({"name": "cluster-certificates", "configMap": {"name": "authorities"}})
        found: dict[str, Any] = item
        return found

    def run(self, name: str) -> str:
        """Run one to its end; its log, of all containers."""
        item = self.adapted(name)
        text = (FOLDER / f"{name}.yaml").read_text()
        if "# stdin: tar" in text:
            return self._with_standard_input(item)
        self.kubectl("apply", "-f", "-", stdin=json.dumps(item))
        command = next((line[8:] for line in text.splitlines() if line.startswith("# exec: ")), "")
        if command:
            return self._executed(name, command)
        kind = item["kind"].lower()
        path = (
            "jsonpath={.status.phase}" if kind == "pod" else "jsonpath={.status.conditions[?(@.status=='True')].type}"
        )
        eventually(
            lambda: {"Succeeded", "Failed", "Complete"} & set(self.kubectl("get", kind, name, "-o", path).split()),
            f"{name} to end",
            problem=lambda: self.kubectl("describe", kind, name)[-2000:],
        )
        log = self.kubectl("logs", f"{kind}/{name}", "--all-containers")
        if "Failed" in self.kubectl("get", kind, name, "-o", path).split():
            raise ClusterError(f"{name} failed:\n{log}")
        return log

    def _executed(self, name: str, command: str) -> str:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=300s")
        try:
            return self.kubectl("exec", name, "--", "sh", "-c", f"{command} 2>&1")
        finally:
            self.kubectl("delete", "pod", name, "--wait=false")

    def _with_standard_input(self, item: dict[str, Any]) -> str:
        archive = gzip.compress(tar_of({name: content.encode() for name, content in FILES.items()}))
        overrides = json.dumps({"apiVersion": "v1", "spec": item["spec"]})
        name, image = item["metadata"]["name"], item["spec"]["containers"][0]["image"]
        command = [
            str(self.cluster.programs / "kubectl"), f"--kubeconfig={self.cluster.kubeconfig}", "-n", self.namespace, "run", name,
            "--rm", "--stdin=true", f"--image={image}", "--restart=Never", f"--overrides={overrides}", "--pod-running-timeout=5m",
        ]  # fmt: skip
        done = subprocess.run(command, input=archive, capture_output=True, check=False)
        log = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, log
        return log

    def pushed(self, tag: str) -> RemoteImage:
        private = self.cluster.private_registry
        settings = RegistrySettings(host=private.host, ca_file=str(private.authority))
        client = Client(settings, logins={private.host: Login(private.username, private.password)})
        return client.resolve(f"{private.host}/{tag}")


@pytest.fixture(scope="module")
def executors(cluster: Cluster) -> dict[str, str]:
    return images(cluster, ("executor", "executor-debug"))


@pytest.fixture
def git_server(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], GitServer]]:
    with contextlib.ExitStack() as stack:

        def start() -> GitServer:
            host = cluster.host_address
            options = GitServerOptions(tmp_path / "repositories", tmp_path / "state", hosts=(host,), bind=host)
            for path in (options.root, options.state):
                path.mkdir(parents=True)
            return stack.enter_context(GitServer(options))

        yield start


@pytest.fixture
def runner(
    cluster: Cluster, namespace: str, executors: dict[str, str], git_server: Callable[[], GitServer], tmp_path: Path
) -> Runner:
    server = git_server()
    server.repository("team/app.git").commit(FILES)
    runner = Runner(cluster, namespace, executors, server.url("").removeprefix("https://").strip("/"))
    private = cluster.private_registry
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    runner.kubectl("create", "configmap", "app", *(f"--from-file={tmp_path / name}" for name in FILES))
    runner.kubectl("create", "configmap", "authorities", f"--from-file=registry.crt={private.authority}",
                   f"--from-file=git.crt={server.ca_file}")  # fmt: skip
    runner.kubectl("create", "secret", "docker-registry", "regcred", "--docker-server=registry.example.com",
                   f"--docker-username={private.username}", f"--docker-password={private.password}")  # fmt: skip
    return runner


def test_every_invocation_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TABLE)
    assert len(TABLE) >= 15


@pytest.mark.parametrize("name", sorted(TABLE))
def test_an_invocation_of_kaniko_builds_with_another_image(runner: Runner, name: str) -> None:
    expected = TABLE[name]
    log = runner.run(name)
    for words in expected.says:
        assert words in log, log
    password = runner.cluster.private_registry.password
    for secret in (password, base64.b64encode(password.encode()).decode(), "s3cr3t-npm-token"):
        assert secret not in log
    found = [runner.pushed(tag) for tag in expected.tags]
    assert len({image.manifest.digest for image in found}) == 1
    for tag in expected.tags:  # of this run, and not of one before it
        assert f"registry.example.com/{tag}@{found[0].manifest.digest}" in log, log
    image = found[0]
    assert len(image.manifest.layers) == expected.layers, log
    labels = image.config.config.get("Labels") or {}
    assert expected.labels.items() <= labels.items()
    if name == "tekton-task":
        assert f"{image.manifest.digest}\nregistry.example.com/tekton/app:1@{image.manifest.digest}" in log
    if name == "argo-workflow":
        path = "jsonpath={.status.containerStatuses[0].state.terminated.message}"
        assert runner.kubectl("get", "pod", name, "-o", path) == str(image.manifest.digest)

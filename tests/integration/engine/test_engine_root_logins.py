"""In the one-container ``root`` sandbox an image takes the place of the files by which logins are found, and RUN can
rewrite the engine's own: logins are found before, and no program is started afterwards.

Clouds are the SDKs' own; where they would send their credentials, and the registry, are a server of the test.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.container import Container, empty_container, make_base
from servers.scripted import Answer, Asked, ScriptedServer

pytestmark = [pytest.mark.root]
STEAL = "#!/bin/sh\n{ echo stolen $0; /bin/busybox env; } >>/kaniko/stolen\nexit 1\n"
AMAZON = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
GOOGLE, AZURE = "eu.gcr.io", "team.azurecr.io"
USER = json.dumps({"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"})


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = empty_container(tmp_path / "container")
    make_base(made)
    (made.root / "root").mkdir()
    (made.root / "kaniko/.docker").mkdir()
    made.variables = {"DOCKER_CONFIG": "/kaniko/.docker", "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
    return made


class Registry:
    """Refuses every login but ``accepted``, ``""`` for all."""

    def __init__(self) -> None:
        self.accepted = ""
        self.logins: list[str] = []
        self.server = ScriptedServer(self._answer)

    def _answer(self, asked: Asked) -> Answer:
        kind, _, value = asked.authorization.partition(" ")
        if kind == "Basic":
            self.logins.append(base64.b64decode(value).decode())
        if self.logins and self.logins[-1] == self.accepted:
            return Answer(202 if asked.method == "POST" else 404, {"Location": "/v2/app/blobs/uploads/1"})
        return Answer(401, {"WWW-Authenticate": 'Basic realm="registry"'})


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    with made.server:
        yield made


def push(container: Container, registry: Registry, host: str, files: dict[str, str], dockerfile: str) -> None:
    """Build an image with these files, hidden at first from what looks for names that start with a dot."""
    context = container.context(dockerfile, {f"hostile/{name}": text for name, text in files.items()})
    for name in files:
        (container.root / "kaniko/context/hostile" / name).chmod(0o755)
    container.execute(
        context, "--no-push=false", f"--destination={host}/app:1", f"--registry-endpoint={host}={registry.server.host}",
        "--skip-push-permission-check",
    )  # fmt: skip


def stolen(container: Container) -> str:
    path = container.root / "kaniko/stolen"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("host", "files"),
    [
        (AMAZON, {"root/.aws/config": "[default]\ncredential_process = /bin/steal\n", "bin/steal": STEAL}),
        (GOOGLE, {"root/.config/gcloud/application_default_credentials.json": USER, "bin/gcloud": STEAL}),
        (AZURE, {"bin/az": STEAL}),
    ],
    ids=["amazon", "google", "azure"],
)
def test_no_sdk_starts_a_program_of_the_image(
    container: Container, registry: Registry, host: str, files: dict[str, str]
) -> None:
    push(container, registry, host, files, "FROM base\nCOPY hostile /\nRUN true\n")
    assert stolen(container) == ""
    assert "[RegistryAuthFailed]" in container.log, container.log


def test_a_login_of_a_cloud_is_found_before(container: Container, registry: Registry) -> None:
    """The image has another endpoint for the cloud, which would be sent this one's signature."""
    token = base64.b64encode(b"AWS:hunter2").decode()
    body = json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode()
    registry.accepted = "AWS:hunter2"
    config = "[default]\nendpoint_url = http://127.0.0.1:1\n"
    with ScriptedServer(lambda _: Answer(200, {}, body)) as cloud:
        container.variables |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        container.variables |= {"AWS_ENDPOINT_URL_ECR": f"http://{cloud.host}"}
        push(container, registry, AMAZON, {"root/.aws/config": config}, "FROM base\nCOPY hostile /\nRUN true\n")
        assert len(cloud.asked) == 1
    assert set(registry.logins) == {"AWS:hunter2"}


def helper(container: Container, registry: Registry, password: str) -> str:
    """A registry with a helper in /kaniko."""
    host = registry.server.host
    (container.root / "kaniko/.docker/config.json").write_text(json.dumps({"credHelpers": {host: "mine"}}))
    program = container.root / "imagewright/own/docker-credential-mine"
    program.parent.mkdir()
    answer = json.dumps({"Username": "me", "Secret": password})
    shutil.copy(str(shutil.which("busybox")), program.with_name("sh"))
    program.write_text(f"#!/imagewright/own/sh\necho '{answer}'\n")
    program.chmod(0o755)
    container.variables["PATH"] = f"/imagewright/own:{os.environ['PATH']}"
    return host


def test_a_helper_that_was_rewritten_is_not_asked_again(container: Container, registry: Registry) -> None:
    host = helper(container, registry, "before")
    rewrite = "RUN cp /steal /imagewright/own/docker-credential-mine && cp /steal /kaniko/docker-credential-mine\n"
    push(container, registry, host, {"steal": STEAL}, f"FROM base\nCOPY hostile /\n{rewrite}")
    assert stolen(container) == ""
    assert set(registry.logins) == {"me:before"}
    assert "[RegistryAuthFailed]" in container.log
    assert "are not asked again once an image has replaced the files of this container" in container.log


@pytest.mark.parametrize(
    "change", ["rm $F; busybox mkfifo $F", "echo '{}' >$F", "rm -r ${F%/*}", "ln -sf /dev/zero $F"]
)
@pytest.mark.parametrize("mounted", [True, False])
def test_a_config_that_was_rewritten(container: Container, registry: Registry, change: str, *, mounted: bool) -> None:
    """What RUN made of it is not waited for, and where nothing is mounted not even read."""
    host = registry.server.host
    login = base64.b64encode(b"me:before").decode()
    text = json.dumps({"auths": {host: {"auth": login}}})
    if mounted:
        container.volume("kaniko/.docker", {"config.json": text})
    else:
        (container.root / "kaniko/.docker/config.json").write_text(text)
    script = f"RUN F=/kaniko/.docker/config.json; {change} || true\n"
    push(container, registry, host, {"file": ""}, f"FROM base\nCOPY hostile /\n{script}")
    assert "[RegistryAuthFailed]" in container.log
    assert set(registry.logins) == {"me:before"}
    assert ("regular file" in container.log) is (mounted and change.startswith(("rm $F", "ln"))), container.log


def test_a_config_on_a_mount_is_read_again(container: Container, registry: Registry) -> None:
    """As the kubelet renews a Secret: through links in the mount."""
    host = registry.server.host
    old, new = (
        json.dumps({"auths": {host: {"auth": base64.b64encode(f"me:{word}".encode()).decode()}}})
        for word in ("before", "after")
    )
    folder = container.volume("kaniko/.docker", {"..1/config.json": old, "..2/config.json": new})
    (folder / "..data").symlink_to("..1")
    (folder / "config.json").symlink_to("..data/config.json")
    renew = "RUN ln -sfn ..2 /kaniko/.docker/..data\n"
    push(container, registry, host, {"file": ""}, f"FROM base\nCOPY hostile /\n{renew}")
    assert registry.logins[0] == "me:before"
    assert registry.logins[-1] == "me:after"

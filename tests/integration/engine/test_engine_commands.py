"""Other commands than build: push an archive or a layout, warm a cache of base images, log in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cluster.binaries import binaries
from servers.registry import RegistryServer, RegistryServerOptions

if TYPE_CHECKING:
    from conftest import Engine  # pytest gives it; only its name is needed here

pytestmark = [pytest.mark.root, pytest.mark.registry]

DOCKERFILE = "FROM busybox\nRUN echo a >/a\nLABEL a=b\n"


def imagewright(*words: str, stdin: str = "", env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagewright", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env={**os.environ, **env})
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_an_archive_and_a_layout_are_pushed(engine: Engine) -> None:
    archive = engine.folder / "image.tar"
    built = engine.image(DOCKERFILE, {}, "--no-push", f"--tar-path={archive}", "--image-format=docker")
    for source, tag in ((archive, "archive"), (built.layout, "layout")):
        name = f"{engine.host}/pushed/app:{tag}"
        digests = engine.folder / f"digests-{tag}"
        done = imagewright("push", str(source), f"--destination={name}", f"--image-name-tag-with-digest-file={digests}")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{name}@{built.digest}\n", "the same image, by its digest"
        assert digests.read_text() == f"{name}@{built.digest}\n"
        again = engine.image(f"FROM {name}\nRUN cat /a\n")
        assert again.manifest["layers"][: len(built.manifest["layers"])] == built.manifest["layers"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b broken"])
def test_push_of_something_else_than_an_image_fails(engine: Engine, content: bytes) -> None:
    file = engine.folder / "file"
    file.write_bytes(content)
    done = imagewright("push", str(file), f"--destination={engine.host}/pushed/app:1")
    assert done.returncode != 0
    assert "as a docker-archive: " in done.stderr
    missing = imagewright("push", str(engine.folder / "none"), f"--destination={engine.host}/pushed/app:1")
    assert "cannot find image" in missing.stderr


def layers_asked_for(registry: RegistryServer, since: int) -> list[str]:
    lines = registry.log.read_text().splitlines()[since:]
    return [m[0] for line in lines if (m := re.search(r'"GET /v2/library/busybox/blobs/sha256:\w+', line))]


def test_only_a_damaged_layer_of_a_warmed_base_is_downloaded(bases: RegistryServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "context").mkdir()
    dockerfile = tmp_path / "context" / "Dockerfile"
    dockerfile.write_text("ARG TAG=none\nFROM busybox:$TAG\nRUN echo a >/a\n")
    hub = f"--registry-endpoint=docker.io={bases.host}"
    warmed = imagewright(
        "warm", f"--dockerfile={dockerfile}", "--build-arg=TAG=latest", f"--cache-dir={cache}", hub, "--force",
        "--customPlatform=linux/amd64",
    )  # fmt: skip
    assert warmed.returncode == 0, warmed.stderr
    assert "busybox:latest (linux/amd64) is sha256:" in warmed.stderr
    assert "--force has no effect here" in warmed.stderr
    assert "--customPlatform is deprecated: use --custom-platform" in warmed.stderr
    build = [
        "build", f"--context={tmp_path / 'context'}", "--build-arg=TAG=latest", "--no-push", f"--cache-dir={cache}", hub,
        f"--tar-path={tmp_path / 'image.tar'}", "--reproducible",
    ]  # fmt: skip
    before = len(bases.log.read_text().splitlines())
    done = imagewright(*build)
    assert done.returncode == 0, done.stderr
    assert len(layers_asked_for(bases, before)) == 1, "the configuration alone"
    for blob in (cache / "images" / "blobs" / "sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.write_bytes(b"x" * blob.stat().st_size)
    before = len(bases.log.read_text().splitlines())
    again = imagewright(*build)
    assert again.stdout == done.stdout
    assert len(layers_asked_for(bases, before)) > 1


def test_log_flags_of_push_and_warm(bases: RegistryServer, tmp_path: Path) -> None:
    warm = ("warm", f"--cache-dir={tmp_path}", f"--image={bases.host}/library/busybox", "--force")
    lines = imagewright(*warm, "--log-format=json").stderr.splitlines()
    assert {json.loads(line)["level"] for line in lines} == {"info", "warning"}
    assert imagewright(*warm, "--verbosity=error").stderr == ""
    push = ("push", str(tmp_path / "images"), f"--destination={bases.host}/pushed:1")
    done = imagewright(*push, "--log-format=json")
    assert done.returncode == 0, done.stderr
    assert any("pushed" in json.loads(line)["msg"] for line in done.stderr.splitlines())
    for command in (warm, push):
        assert "--log-format value" in imagewright(*command, "--log-format=xml").stderr


def test_warm_needs_an_image_and_a_folder(tmp_path: Path) -> None:
    done = imagewright("warm", f"--cache-dir={tmp_path}")
    assert done.returncode == 2
    assert "no image to download" in done.stderr


def test_login_writes_what_a_build_reads(tmp_path: Path) -> None:
    options = RegistryServerOptions(tmp_path / "state", binaries() / "registry", username="me", password="hunter2")
    folder = tmp_path / "docker"
    folder.mkdir()
    kept = {"credHelpers": {"other.example.com": "pass"}, "auths": {"a.example.com": {"auth": "eDp5"}}}
    (folder / "config.json").write_text(json.dumps(kept))
    env = {"DOCKER_CONFIG": str(folder)}
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    with RegistryServer(options) as registry:
        words = ["build", f"--context={tmp_path / 'context'}", f"--destination={registry.host}/app:1"]
        assert imagewright(*words, env=env).returncode == 5
        done = imagewright("login", registry.host, "-u", "me", "--password-stdin", stdin="hunter2\n", env=env)
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        pushed = imagewright(*words, env=env)
        assert pushed.returncode == 0, pushed.stderr
    written = json.loads((folder / "config.json").read_text())
    assert written["credHelpers"] == kept["credHelpers"]
    assert written["auths"]["a.example.com"] == {"auth": "eDp5"}
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.example.com"], "no --username given"),
        (["a.example.com", "-u", "me"], "exactly one of --password and --password-stdin"),
        (
            ["a.example.com", "-u", "me", "-p", "x", "--password-stdin"],
            "exactly one of --password and --password-stdin",
        ),
        (["a.example.com", "-u", "me", "--password-stdin"], "the password is empty"),
        (["a.example.com", "b.example.com", "-u", "me", "-p", "x"], "more than one registry given"),
    ],
)
def test_an_invalid_login_is_refused(words: list[str], says: str, tmp_path: Path) -> None:
    done = imagewright("login", *words, env={"DOCKER_CONFIG": str(tmp_path)})
    assert done.returncode == 2
    assert says in done.stderr
    assert not list(tmp_path.iterdir())

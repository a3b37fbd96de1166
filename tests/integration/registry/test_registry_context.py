"""A context that is an artifact in a real registry: over TLS, by its own login, and artifacts of other kinds."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from archives.tars import tar_of
from servers.registry import RegistryServer

pytestmark = pytest.mark.registry


def archive(path: Path, name: str, content: bytes) -> Path:
    path.write_bytes(gzip.compress(tar_of({name: content})))
    return path


def login(folder: Path, registry: RegistryServer, password: str) -> Path:
    folder.mkdir()
    auth = base64.b64encode(f"{registry.options.username}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    return folder


def plan(registry: RegistryServer, tag: str, config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagewright", "plan", f"--context=oci://{registry.host}/{tag}"]
    environment = {**os.environ, "SSL_CERT_FILE": str(registry.ca_file), "DOCKER_CONFIG": str(config)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_context_out_of_a_private_registry(private_registry: RegistryServer, programs: Path, tmp_path: Path) -> None:
    config = login(tmp_path / "docker", private_registry, private_registry.options.password)
    first = archive(tmp_path / "first.tar.gz", "Dockerfile", b"FROM scratch\nLABEL it=came\n")
    second = archive(tmp_path / "second.tar.gz", "more", b"")
    environment = {**os.environ, "SSL_CERT_FILE": str(private_registry.ca_file), "DOCKER_CONFIG": str(config)}
    for tag, files in (("one:1", [first]), ("two:1", [first, second])):
        layers = [word for file in files for word in ("--new_layer", str(file))]
        command = [programs / "crane", "append", *layers, "--new_tag", f"{private_registry.host}/contexts/{tag}"]
        pushed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert pushed.returncode == 0, pushed.stderr
    planned = plan(private_registry, "contexts/one:1", config)
    assert planned.returncode == 0, planned.stderr
    assert "came" in planned.stdout
    two = plan(private_registry, "contexts/two:1", config)
    assert "it has 2 layers instead of one [SourceFetchFailed]" in two.stderr
    assert "[FileNotFound]" in plan(private_registry, "contexts/none:1", config).stderr
    refused = plan(private_registry, "contexts/one:1", login(tmp_path / "wrong", private_registry, "hunter2"))
    assert "[RegistryAuthFailed]" in refused.stderr
    assert "hunter2" not in refused.stderr

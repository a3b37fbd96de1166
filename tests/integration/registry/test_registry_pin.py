"""``imagewright pin`` against a real registry: digests are those of the index, files change in place or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from servers.registry import RegistryServer

pytestmark = pytest.mark.registry

OCI = "application/vnd.oci.image."
LEFT = "FROM ${BASE}\n"


def put(host: str, path: str, content: bytes, kind: str) -> str:
    request = urllib.request.Request(f"http://{host}/v2/{path}", content, {"Content-Type": kind}, method="PUT")
    with urllib.request.urlopen(request) as answer:
        digest: str = answer.headers["Docker-Content-Digest"]
        return digest


def publish(host: str, name: str, tag: str, note: str) -> str:
    """An index of no image, which is all that is looked at; its digest."""
    index = {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": [], "annotations": {"note": note}}
    return put(host, f"{name}/manifests/{tag}", json.dumps(index).encode(), f"{OCI}index.v1+json")


@pytest.fixture
def host(registry: RegistryServer) -> str:
    return registry.host


def run(host: str, folder: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagewright", "pin", f"--registry-endpoint=docker.io={host}", *words]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_file_is_pinned_in_place_and_again_only_on_request(host: str, tmp_path: Path) -> None:
    old = publish(host, "library/one", "1", "old")
    file = tmp_path / "real" / "Dockerfile"
    file.parent.mkdir()
    file.write_bytes(b"# one\r\nFROM one:1\r\nFROM one:1 AS x\r\nCOPY --from=one:1 / /\r\n")
    file.chmod(0o640)
    link = tmp_path / "Dockerfile"
    link.symlink_to("real/Dockerfile")
    done = run(host, tmp_path)
    assert done.returncode == 0, done.stderr
    pinned = f"# one\r\nFROM one:1@{old}\r\nFROM one:1@{old} AS x\r\nCOPY --from=one:1@{old} / /\r\n".encode()
    assert file.read_bytes() == pinned
    assert done.stdout.splitlines()[0] == f"Dockerfile:2:1: FROM one:1 is now one:1@{old}"
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["Dockerfile"]
    new = publish(host, "library/one", "1", "new")
    assert run(host, tmp_path).stdout == ""
    assert file.read_bytes() == pinned
    assert run(host, tmp_path, "--update", "Dockerfile").returncode == 0
    assert file.read_bytes() == pinned.replace(old.encode(), new.encode())


def test_check_changes_nothing_and_tells_by_its_exit_code(host: str, tmp_path: Path) -> None:
    digest = publish(host, "library/two", "latest", "x")
    (tmp_path / "a").write_text("FROM two\n")
    (tmp_path / "b").write_text(f"ARG BASE\n{LEFT}FROM two:latest@{digest}\n")
    done = run(host, tmp_path, "--check", "a", "b")
    assert done.returncode == 3
    assert done.stdout == f"a:1:1: FROM two would become two:latest@{digest}\n"
    assert re.search(r"b:2\S*: FROM \$\{BASE\} is not pinned: it contains variables", done.stderr)
    assert (tmp_path / "a").read_text() == "FROM two\n"
    assert run(host, tmp_path, "--check", "b").returncode == 0
    assert run(host, tmp_path, "a", "b").returncode == 0
    assert run(host, tmp_path, "--check", "--update", "a", "b").returncode == 0


@pytest.mark.parametrize("image", ['"two:1"', "t\\\nwo:1", "Two"])
def test_check_counts_what_has_to_be_pinned_by_hand(host: str, tmp_path: Path, image: str) -> None:
    publish(host, "library/two", "1", "x")
    (tmp_path / "a").write_text(f"FROM {image}\n")
    assert run(host, tmp_path, "--check", "a").returncode == 3
    assert run(host, tmp_path, "a").returncode == 0
    assert (tmp_path / "a").read_text() == f"FROM {image}\n"


def test_standard_input_becomes_standard_output(host: str, tmp_path: Path) -> None:
    digest = publish(host, "library/three", "3", "x")
    done = run(host, tmp_path, "-", stdin=b"FROM three:3\n")
    assert done.stdout == f"FROM three:3@{digest}\n"
    assert "FROM three:3 is now" in done.stderr


def test_an_image_that_is_not_there_leaves_every_file_alone(host: str, tmp_path: Path) -> None:
    publish(host, "library/four", "1", "x")
    (tmp_path / "a").write_text("FROM four:1\n")
    (tmp_path / "b").write_text("FROM scratch\nCOPY --from=nowhere:1 / /\n")
    done = run(host, tmp_path, "a", "b")
    assert done.returncode != 0
    assert "b:2" in done.stderr
    assert "nowhere:1: not found in" in done.stderr
    assert (tmp_path / "a").read_text() == "FROM four:1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "cannot read nowhere: No such file"),
        (["."], "cannot read .: Is a directory"),
        (["--pull"], "unknown flag --pull"),
    ],
)
def test_what_can_not_be_meant_is_told(host: str, tmp_path: Path, words: list[str], said: str) -> None:
    done = run(host, tmp_path, *words)
    assert done.returncode != 0
    assert said in done.stderr


def test_help_lists_its_flags(host: str, tmp_path: Path) -> None:
    done = run(host, tmp_path, "--help")
    assert "--update" in done.stdout
    assert "--registry-mirror" in done.stdout
    assert "--secret" not in done.stdout

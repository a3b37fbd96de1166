"""scripts/release, whole, in a checkout of its own: its files, what it pushes, and that both can be installed.

Only the images are smaller: the Dockerfile's targets without RUN. The real ones are built in the quickstart's tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import pytest
import yaml
from imagebuilds.apiserver import ApiServer
from imagebuilds.rendered import objects
from installing.helm import Helm
from servers.registry import RegistryServer

ROOT = Path(__file__).parents[3]
PARTS: tuple[str, ...] = (
    "builder",
    "operator",
    "tests/cluster",
    "tests/installing",
    "tests/quickstart",
    "tests/releasing",
    "tests/times",
)
PARTS += ("crds", "deploy", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
DOCKERFILE = "".join(
    f"FROM scratch AS {name}\nCOPY LICENSE /{name}\n" for name in ("executor", "executor-debug", "operator")
)
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
assert VERSION is not None
V = VERSION[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clean one of the present files, with notes for the version."""
    folder = tmp_path / "checkout"
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {V} (2026-12-01)\n\n- New.\n\n## 0.0.1\n\n- Old.\n"
    )
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=x")


def release(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout / "tests"), "DOCKER_CONFIG": "/nonexistent"}
    command = [sys.executable, "-m", "releasing", *words]
    return subprocess.run(command, cwd=checkout, check=False, capture_output=True, text=True, env=environment)


def catalog(registry: RegistryServer) -> list[str]:
    with urllib.request.urlopen(f"http://{registry.host}/v2/_catalog") as answer:
        return list(json.load(answer)["repositories"])


@pytest.mark.usefixtures("helm")
def test_a_dry_run_makes_every_file_and_pushes_nothing(checkout: Path, registry: RegistryServer) -> None:
    done = release(checkout, V, f"--registry={registry.host}/dry", "--insecure", "--dry-run")
    assert done.returncode == 0, done.stderr
    dist = checkout / "dist" / V
    names = {f"imagewright-{V}-py3-none-any.whl", f"imagewright-{V}.tar.gz", f"imagewright-chart-{V}.tgz"}
    names |= {"install.yaml", "images.txt", "RELEASE_NOTES.md", "SHA256SUMS"}
    assert {file.name for file in dist.iterdir() if file.is_file()} == names
    assert subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, check=False).returncode == 0
    assert len((dist / "SHA256SUMS").read_text().splitlines()) == len(names) - 1
    assert (dist / "RELEASE_NOTES.md").read_text() == "- New.\n"
    with zipfile.ZipFile(dist / f"imagewright-{V}-py3-none-any.whl") as wheel:
        assert {"imagewright/errors.py", "imagewright_operator/__main__.py"} <= set(wheel.namelist())
    with tarfile.open(dist / f"imagewright-{V}.tar.gz") as sdist:
        assert f"imagewright-{V}/pyproject.toml" in sdist.getnames()
    told = done.stdout.partition("Would push:\n")[2].split()
    base = f"{registry.host}/dry"
    assert told == [f"{base}/{name}:{V}" for name in ("executor", "executor-debug", "operator", "charts/imagewright")]
    assert not [name for name in catalog(registry) if name.startswith("dry/")]


def test_what_is_pushed_can_be_pulled_and_installed(
    checkout: Path, registry: RegistryServer, helm: Helm, api: ApiServer, tmp_path: Path
) -> None:
    base = f"{registry.host}/imagewright"
    done = release(checkout, V, f"--registry={base}", "--insecure")
    assert done.returncode == 0, done.stderr
    dist = checkout / "dist" / V
    digests = dict(
        re.findall(rf"^{base}/([\w-]+):{V}@(sha256:\w+) linux/", (dist / "images.txt").read_text(), re.MULTILINE)
    )
    assert set(digests) == {"executor", "executor-debug", "operator"}
    for name, digest in digests.items():
        assert f"{base}/{name}:{V}@{digest}" in done.stdout
        url = f"http://{registry.host}/v2/imagewright/{name}/manifests/{V}"
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as answer:
            assert answer.headers["Docker-Content-Digest"] == digest

    pulled = helm(
        "pull", f"oci://{base}/charts/imagewright", f"--version={V}", "--plain-http", f"--destination={tmp_path}"
    )
    assert pulled.returncode == 0, pulled.stderr
    chart = tmp_path / f"imagewright-{V}.tgz"
    assert chart.read_bytes() == (dist / f"imagewright-chart-{V}.tgz").read_bytes()
    rendered = helm("template", "imagewright", str(chart))
    assert rendered.returncode == 0, rendered.stderr
    assert f"image: {base}/operator:{V}" in rendered.stdout.replace('"', "")
    assert f"{base}/executor:{V}" in rendered.stdout

    manifest = (dist / "install.yaml").read_text()
    applied = api.try_kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifest)
    assert applied.returncode == 0, applied.stderr
    found = objects(manifest)
    kinds = {kind for kind, _, _ in found}
    assert {"Namespace", "CustomResourceDefinition", "Deployment", "ClusterRole"} <= kinds
    (deployment,) = (one for one in found.values() if one["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"{base}/operator@{digests['operator']}"
    settings = next(one["data"] for one in found.values() if "IMAGEWRIGHT_EXECUTOR_IMAGE" in one.get("data", {}))
    assert settings["IMAGEWRIGHT_EXECUTOR_IMAGE"] == f"{base}/executor@{digests['executor']}"


def test_what_is_not_that_release_is_refused(checkout: Path) -> None:
    def refused(version: str = V) -> str:
        done = release(checkout, version, "--registry=registry.example.com/imagewright", "--dry-run")
        assert done.returncode == 1
        assert not (checkout / "dist").exists()
        return done.stderr

    assert f'cannot release 9.9.9: pyproject.toml has version "{V}"' in refused("9.9.9")
    (checkout / "LICENSE").write_text("x")
    assert f"cannot release {V}: the checkout has uncommitted changes:\n M LICENSE" in refused()
    chart = checkout / "deploy/helm/imagewright/Chart.yaml"
    whole = chart.read_text()
    chart.write_text(whole.replace(f"appVersion: {V}", "appVersion: 0.0.1"))
    commit(checkout)
    assert f'cannot release {V}: appVersion of Chart.yaml is "0.0.1"' in refused()
    chart.write_text(whole)
    (checkout / "CHANGELOG.md").write_text(f"## Unreleased\n\n- New.\n\n## {V}\n\n## 0.0.1\n\n- Old.\n")
    commit(checkout)
    assert f'cannot release {V}: CHANGELOG.md has no section "## {V}"' in refused()


def test_the_version_is_that_of_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/imagewright/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (V, V)

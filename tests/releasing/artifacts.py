"""Makes the artifacts of a release in one folder, and pushes those that go to a registry.

Runs hatchling, the engine of this checkout, helm and kubectl.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import binaries
from cluster.places import ClusterError
from cluster.progress import step
from installing import programs
from quickstart.images import build
from quickstart.install import write_overlay
from releasing.checkout import CHART, ROOT, commit_time

from imagewright.oci.platform import host_platform

TARGETS = ("executor", "executor-debug", "operator")


@dataclass(frozen=True, slots=True)
class Registry:
    """``repository`` is HOST/PATH. ``pull_flags`` are the engine's, for reaching base images."""

    repository: str
    insecure: bool = False
    pull_flags: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.repository.partition("/")[0]

    @property
    def flags(self) -> tuple[str, ...]:
        """The engine's flags."""
        return (*self.pull_flags, *([f"--insecure-registry={self.host}"] if self.insecure else []))

    @property
    def charts(self) -> str:
        return f"{self.repository}/charts"


@dataclass(frozen=True, slots=True)
class Release:
    """``dist`` gets the files; images wait in OCI layouts below ``dist/images``."""

    version: str
    dist: Path
    registry: Registry

    def image(self, target: str) -> str:
        return f"{self.registry.repository}/{target}:{self.version}"

    def layout(self, target: str) -> Path:
        return self.dist / "images" / target

    @property
    def chart(self) -> Path:
        return self.dist / f"imagewright-chart-{self.version}.tgz"


def make(release: Release, notes: str) -> None:
    """Everything that is a file, in an empty folder.

    Raises:
        ClusterError: with what the program said that failed.
    """
    shutil.rmtree(release.dist, ignore_errors=True)
    release.dist.mkdir(parents=True)
    with step("Building wheel and sdist", "seconds"):
        _run(sys.executable, "-m", "hatchling", "build", "-d", str(release.dist), SOURCE_DATE_EPOCH=commit_time())
    digests = {target: build_image(release, target) for target in TARGETS}
    shutil.rmtree(release.dist / ".cache", ignore_errors=True)
    with step("Packaging the chart and the manifest", "seconds"):
        package_chart(release)
        write_manifest(release, digests)
    (release.dist / "RELEASE_NOTES.md").write_text(notes, encoding="utf-8")
    lines = [f"{release.image(target)}@{digest} {host_platform()}\n" for target, digest in digests.items()]
    (release.dist / "images.txt").write_text("".join(lines))
    write_checksums(release.dist)


def build_image(release: Release, target: str) -> str:
    """Into an OCI layout; its digest. The stages that images share are built once: their layers are cached."""
    digest = release.dist / f".{target}-digest"
    release.layout(target).parent.mkdir(exist_ok=True)
    flags = ["--context", str(ROOT), "--target", target, "--destination", release.image(target), "--no-push"]
    flags += ["--oci-layout-path", str(release.layout(target)), "--digest-file", str(digest)]
    flags += ["--cache", f"--cache-repo=oci:{release.dist / '.cache'}", *release.registry.flags]
    with step(f"Building the {target} image with the engine itself", "a minute"):
        build(flags)
    found = digest.read_text().strip()
    digest.unlink()
    return found


def package_chart(release: Release) -> None:
    """The chart with this release's images as the defaults of its values."""
    with tempfile.TemporaryDirectory(prefix="imagewright-chart-") as folder:
        chart = Path(folder, "imagewright")
        shutil.copytree(CHART, chart, symlinks=False)
        values = chart / "values.yaml"
        text = values.read_text(encoding="utf-8")
        for target in ("operator", "executor"):
            line = f"repository: imagewright/{target}\n"
            if text.count(line) != 1:
                raise ClusterError(f'cannot package the chart: values.yaml lacks "{line.strip()}"')
            text = text.replace(line, f"repository: {release.registry.repository}/{target}\n")
        values.write_text(text, encoding="utf-8")
        _run(str(programs.helm()), "package", str(chart), "--destination", folder)
        shutil.move(Path(folder, f"imagewright-{release.version}.tgz"), release.chart)


def write_manifest(release: Release, digests: Mapping[str, str]) -> None:
    """install.yaml: namespace, definition, operator, for ``kubectl apply -f``; images by digest."""
    images = {
        target: f"{release.registry.repository}/{target}@{digests[target]}" for target in ("operator", "executor")
    }
    with tempfile.TemporaryDirectory(prefix="imagewright-manifest-") as folder:
        overlay = write_overlay(Path(folder), images, {})
        kubectl = shutil.which("kubectl") or str(binaries() / "kubectl")
        text = _run(kubectl, "kustomize", str(overlay))
    (release.dist / "install.yaml").write_text(text, encoding="utf-8")


def write_checksums(dist: Path) -> None:
    """SHA256SUMS, as ``sha256sum --check`` reads it. Images are addressed by their digests already."""
    files = sorted(file for file in dist.iterdir() if file.is_file())
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (dist / "SHA256SUMS").write_text("".join(lines))


def push(release: Release) -> list[str]:
    """Images, then the chart; what was pushed, with digests.

    Raises:
        ClusterError: with what the registry said.
    """
    pushed = []
    for target in TARGETS:
        with step(f"Pushing {release.image(target)}", "seconds"):
            words = ["push", str(release.layout(target)), "--destination", release.image(target)]
            pushed += _run(sys.executable, "-m", "imagewright", *words, *release.registry.flags).split()
    with step(f"Pushing {release.registry.charts}/imagewright:{release.version}", "seconds"):
        login = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
        flags = ["--plain-http"] * release.registry.insecure
        flags += [f"--registry-config={login}"] * login.is_file()
        # helm takes name and tag of the repository from the chart in the archive.
        _run(str(programs.helm()), "push", str(release.chart), f"oci://{release.registry.charts}", *flags)
    return [*pushed, f"{release.registry.charts}/imagewright:{release.version}"]


def _run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, env={**os.environ, **environment}
    )
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout

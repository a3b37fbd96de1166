"""Debian's buildah, a second opinion on the files of an image: another project's code, older than BuildKit's.

Runs buildah as root with storage of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peers.buildkit import Build, Outcome


@dataclass(frozen=True, slots=True)
class Buildah:
    """``hosts`` are the registries whose names lead to ``registry``."""

    state: Path
    registry: str
    hosts: Iterable[str]

    def build(self, build: Build) -> Outcome:
        """Build without a cache. The layout has the files and an incomplete configuration."""
        config = self.state / "registries.conf"
        self.state.mkdir(exist_ok=True)
        config.write_text('unqualified-search-registries = ["docker.io"]\n' + "".join(map(self._mirror, self.hosts)))
        environment = {**os.environ, "CONTAINERS_REGISTRIES_CONF": str(config)}
        common = ["buildah", f"--root={self.state}/root", f"--runroot={self.state}/run", "--storage-driver=vfs"]
        command = [*common, "bud", "--isolation=chroot", "--layers=false", "--network=host", "--format=docker"]
        command += ["--tls-verify=false", "--pull-always", f"--file={build.context}/Dockerfile", "--tag=peer"]
        command += [f"--target={build.target}"] if build.target else []
        command += [f"--platform={build.platform}"] if build.platform else []
        command += [f"--build-arg={name}={value}" for name, value in build.build_args.items()]
        command += [f"--secret=id={name},src={path}" for name, path in build.secrets.items()]
        command += [f"--build-context={name}={path}" for name, path in build.build_contexts.items()]
        layout = self.state / "layout"
        shutil.rmtree(layout, ignore_errors=True)
        done = _run([*command, str(build.context)], environment)
        if done.returncode:
            return Outcome(layout, "error: " + done.stderr.strip().rpartition("\n")[2], done.stderr)
        pushed = _run([*common, "push", "--format=oci", "peer", f"oci:{layout}:1"], environment)
        assert pushed.returncode == 0, pushed.stderr
        _run([*common, "rmi", "peer"], environment)
        return Outcome(layout, "", done.stderr)

    def _mirror(self, host: str) -> str:
        return f"[[registry]]\nprefix = {json.dumps(host)}\nlocation = {json.dumps(self.registry)}\ninsecure = true\n"


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=dict(environment))

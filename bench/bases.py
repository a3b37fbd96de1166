"""The images that workloads start from, pushed to the bench's registry once for a cache.

Builds with our engine; writes a stamp below the cache.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.images import publish
from cluster.progress import step

from bench.builders.model import BuildFailed
from bench.workloads import BASES, LARGE, TOOLBOX, Scale, large_file_command

_INSTALL = (
    "RUN apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*\n"
)


def prepare(host: str, cache: Path, scale: Scale, needed: str) -> None:
    """Make the base images whose names are in ``needed``, if they aren't there.

    Raises:
        BuildFailed
    """
    stamp = cache / "prepared"
    before = stamp.read_text() if stamp.exists() else ""
    published = publish(host, before)
    stamp.write_text(published)
    install = _INSTALL.format(packages=scale.toolbox_packages) if scale.toolbox_packages else ""
    for base, dockerfile in (
        (TOOLBOX, f"FROM {BASES}/golang\n{install}"),
        (LARGE, f"FROM {BASES}/debian\nRUN {large_file_command(scale.large_mb)} > /old\n"),
    ):
        if base in needed:
            _make(host, cache, base.format(host=host, scale=scale.name), dockerfile.format(host=host), published)


def _make(host: str, cache: Path, image: str, dockerfile: str, published: str) -> None:
    # The registry's port is another one in each run.
    name = image.removeprefix(f"{host}/")
    key = hashlib.sha256(f"{published}\n{dockerfile.replace(host, '')}".encode()).hexdigest()
    stamp = cache / f"prepared-{name.replace('/', '-').replace(':', '-')}"
    if stamp.exists() and stamp.read_text() == key:
        return
    with step(f"Building the base image {name} with our engine", "minutes"), tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(dockerfile)
        command = [sys.executable, "-m", "imagewright", "build", f"--context={folder}", f"--destination={image}",
                   f"--insecure-registry={host}", f"--work-dir={folder}/work"]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise BuildFailed(done.stderr[-3000:])
    stamp.write_text(key)

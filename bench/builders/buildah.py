"""Debian's buildah, as root, with the overlay driver.

Runs umount for what it leaves mounted.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.builders.model import Commands, Site, Spent, Task, Worker


@dataclass(frozen=True, slots=True)
class BuildahWorker:
    site: Site
    programs: Sequence[Path]

    def commands(self, task: Task) -> Commands:
        """Its own store is where images are kept; it is what a warm store is for it, with its cache of layers."""
        folder, host = self.site.folder, self.site.host
        config = folder / "registries.conf"
        config.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        store = task.store or folder
        common = ["buildah", f"--root={store}/root", f"--runroot={folder}/run", "--storage-driver=overlay"]
        image = f"{host}/{task.image}:1"
        build = [*common, "bud", "--isolation=chroot", "--network=host", "--tls-verify=false", "--format=oci"]
        build += [f"--layers={'true' if task.cache or task.store else 'false'}", "-t", image]
        if task.cache:
            build += [f"--cache-from={host}/{task.cache}", f"--cache-to={host}/{task.cache}"]
        push = [*common, "push", "--tls-verify=false", image]
        environment = {**self.site.environment, "CONTAINERS_REGISTRIES_CONF": str(config)}
        return Commands([[*build, str(task.context)], push], environment)

    def profile(self, output: str) -> list[Spent]:
        return []


@dataclass(frozen=True, slots=True)
class Buildah:
    def left_out(self) -> str:
        return "" if shutil.which("buildah") else "buildah is not installed"

    @contextmanager
    def ready(self, site: Site) -> Iterator[Worker]:
        try:
            yield BuildahWorker(site, (Path(shutil.which("buildah") or "buildah"),))
        finally:
            for root in site.folder.glob("**/root/overlay"):
                subprocess.run(["umount", str(root)], check=False, capture_output=True)

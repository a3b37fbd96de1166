"""Runs ``imagewright build`` where its work folder has little room, and tells what it asked of its registry.

Starts processes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from servers.registry import RegistryServer

# What is called with a work folder before the build, in a mount namespace of its own. It is less than the layer of the
# smallest base, compressed: nothing of it can be written, not even in passing.
SMALL = "mount -t tmpfs -o size=512k,nr_inodes=60 tmpfs"


@dataclass(frozen=True, slots=True)
class Run:
    """A build that has ended. ``requests``: method and path of each, in their order."""

    code: int
    log: str
    requests: tuple[str, ...]

    @property
    def pulled(self) -> tuple[str, ...]:
        """The digests of the blobs that were downloaded, each as often as it was."""
        return tuple(found[1] for one in self.requests if (found := re.search(r"^GET \S+/blobs/(\S+)", one)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where builds are run: a registry with their bases, which gets their images, and a folder for the rest."""

    registry: RegistryServer
    folder: Path

    @property
    def context(self) -> Path:
        return self.folder / "context"

    @property
    def digest(self) -> Path:
        """The file with the digest of the last image."""
        return self.folder / "digest"

    def run(self, destination: str, *flags: str, prepare: str = "") -> Run:
        """Build the context; the command ``prepare`` is called with the empty work folder before it."""
        asked = len(self.registry.log.read_text().splitlines())
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        command = [
            sys.executable, "-m", "imagewright", "build", f"--context={self.context}", f"--destination={destination}",
            f"--registry-endpoint=docker.io={self.registry.host}", f"--work-dir={work}", "--reproducible",
            f"--digest-file={self.digest}", *flags,
        ]  # fmt: skip
        script = f'{prepare} "$0" && exec "$@"' if prepare else 'exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, str(work), *command], check=False, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, done.stderr
        lines = self.registry.log.read_text().splitlines()[asked:]
        requests = (re.search(r'"(GET|HEAD|PUT|POST|PATCH) (\S+)', line) for line in lines)
        return Run(done.returncode, done.stderr, tuple(f"{m[1]} {m[2]}" for m in requests if m))

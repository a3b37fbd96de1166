"""Build this directory's Go servers once: an S3 gateway, an emulator of Google's buckets, another registry.

Runs ``go``; writes below the cache of the test cluster, keyed by the module's content.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster.binaries import content_key, made_once, run
from cluster.places import ClusterError, cache_root
from cluster.progress import step
from cluster.toolchain import find_go

MODULE = Path(__file__).parent / "go"
AZURITE = "3.37.0"  # Azure's own emulator of its blob storage, out of npm


def programs() -> Path:
    """The folder that holds ``versitygw``, ``fake-gcs-server`` and ``otherregistry``, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    return made_once(cache_root() / "servers" / content_key(MODULE, ""), _build)


def azurite() -> Path:
    """The folder of npm's package, installed if it isn't there.

    Raises:
        ClusterError: no npm, or it failed.
    """
    return made_once(cache_root() / "servers" / f"azurite-{AZURITE}", _install)


def _build(partial: Path) -> None:
    go = find_go(MODULE)
    with step("Building an S3 server, Google's emulator and another registry, once", "four minutes on two cores"):
        flags = ["-trimpath", "-ldflags", "-s -w"]
        run(go, "build", "-v", *flags, "-o", f"{partial}/", "./otherregistry", "tool", module=MODULE, cgo=False)


def _install(partial: Path) -> None:
    with step("Installing Azure's emulator, once", "half a minute"):
        command = ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts", f"azurite@{AZURITE}"]
        try:
            done = subprocess.run(command, cwd=partial, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise ClusterError("npm is needed to install Azure's emulator: run scripts/setup as root") from error
        if done.returncode != 0:
            raise ClusterError(f"npm failed: {done.stderr[-2000:]}")

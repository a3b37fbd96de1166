"""Build BuildKit's daemon and client once, from the Go module beside this file.

Runs ``go``; writes below the cache of the test cluster, keyed by the module's content. Called by ``buildkit``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.binaries import content_key, locked, run
from cluster.places import cache_root
from cluster.progress import step
from cluster.toolchain import find_go

MODULE = Path(__file__).parent / "go"
TAGS = "osusergo netgo static_build seccomp"


def programs() -> Path:
    """The folder that holds ``buildkitd`` and ``buildctl``, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    target = cache_root() / "peers" / content_key(MODULE, TAGS)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / "build.lock"):
        if not target.is_dir():
            _build(target)
    return target


def _build(target: Path) -> None:
    go = find_go(MODULE)
    partial = target.with_name(f"{target.name}.partial.{os.getpid()}")
    partial.mkdir()
    try:
        with step("Building BuildKit, once", "four minutes on two cores"):
            flags = ["-trimpath", "-tags", TAGS, "-ldflags", "-s -w"]
            run(go, "build", "-v", *flags, "-o", f"{partial}/", "tool", module=MODULE, cgo=False)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

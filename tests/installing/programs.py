"""Build the real ``helm`` once, from the Go module beside this file.

Runs ``go``; writes below the cache of the test cluster, keyed by the module's content. Called by the tests of the chart.
"""

from __future__ import annotations

from pathlib import Path

from cluster.binaries import content_key, made_once, run
from cluster.places import cache_root
from cluster.progress import step
from cluster.toolchain import find_go

MODULE = Path(__file__).parent / "go"


def helm() -> Path:
    """The program, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    return made_once(cache_root() / "installing" / content_key(MODULE, ""), _build) / "helm"


def _build(partial: Path) -> None:
    go = find_go(MODULE)
    with step("Building Helm, once", "a minute or two on two cores, beside a test cluster that is built"):
        flags = ["-trimpath", "-ldflags", "-s -w"]
        run(go, "build", "-v", *flags, "-o", f"{partial}/", "tool", module=MODULE, cgo=False)

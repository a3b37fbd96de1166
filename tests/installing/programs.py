"""Build the real ``helm`` and ``promtool`` once, each from its Go module in this directory.

Runs ``go``; writes below the cache of the test cluster, keyed by the modules' content.
"""

from __future__ import annotations

from pathlib import Path

from cluster.binaries import content_key, made_once, run
from cluster.places import cache_root
from cluster.progress import step
from cluster.toolchain import find_go

HERE = Path(__file__).parent
_NO_DISCOVERY = "remove_all_sd"  # else Prometheus brings the clients of twenty clouds


def helm() -> Path:
    """The program, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    return _built(HERE / "helm-go", "Helm", "") / "helm"


def promtool() -> Path:
    """Prometheus's own judge of rules, built if it isn't there.

    Raises:
        ClusterError: no Go, or the build failed.
    """
    return _built(HERE / "promtool-go", "promtool", _NO_DISCOVERY) / "promtool"


def _built(module: Path, what: str, tags: str) -> Path:
    def build(partial: Path) -> None:
        go = find_go(module)
        with step(f"Building {what}, once", "a minute or two on two cores"):
            flags = ["-trimpath", "-tags", tags, "-ldflags", "-s -w"]
            run(go, "build", "-v", *flags, "-o", f"{partial}/", "tool", module=module, cgo=False)

    return made_once(cache_root() / "installing" / content_key(module, tags), build)
